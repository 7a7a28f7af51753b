"""From a task's settings to its environment. Simulators are imported here, when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poco_ros.core.errors import ConfigError
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import SIMULATED_DOMAINS, TaskConfig

if TYPE_CHECKING:
    from sim_bridge.simulated import SimulatedEnvironment


def make_environment(task: TaskConfig) -> SimulatedEnvironment:
    """Return the environment of ``task``.

    Raises:
        ConfigError: the task's simulator cannot be imported on this machine, or it is one on the
            robot.
    """
    if not task.simulated:
        raise ConfigError(f"task {task.name} is one on the robot: no simulator has it; use a"
                          f" preset with one of {', '.join(SIMULATED_DOMAINS)}")
    if task.domain in ROBOMIMIC_TASKS:
        from sim_bridge.robosuite_env import ENVIRONMENTS
        return ENVIRONMENTS[task.domain](task)
    from sim_bridge.ogbench_env import OGBenchEnvironment
    return OGBenchEnvironment(task)
