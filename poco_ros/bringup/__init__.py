"""Which processes make a graph: one list, read by ``launch/*.launch.py`` and by ``poco launch``.

A graph is a function from its arguments to its nodes. The arguments are declared once, as
settings, so ``ros2 launch poco_ros sim_scene.launch.py --show-args`` and ``poco launch sim_scene
--help`` tell the same. To add a graph: a module with a settings class and a function, a line in
:data:`GRAPHS`, and a file in ``launch/``.
"""

from poco_ros.bringup.graph import (
    NO_BAG,
    Graph,
    NodeSpec,
    Parameter,
    arguments_from_text,
    bag_command,
    composed_words,
    processes_of,
    split_assignments,
)
from poco_ros.bringup.robot import REAL_FINETUNE, TEACH
from poco_ros.bringup.sim_scene import SIM_SCENE

GRAPHS: dict[str, Graph] = {
    "sim_scene": SIM_SCENE, "real_finetune": REAL_FINETUNE, "teach": TEACH}

__all__ = ["GRAPHS", "NO_BAG", "Graph", "NodeSpec", "Parameter", "arguments_from_text",
           "bag_command", "composed_words", "processes_of", "split_assignments"]
