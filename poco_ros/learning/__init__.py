"""Floor 1: the learning core. It knows no ROS; only ``policy`` is free of torch."""
