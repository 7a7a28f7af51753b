"""The robot learns while it works; with hardware:=emulated in the emulated cell.

ros2 launch poco_ros real_finetune.launch.py
ros2 launch poco_ros real_finetune.launch.py hardware:=emulated
ros2 launch poco_ros real_finetune.launch.py --show-args
"""

from launch import LaunchDescription

from poco_ros.ros_launch import describe


def generate_launch_description() -> LaunchDescription:
    """Return the graph ``real_finetune`` of ``poco_ros.bringup``."""
    return describe("real_finetune")
