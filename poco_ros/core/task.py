"""Which task is tried: a simulated one, chosen by name and number, or one on the robot."""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.robomimic import ROBOMIMIC_TASKS


@dataclass(frozen=True)
class DomainSize:
    """Sizes of a simulated domain; the environments are tested to agree."""

    observation: int
    action_dim: int
    max_episode_steps: int


SIMULATED_DOMAINS = {
    "cube-single": DomainSize(28, 5, 200),
    "cube-double": DomainSize(37, 5, 500),
    "cube-triple": DomainSize(46, 5, 1000),
    "scene": DomainSize(40, 5, 750),
    "puzzle-3x3": DomainSize(55, 5, 500),
    "lift": DomainSize(19, 7, 300),
    "can": DomainSize(23, 7, 300),
    "square": DomainSize(23, 7, 400),
}


ROBOT = "robot"
"""The domain of tasks that a person sets on the robot."""
JOINTS_PART = "joint_states"
"""Part of a robot's observation that comes on the topic of this name; the others are features."""
ROBOT_JOINTS = ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper")
"""That part and an action in order: joints [rad], then the gripper's opening [m]."""


@dataclass(frozen=True)
class TaskConfig:
    """A task: a simulated one, or with ``domain: robot`` one that a person sets and labels."""

    domain: str = setting("cube-single", "simulated domain, or robot: a person sets the task",
                          choices=(*SIMULATED_DOMAINS, ROBOT))
    number: int = setting(1, "OGBench's single-task variant; RoboMimic's lift, can and square"
                          " and robot have only 1", minimum=1, maximum=5)
    reward: str = setting("sparse", "sparse: 1 at success, else 0; staged: share of the task's "
                          "subgoals reached", choices=("sparse", "staged"))
    reward_offset: float = setting(
        0.0, "added to every reward; -1 gives OGBench's -1/0 convention")
    success_timing: str = setting(
        "post", "post: the reward of a step describes the state it led to; pre: the state it "
        "started from, as in OGBench's relabelled data sets", choices=("post", "pre"))
    max_episode_steps: int = setting(0, "time limit; 0 = the benchmark's own", minimum=0)
    title: str = setting("", "name of a task on the robot, such as pick-cube")
    features: dict[str, int] = setting(
        dict, "parts of a robot's observation beside its joints: camera -> length of its features")

    def __post_init__(self) -> None:
        if self.simulated:
            if self.title or self.features:
                raise ConfigError(f"title and features are for domain {ROBOT}; {self.domain} has"
                                  " its own")
            if self.domain in ROBOMIMIC_TASKS and self.number != 1:
                raise ConfigError(f"number is {self.number}: {self.domain} has only task 1; set"
                                  " it to 1")
            return
        if not self.title or not self.features or not self.max_episode_steps:
            raise ConfigError(f"domain {ROBOT} needs title (such as pick-cube), features (such as"
                              " {front: 512}) and max_episode_steps (such as 210)")
        if JOINTS_PART in self.features or any(size < 1 for size in self.features.values()):
            raise ConfigError(f"features {self.features}: a camera's features have at least one"
                              f" value, and {JOINTS_PART} is the joints' own name")
        if self.number != 1 or self.reward != "sparse" or self.success_timing != "post":
            raise ConfigError(f"domain {ROBOT} has number 1, reward sparse, success_timing post:"
                              " the reward is what the operator says")

    @property
    def simulated(self) -> bool:
        """Whether the task runs in a simulator; else on the robot, where a person labels."""
        return self.domain != ROBOT

    @property
    def name(self) -> str:
        """The name that is written into policies and episodes, such as ``scene-task2``."""
        return f"{self.domain}-task{self.number}" if self.simulated else self.title

    @property
    def observation(self) -> ObservationLayout:
        """The observation: in simulation the state; on the robot features, then the joints."""
        if self.simulated:
            return ObservationLayout((("state", SIMULATED_DOMAINS[self.domain].observation),))
        return ObservationLayout((*self.features.items(), (JOINTS_PART, len(ROBOT_JOINTS))))

    @property
    def action_dim(self) -> int:
        """Values of an action, A."""
        return SIMULATED_DOMAINS[self.domain].action_dim if self.simulated else len(ROBOT_JOINTS)

    @property
    def step_limit(self) -> int:
        """Steps after which an episode is truncated."""
        if self.max_episode_steps:
            return self.max_episode_steps
        return SIMULATED_DOMAINS[self.domain].max_episode_steps
