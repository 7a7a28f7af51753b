"""A person teaches: demonstrations are recorded from the robot's own topics, labelled and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cell_support import wait_until
from graph_support import ros
from robot_graph_support import FEATURES, RobotGraph, write_robot_preset

from poco_ros.bringup.robot import TeachArguments, resolve_teach
from poco_ros.core.config import from_dict
from poco_ros.core.episode import Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import ConfigError
from poco_ros.core.task import TaskConfig
from poco_ros.data.demonstrations import load_demonstrations

pytestmark = pytest.mark.graph


def test_a_leader_arm_teaches_and_the_demonstrations_can_be_learned_from(tmp_path: Path) -> None:
    preset = write_robot_preset(tmp_path, {"task": {"max_episode_steps": 150}})
    folder = tmp_path / "shown"
    with ros():
        graph = RobotGraph(tmp_path, preset, "teach", operator=True, folder=str(folder),
                           episodes=2, source="recovery", pictures=str(tmp_path / "pictures"))
        with graph.up():
            wait_until(lambda: graph.processes["recorder"].poll() is not None,
                       "the recorder has two demonstrations", 120.0)
            assert graph.processes["recorder"].returncode == 0, graph.logs()
    episodes = list(EpisodeStore(folder))
    assert sum(episode.trainable for episode in episodes) == 2, graph.logs()
    assert len({episode.encoder for episode in episodes}) == 1 and len(episodes[0].encoder) == 12
    task = from_dict(TaskConfig, {"domain": "robot", "title": "pick-cube",
                                  "features": {"front": FEATURES}, "max_episode_steps": 150})
    for episode in load_demonstrations(folder, task):
        assert episode.source == "recovery" and episode.began > 0
        assert episode.outcome in (Outcome.SUCCESS, Outcome.FAILURE)
        assert episode.terminated != episode.truncated and (episode.policy_versions == 0).all()
        assert np.median(np.diff(episode.stamps)) / 1e9 == pytest.approx(1 / 15, rel=0.05)
        joints = episode.observations[:, FEATURES:FEATURES + 6]
        moved = np.abs(np.diff(joints, axis=0)).sum(0)
        asked = np.abs(episode.actions[:, :6]).sum(0) * 0.06
        assert moved.max() > 0.5, "the arm was led somewhere"
        np.testing.assert_allclose(asked, moved, rtol=0.35, atol=0.1)
        assert any((tmp_path / "pictures/front" / episode.id).glob("*.jpg"))


def test_an_emulated_arm_is_not_led_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leader arm"):
        resolve_teach(TeachArguments(preset=str(write_robot_preset(tmp_path)), by="hand",
                                     hardware="emulated"))
