"""A simulated robot that learns while it works: sim_bridge, policy_server, rollout, learner.

ros2 launch poco_ros sim_scene.launch.py task:=cube-single
ros2 launch poco_ros sim_scene.launch.py --show-args
"""

from launch import LaunchDescription

from poco_ros.ros_launch import describe


def generate_launch_description() -> LaunchDescription:
    """Return the graph ``sim_scene`` of ``poco_ros.bringup``."""
    return describe("sim_scene")
