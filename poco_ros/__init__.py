"""POCO over ROS 2: a robot improves its own flow-matching policy while it works."""

__version__ = "0.1.0"
