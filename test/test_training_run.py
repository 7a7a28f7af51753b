"""A run on disk that stops anywhere keeps what an uninterrupted one keeps."""

from __future__ import annotations

from pathlib import Path

from learning_support import random_episode

from poco_ros.core.episode import Episode
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import DemonstrationConfig
from poco_ros.learning.config import PocoConfig, TrainConfig
from poco_ros.preset import Preset
from poco_ros.run_folder import FINETUNED, RunFolder
from poco_ros.training import TrainingRun, open_run, signature_of

EPISODES = [(number, 8 + number % 3) for number in range(7)]


def preset_in(folder: Path) -> Preset:
    """Return a preset whose demonstrations are in ``folder``."""
    preset = Preset(
        task=TaskConfig(domain="robot", title="reach", features={"front": 2},
                        max_episode_steps=10),
        demonstrations=DemonstrationConfig(kind="episodes", path=folder, episodes=0),
        agent=PocoConfig(hidden_dim=16, num_layers=2, num_candidates=4, batch_size=8,
                         flow_steps=3),
        train=TrainConfig(offline_steps=5, offline_objective="bc", critic_warmup=12,
                          warmup_utd=1.0, utd=0.5, online_steps=60, eval_every=20,
                          checkpoint_every=1000))
    store = EpisodeStore(folder)
    for number in range(2):
        store.add(episode(preset, 100 + number, 9))
    return preset


def episode(preset: Preset, number: int, steps: int) -> Episode:
    signature = signature_of(preset)
    return random_episode(number, steps, signature.observation.size, signature.action_dim,
                          terminated=number % 2 == 0, task=preset.task.name)


def add(run: TrainingRun, count: int) -> None:
    """Store the next ``count`` episodes."""
    for number, steps in EPISODES[run.trainer.episodes_added:][:count]:
        run.store_episode(episode(run.preset, number, steps))


def kept(folder: RunFolder) -> dict[str, bytes]:
    """Return the policies of a run."""
    return {path.stem: path.read_bytes() for path in folder.policies.iterdir()}


def test_a_run_stopped_after_every_update_keeps_the_same_policies(tmp_path: Path) -> None:
    """Also when the checkpoint is made between an episode's last update and what is due then."""
    preset = preset_in(tmp_path / "demonstrations")
    whole = open_run(preset, tmp_path / "whole", 4)
    add(whole, len(EPISODES))
    while whole.work_due():
        whole.work()
    whole.close()

    run = open_run(preset, tmp_path / "stopped", 4)
    while not run.trainer.finished or run.trainer.episodes_added < len(EPISODES):
        if run.work_due():
            run.work()
        else:
            add(run, 1)
        run.close()
        run = open_run(preset, tmp_path / "stopped", 4)
    assert not run.work_due()
    run.close()

    expected = kept(whole.folder)
    assert {name for name in expected if name.startswith("steps-")} == {
        "steps-000000027", "steps-000000044", "steps-000000062"}
    assert FINETUNED in expected
    assert kept(run.folder) == expected
