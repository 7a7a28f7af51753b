"""Which task is tried, chosen by name and number; environments and demonstrations read it."""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.config import setting
from poco_ros.core.observation import ObservationLayout


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
}


@dataclass(frozen=True)
class TaskConfig:
    """A simulated task."""

    domain: str = setting("cube-single", "simulated domain", choices=tuple(SIMULATED_DOMAINS))
    number: int = setting(1, "OGBench's single-task variant; lift has only 1", minimum=1,
                          maximum=5)
    reward: str = setting("sparse", "sparse: 1 at success, else 0; staged: share of the task's "
                          "subgoals reached", choices=("sparse", "staged"))
    reward_offset: float = setting(
        0.0, "added to every reward; -1 gives OGBench's -1/0 convention")
    success_timing: str = setting(
        "post", "post: the reward of a step describes the state it led to; pre: the state it "
        "started from, as in OGBench's relabelled data sets", choices=("post", "pre"))
    max_episode_steps: int = setting(0, "time limit; 0 = the benchmark's own", minimum=0)

    @property
    def name(self) -> str:
        """The name that is written into policies and episodes, such as ``scene-task2``."""
        return f"{self.domain}-task{self.number}"

    @property
    def observation(self) -> ObservationLayout:
        """The observation of the task: one part, the simulator's state."""
        return ObservationLayout((("state", SIMULATED_DOMAINS[self.domain].observation),))

    @property
    def action_dim(self) -> int:
        """Values of an action, A."""
        return SIMULATED_DOMAINS[self.domain].action_dim

    @property
    def step_limit(self) -> int:
        """Steps after which an episode is truncated."""
        return self.max_episode_steps or SIMULATED_DOMAINS[self.domain].max_episode_steps
