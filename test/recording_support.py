"""Episodes as they are recorded on the robot, small, with all that can be odd about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore

PRESET = """
task:
  domain: robot
  title: pick-cube
  features: {front: 3, wrist: 2}
  max_episode_steps: 40
"""
PERIOD = 66_666_667
BEGAN = 1_700_000_000_000_000_000
HELD = slice(5, 9)


def recorded(number: int, steps: int = 20, success: bool = True, **words: object) -> Episode:
    """Return an online episode of a policy of version 7; each value differs from every other."""
    generator = np.random.default_rng(number)
    outcome = Outcome.SUCCESS if success else Outcome.FAILURE
    rewards = np.zeros(steps, np.float32)
    rewards[-1] = success
    values: dict[str, object] = {
        "id": f"ep-0-{number:06d}",
        "observations": generator.normal(size=(steps + 1, 12)).astype(np.float32),
        "actions": generator.uniform(-0.9, 0.9, (steps, 7)).astype(np.float32),
        "rewards": rewards, "terminated": success, "truncated": not success, "outcome": outcome,
        "policy_versions": np.full(steps, 7), "task": "pick-cube",
        "stamps": np.arange(steps + 1, dtype=np.int64) * PERIOD,
        "notes": (f"{outcome.name.lower()} by keypad",)}
    return Episode(**{**values, **words})  # type: ignore[arg-type]


def recordings() -> list[Episode]:
    """Return a set with everything: holes, held steps, a discarded one, a recovery, a fault."""
    held = recorded(1, success=False)
    held.policy_versions[HELD] = 0
    late = recorded(2)
    late.stamps[12:] += 2 * PERIOD
    discarded = replace(recorded(3), outcome=Outcome.DISCARD, trainable=False, terminated=False,
                        notes=("discard by keypad",))
    nobody = np.zeros(20, np.int64)
    faulty = [replace(recorded(number), outcome=Outcome.NONE, trainable=False, terminated=False,
                      notes=(f"the features of the cameras are 0.{number} s old",))
              for number in (4, 5)]
    clipped = recorded(6)
    clipped.actions[:, 6] = 1.0
    return [recorded(0), held, late, discarded, *faulty, clipped,
            recorded(7, source="recovery", policy_versions=nobody),
            recorded(8, source="demonstration", policy_versions=nobody)]


def store(folder: Path, episodes: list[Episode]) -> EpisodeStore:
    """Put episodes into a folder."""
    kept = EpisodeStore(folder)
    for episode in episodes:
        kept.add(episode)
    return kept


def contents(folder: Path) -> dict[str, bytes]:
    """Return name -> bytes of the files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def add_pictures(folder: Path, episode: Episode, cameras: tuple[str, ...] = ("front", "wrist"),
                 every: int = 3) -> int:
    """Write a picture at every so many observations, as they are recorded; return how many."""
    count = 0
    for camera in cameras:
        place = folder / camera / episode.id
        place.mkdir(parents=True)
        for index in range(0, len(episode) + 1, every):
            shade = (10 * index, 255 - 10 * index, 80 if camera == "front" else 200)
            Image.new("RGB", (64, 48), shade).save(
                place / f"{BEGAN + int(episode.stamps[index])}.jpg")
            count += 1
    return count
