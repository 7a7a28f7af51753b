"""Floor 0: the words that every other package speaks. numpy and PyYAML only, no ROS, no torch."""
