"""Demonstrations: made with the simulators' oracles, loaded, checked and described.

Stands on :mod:`poco_ros.core` and on the environments of :mod:`sim_bridge`; knows nothing of
learning and of ROS. Simulators are imported when something is made or relabelled, not before.
"""

from poco_ros.data.config import DemonstrationConfig, PlayConfig
from poco_ros.data.demonstrations import load_demonstrations

__all__ = ["DemonstrationConfig", "PlayConfig", "load_demonstrations"]
