"""The episode: the unit of data, from the robot's rollout to the learner's disk."""

from __future__ import annotations

import enum
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from poco_ros.core.errors import DataError

FORMAT = "poco-episode-1"
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")


class Outcome(enum.IntEnum):
    """How an episode ended; the values are those of ``poco_msgs/Reward``."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2
    DISCARD = 3


@dataclass(frozen=True, eq=False)
class Episode:
    """One rollout of L executed actions.

    ``observations`` (L+1, O) float32, the last one included; ``actions`` (L, A) float32, as
    *executed*, in [-1, 1]; ``rewards`` (L,) float32, reward t belongs to action t. ``terminated``
    and ``truncated`` say how the last step ended; both False means it was cut off (a fault), and
    then, as for a truncation, the last state has a value.
    """

    id: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    outcome: Outcome = Outcome.NONE
    policy_versions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(L,) int64: version of the policy that asked for each action; 0 = none (held, or human)."""
    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(L+1,) int64 [ns]: when each observation was taken."""
    trainable: bool = True
    """False: kept on disk, not trained on (its inputs had holes, or a person discarded it)."""
    task: str = ""
    source: str = "online"
    """``online``, ``demonstration`` or ``recovery``."""
    notes: tuple[str, ...] = ()
    """Why the episode was marked, cut or not trainable, in words."""
    began: int = 0
    """Wall time [ns] at stamp 0, for an episode of the robot; 0 where time is simulated."""
    encoder: str = ""
    """Which encoder made the features of the pictures (see :func:`encoder_of`); empty: unknown, or
    none did."""

    def __post_init__(self) -> None:
        if not _ID.match(self.id):
            raise DataError(f"episode id {self.id!r}: letters, digits, '_', '.', '-', 1 to 128")
        if self.observations.ndim != 2 or self.actions.ndim != 2 or self.rewards.ndim != 1:
            raise DataError(f"episode {self.id}: observations, actions and rewards must be (L+1, "
                            f"O), (L, A) and (L,), got {self.observations.shape},"
                            f" {self.actions.shape}, {self.rewards.shape}")
        steps = len(self.actions)
        if steps < 1:
            raise DataError(f"episode {self.id}: has no action")
        for name in ("policy_versions", "stamps"):  # optional arrays: zeros when not recorded
            if getattr(self, name).size == 0:
                size = steps + (name == "stamps")
                object.__setattr__(self, name, np.zeros(size, np.int64))
        expected = {"observations": steps + 1, "rewards": steps, "policy_versions": steps,
                    "stamps": steps + 1}
        for name, length in expected.items():
            if len(getattr(self, name)) != length:
                raise DataError(f"episode {self.id}: {name} has {len(getattr(self, name))} rows,"
                                f" expected {length} beside {steps} actions")
        for name in ("observations", "actions", "rewards"):
            array = np.ascontiguousarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, array)
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise DataError(f"episode {self.id}: {name}[{row}] is not finite")
        if np.abs(self.actions).max() > 1.0 + 1e-6:
            row = int(np.argmax(np.abs(self.actions).max(axis=1)))
            raise DataError(f"episode {self.id}: actions[{row}] = {self.actions[row]} leaves"
                            " [-1, 1]; normalise actions before storing them")
        if self.terminated and self.truncated:
            raise DataError(f"episode {self.id}: both terminated and truncated")

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def success(self) -> bool:
        """Whether the episode ended in success."""
        return self.outcome == Outcome.SUCCESS

    def to_bytes(self) -> bytes:
        """Return the episode as safetensors bytes; its words are JSON in the header."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in
                   ("observations", "actions", "rewards", "policy_versions", "stamps")}
        words = {"format": FORMAT, "id": self.id, "terminated": self.terminated,
                 "truncated": self.truncated, "outcome": self.outcome.name,
                 "trainable": self.trainable, "task": self.task, "source": self.source,
                 "notes": list(self.notes)}
        if self.began:
            words["began"] = self.began
        if self.encoder:
            words["encoder"] = self.encoder
        return save_tensors(tensors, metadata={"episode": json.dumps(words)})

    @classmethod
    def from_bytes(cls, content: bytes, source: str = "episode") -> Episode:
        """Read :meth:`to_bytes` back.

        Raises:
            DataError: truncated, foreign, or breaking the contract; ``source`` is named.
        """
        try:
            tensors: dict[str, Any] = load_tensors(content)
            words = json.loads(safetensors_metadata(content)["episode"])
        except (SafetensorError, ValueError, KeyError, OverflowError) as error:
            raise DataError(f"{source}: not an episode file ({error})") from error
        if not isinstance(words, dict) or words.pop("format", None) != FORMAT:
            raise DataError(f"{source}: not an episode of format {FORMAT}")
        if str(words.get("outcome")) not in Outcome.__members__:
            raise DataError(f"{source}: outcome {words.get('outcome')!r} is none of"
                            f" {', '.join(Outcome.__members__)}")
        try:
            words["outcome"] = Outcome[words["outcome"]]
            words["notes"] = tuple(words["notes"])
            return cls(**tensors, **words)
        except (KeyError, TypeError) as error:
            raise DataError(f"{source}: not the words of an episode ({error!r})") from error


def encoder_of(episodes: Iterable[Episode], source: str) -> str:
    """Return the encoder of all ``episodes`` that know theirs and are learned from; else empty.

    Raises:
        DataError: there are several: to networks, features of one mean nothing beside another's.
    """
    counts = Counter(e.encoder for e in episodes if e.encoder and e.trainable)
    if len(counts) > 1:
        told = ", ".join(f"{count} of {encoder}" for encoder, count in counts.most_common())
        raise DataError(f"{source}: episodes whose features are of different encoders ({told});"
                        " teach those of each encoder (weights, image size, head, crop of every"
                        " camera) into a folder of their own")
    return next(iter(counts), "")


def safetensors_metadata(content: bytes) -> dict[str, Any]:
    """Return the ``__metadata__`` of safetensors bytes, {} when there is none."""
    size = int.from_bytes(content[:8], "little")
    if size > len(content) - 8:
        raise ValueError("header is longer than the file")
    return json.loads(content[8:8 + size]).get("__metadata__", {})
