"""A person teaches the robot, with a leader arm or by hand; demonstrations are recorded.

ros2 launch poco_ros teach.launch.py episodes:=50
ros2 launch poco_ros teach.launch.py hardware:=emulated episodes:=50
ros2 launch poco_ros teach.launch.py --show-args
"""

from launch import LaunchDescription

from poco_ros.ros_launch import describe


def generate_launch_description() -> LaunchDescription:
    """Return the graph ``teach`` of ``poco_ros.bringup``."""
    return describe("teach")
