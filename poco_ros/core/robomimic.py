"""RoboMimic's tasks in robosuite: names and sizes that environments and files agree on."""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.observation import ObservationLayout

ROBOT_PARTS = (("robot0_eef_pos", 3), ("robot0_eef_quat", 4), ("robot0_gripper_qpos", 2))
"""Position and quaternion x, y, z, w of the hand, positions of the two fingers."""
ROBOSUITE = "1.5"
"""Version that the tasks run in, and that files must be from. Before it the same 14 numbers of
``object`` came in another order, and controllers were described otherwise."""
CONTROL_HZ = 20
ACTION_DIM = 7
"""Steps of x, y, z and of the orientation (axis-angle), and the gripper: -1 opens, 1 closes."""
POSITION_STEP, ROTATION_STEP = 0.05, 0.5
"""What an action of 1 asks for in one step [m], [rad]."""


@dataclass(frozen=True)
class RobomimicTask:
    """One of RoboMimic's tasks of one arm."""

    env_name: str
    """robosuite's name of it, which robomimic's files carry."""
    object_size: int
    """Length of ``object``, what robosuite says of the object."""

    @property
    def layout(self) -> ObservationLayout:
        """The low-dimensional observation of robomimic's study, its keys in alphabetical order:
        robomimic's own networks take them so."""
        return ObservationLayout((("object", self.object_size), *ROBOT_PARTS))


ROBOMIMIC_TASKS = {
    "lift": RobomimicTask("Lift", 10),
    "can": RobomimicTask("PickPlaceCan", 14),
    "square": RobomimicTask("NutAssemblySquare", 14),
}
"""Domain -> task."""
