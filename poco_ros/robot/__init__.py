"""Floor 1, no ROS: the arm and its contract, the safety filter, the 15 Hz heart of the controller,
cameras, the picture encoder and the operator's keypad."""
