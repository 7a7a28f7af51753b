"""What a person's word does to an episode: success, failure or discard."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError


@dataclass(frozen=True)
class LabelRewards:
    """Rewards that a label gives to the last step; they follow the reward convention of the task.

    The value that comes with a label is not taken: a keypad knows success and failure, not
    whether success is worth 1 or, in a -1/0 convention, 0.
    """

    success: float = 1.0
    otherwise: float = 0.0


def labelled(episode: Episode, outcome: Outcome, source: str,
             rewards: LabelRewards = LabelRewards()) -> Episode:
    """Return ``episode`` as a person sees it.

    Success: the task ended there, and the last step has the reward of success. Failure: it ended
    without; an episode whose time ran out stays truncated. Discard: it is kept and not trained on.
    To correct a label, label the episode as it was before.

    Raises:
        DataError: ``outcome`` is no label.
    """
    if outcome not in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.DISCARD):
        raise DataError(f"episode {episode.id}: {outcome!r} is no label; expected success,"
                        " failure or discard")
    notes = (*episode.notes, f"{outcome.name.lower()} by {source}")
    if outcome == Outcome.DISCARD:
        return replace(episode, outcome=outcome, trainable=False, notes=notes)
    values = episode.rewards.copy()
    success = outcome == Outcome.SUCCESS
    if success or episode.success:
        values[-1] = rewards.success if success else rewards.otherwise
    truncated = episode.truncated and not success
    return replace(episode, outcome=outcome, rewards=values, terminated=not truncated,
                   truncated=truncated, notes=notes)
