"""Which task is tried, chosen by name and number; environments and demonstrations read it."""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.config import setting

SIMULATED_DOMAINS = ("cube-single", "cube-double", "cube-triple", "scene", "puzzle-3x3", "lift")


@dataclass(frozen=True)
class TaskConfig:
    """A simulated task."""

    domain: str = setting("cube-single", "simulated domain", choices=SIMULATED_DOMAINS)
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
