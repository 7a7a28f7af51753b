"""Which episode is next, with which weights it acts, and what it waits for."""

from __future__ import annotations

from poco_ros.core.episode import Episode
from poco_ros.ros.convert import LearnerStatus
from poco_ros.ros.episode_maker import Missing

FREE_RUNNING = -1
"""``sync_lag`` of a rollout that never waits for the learner."""
NEWEST = 0
"""As a version: the newest that the policy server has."""

LEARNER = "learner_status (learner)"
WEIGHTS = "policy_weights (learner)"


class Schedule:
    """Counts episodes and online steps; the learner's count is where a fresh process begins."""

    def __init__(self, lag: int, online_steps: int, max_episodes: int) -> None:
        """Make episodes until there are ``online_steps`` steps or ``max_episodes``, 0 = no limit.

        Episode e acts with the weights that have learned from all before e - ``lag``.
        """
        self.lag, self.online_steps, self.max_episodes = lag, online_steps, max_episodes
        self.number: int | None = None
        """Of the next episode; None until it is known how many the learner has."""
        self._learner: LearnerStatus | None = None
        self._stored = 0
        self._steps = 0

    def heard(self, learner: LearnerStatus, open_episode: bool) -> None:
        """Take the learner's status."""
        self._learner = learner
        if learner.episodes_stored == self.number and not open_episode:
            self._steps = learner.environment_steps  # labels may have changed what counts

    @property
    def encoder(self) -> str:
        """Which encoder made the features that the learner learns from; empty: unknown."""
        return "" if self._learner is None else self._learner.encoder

    def ended(self, number: int, episode: Episode) -> None:
        """Count an episode that has ended."""
        self.number = number + 1
        self._steps += len(episode) if episode.trainable else 0

    def stored(self, count: int) -> None:
        """Take the learner's word that it has so many episodes."""
        self._stored = max(self._stored, count)

    def missing(self, all_handed_over: bool) -> Missing | None:
        """Return why the next episode cannot begin; None when it can."""
        learner = self._learner
        if learner is None:
            return Missing(f"waiting for {LEARNER}", LEARNER)
        if self.number is None:
            if not all_handed_over:
                return Missing("handing over what an earlier process left in the spool")
            if learner.episodes_stored < self._stored:
                return Missing(f"waiting for a newer {LEARNER}", LEARNER)
            self.number, self._steps = learner.episodes_stored, learner.environment_steps
        if learner.stage == "finished":
            return Missing("the run is finished")
        if self._steps >= self.online_steps:  # one more would make the end a race
            return Missing(f"all {self.online_steps} online steps are made")
        if self.max_episodes and self.number >= self.max_episodes:
            return Missing(f"all {self.max_episodes} episodes are made")
        if not learner.round_versions or learner.episodes_trained < self._wanted:
            return Missing(f"waiting for weights that have learned from {self._wanted} episodes;"
                           f" the learner is in stage {learner.stage}", WEIGHTS)
        return None

    @property
    def _wanted(self) -> int:
        """How many episodes the weights of the next one have learned from."""
        assert self.number is not None
        return 0 if self.lag == FREE_RUNNING else max(0, self.number - self.lag)

    def version(self) -> tuple[int, bool]:
        """Return the version with which the next episode acts, and whether it is the right one.

        It is not when the learner has only newer ones left.
        """
        assert self._learner is not None
        if self.lag == FREE_RUNNING:
            return NEWEST, True
        version = self._learner.version_of_round(self._wanted)
        return (self._learner.policy_version, False) if version is None else (version, True)
