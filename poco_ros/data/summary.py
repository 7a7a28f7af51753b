"""What a set of demonstrations is like, in numbers, and what is suspicious about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poco_ros.core.environment import EnvironmentSpec
from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.data.recording import SATURATED, held_steps, steps_with_holes

MUCH_HELD = 0.1
"""Online episodes in which more than this share of the steps was held are odd."""


@dataclass(frozen=True, eq=False)
class Summary:
    """Figures of a set of episodes."""

    tasks: tuple[str, ...]
    """Names of the tasks in it."""
    episodes: int
    steps: int
    successes: int
    """Episodes that ended in success."""
    not_trainable: int
    """Episodes that are kept and not trained on."""
    shortest: int
    longest: int
    mean_length: float
    """Lengths [steps]."""
    reward_sum: float
    """Mean over episodes of the sum of their rewards."""
    observation_dim: int
    action_dim: int
    action_mean: np.ndarray
    """(A,)"""
    action_std: np.ndarray
    """(A,)"""
    action_saturated: np.ndarray
    """(A,) share of the steps at which the component is at -1 or 1."""
    observation_constant: tuple[int, ...]
    """Components of the observation that never change: they teach nothing."""

    @property
    def success_rate(self) -> float:
        """Share of the episodes that ended in success."""
        return self.successes / self.episodes

    def lines(self) -> list[str]:
        """Return the figures in words, a line each."""
        def row(values: np.ndarray) -> str:
            return " ".join(f"{value:6.2f}" for value in values)

        constant = ", ".join(map(str, self.observation_constant)) or "none"
        return [
            f"task                {', '.join(self.tasks)}",
            f"episodes            {self.episodes}, of which {self.successes} succeed"
            f" ({100 * self.success_rate:.0f}%), {self.not_trainable} not trained on",
            f"steps               {self.steps}; an episode {self.shortest} to {self.longest},"
            f" {self.mean_length:.1f} on average",
            f"reward              {self.reward_sum:.3f} an episode",
            f"observation         {self.observation_dim} values; constant: {constant}",
            f"action              {self.action_dim} values",
            f"  mean              {row(self.action_mean)}",
            f"  deviation         {row(self.action_std)}",
            f"  share at a bound  {row(self.action_saturated)}",
        ]


def describe(episodes: Sequence[Episode]) -> Summary:
    """Return the figures of ``episodes``.

    Raises:
        DataError: there are none, or they have different sizes.
    """
    check_alike(episodes)
    lengths = np.array([len(episode) for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    low = np.min([episode.observations.min(axis=0) for episode in episodes], axis=0)
    high = np.max([episode.observations.max(axis=0) for episode in episodes], axis=0)
    return Summary(
        tasks=tuple(sorted({episode.task for episode in episodes})),
        episodes=len(episodes),
        steps=int(lengths.sum()),
        successes=sum(episode.success for episode in episodes),
        not_trainable=sum(not episode.trainable for episode in episodes),
        shortest=int(lengths.min()),
        longest=int(lengths.max()),
        mean_length=float(lengths.mean()),
        reward_sum=float(np.mean([episode.rewards.sum() for episode in episodes])),
        observation_dim=episodes[0].observations.shape[1],
        action_dim=actions.shape[1],
        action_mean=actions.mean(axis=0),
        action_std=actions.std(axis=0),
        action_saturated=(np.abs(actions) >= SATURATED).mean(axis=0),
        observation_constant=tuple(np.flatnonzero(low == high).tolist()),
    )


def check_alike(episodes: Sequence[Episode], spec: EnvironmentSpec | None = None) -> None:
    """Raise DataError unless there are episodes, each id once, all of the same sizes.

    With ``spec``, task and sizes must be those of that environment.
    """
    if not episodes:
        raise DataError("there are no demonstrations")
    first = episodes[0]
    sizes = (first.observations.shape[1], first.actions.shape[1])
    if spec is not None:
        sizes = (spec.observation.size, spec.action_dim)
    seen: set[str] = set()
    for episode in episodes:
        found = (episode.observations.shape[1], episode.actions.shape[1])
        if found != sizes:
            raise DataError(f"episode {episode.id}: observations and actions have {found} values,"
                            f" expected {sizes}")
        if spec is not None and episode.task != spec.task:
            raise DataError(f"episode {episode.id} is of task {episode.task!r}, not"
                            f" {spec.task!r}")
        if episode.id in seen:
            raise DataError(f"episode id {episode.id!r} occurs twice")
        seen.add(episode.id)


def find_oddities(episodes: Sequence[Episode]) -> list[str]:
    """Return, in words, what is allowed and yet suspicious; empty when nothing is."""
    check_alike(episodes)
    found = []
    figures = describe(episodes)
    if not figures.successes:
        found.append("no episode ends in success: there is no reward to learn from")
    if len(figures.tasks) > 1:
        found.append(f"episodes of several tasks: {', '.join(figures.tasks)}")
    still = np.flatnonzero(figures.action_std == 0.0)
    if still.size:
        found.append(f"action components {still.tolist()} never change")
    same = _repeated(episodes)
    if same:
        found.append(f"{same} episode(s) repeat the actions of another one")
    backwards = [episode.id for episode in episodes if (np.diff(episode.stamps) < 0).any()]
    if backwards:
        found.append(f"stamps run backwards in {len(backwards)} episode(s), first {backwards[0]}")
    holes = [episode.id for episode in episodes if steps_with_holes(episode).size]
    if holes:
        found.append(f"a step took about twice the usual time, or more, in {len(holes)}"
                     f" episode(s), first {holes[0]}")
    held = [episode.id for episode in episodes
            if len(held_steps(episode)) > MUCH_HELD * len(episode)]
    if held:
        found.append(f"no policy asked for more than {100 * MUCH_HELD:.0f}% of the actions of"
                     f" {len(held)} online episode(s), first {held[0]}")
    silent = [episode.id for episode in episodes if not episode.trainable and not episode.notes]
    if silent:
        found.append(f"{len(silent)} episode(s) are not trained on and do not say why, first"
                     f" {silent[0]}")
    return found


def _repeated(episodes: Sequence[Episode]) -> int:
    different = {(len(episode), episode.actions.tobytes()) for episode in episodes
                 if len(episode) > 1}
    return sum(len(episode) > 1 for episode in episodes) - len(different)
