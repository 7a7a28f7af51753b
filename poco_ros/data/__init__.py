"""Demonstrations: made with the simulators' oracles, loaded, checked and described.

Stands on :mod:`poco_ros.core` and on the environments of :mod:`sim_bridge`; knows nothing of
learning and of ROS. Simulators are imported when something is made or relabelled, not before.
``config`` alone needs nothing installed: ``ros2 launch`` reads presets through it.
"""

from poco_ros.data.config import DemonstrationConfig, PlayConfig

__all__ = ["DemonstrationConfig", "PlayConfig"]
