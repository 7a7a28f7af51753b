"""A run on disk that stops anywhere keeps what an uninterrupted one keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_support import random_episode

from poco_ros.cli.eval import policies_of
from poco_ros.core.episode import Episode
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import ConfigError
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import DemonstrationConfig
from poco_ros.learning.config import PocoConfig, TrainConfig
from poco_ros.preset import Preset
from poco_ros.run_folder import CLONED, FINETUNED, RunFolder
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


def test_a_run_that_begins_with_a_policy_goes_on_with_it_when_it_had_not_saved_yet(
        tmp_path: Path) -> None:
    """Killed before its first checkpoint, it clones nothing anew."""
    preset = preset_in(tmp_path / "demonstrations")
    source = open_run(preset, tmp_path / "source", 4)
    while source.work_due():
        source.work()
    source.close()
    policy = source.folder.policies / "latest.safetensors"
    open_run(preset, tmp_path / "run", 5, str(policy))  # and killed
    RunFolder(tmp_path / "early").begin(preset, 5, str(policy))  # and killed still earlier
    for folder in (tmp_path / "run", tmp_path / "early"):
        again = open_run(preset, folder, 5)
        assert again.trainer.stage == "warmup"
        assert again.trainer.policy().tensors.keys() == source.trainer.policy().tensors.keys()
        for name, tensor in source.trainer.policy().tensors.items():
            assert np.array_equal(again.trainer.policy().tensors[name], tensor), name


def test_a_run_that_diverged_goes_on_with_a_lower_learning_rate(tmp_path: Path) -> None:
    preset = preset_in(tmp_path / "demonstrations")
    run = open_run(preset, tmp_path / "run", 4)
    while run.work_due():
        run.work()
    run.close()
    lower = replace(preset, agent=replace(preset.agent, lr=1e-5))
    again = open_run(lower, tmp_path / "run", 4)
    assert again.trainer.updates == run.trainer.updates
    assert again.trainer.agent.optimizers()["critic"].param_groups[0]["lr"] == 1e-5
    assert again.folder.load_preset().agent.lr == 1e-5
    with pytest.raises(ConfigError, match="other settings"):
        open_run(replace(preset, agent=replace(preset.agent, zeta=0.9)), tmp_path / "run", 4)


def test_the_newest_policy_is_told_from_one_of_an_earlier_end(tmp_path: Path) -> None:
    """After the offline stage, or after fewer steps: what was finished then is not of now."""
    preset = preset_in(tmp_path / "demonstrations")
    offline = replace(preset, train=replace(preset.train, online_steps=0))
    run = open_run(offline, tmp_path / "run", 4)
    while run.work_due():
        run.work()
    run.close()
    assert run.folder.load_policy(FINETUNED).version == run.folder.load_policy(CLONED).version
    assert policies_of(run.folder) == {CLONED: 0}
    run = open_run(preset, tmp_path / "run", 4)
    add(run, 3)
    while run.work_due():
        run.work()
    run.close()  # not at its end
    found = policies_of(run.folder)
    assert FINETUNED not in found and found[CLONED] == 0 and len(found) > 1
    run = open_run(preset, tmp_path / "run", 4)
    add(run, len(EPISODES))
    while run.work_due():
        run.work()
    run.close()
    steps = sum(count for _, count in EPISODES)
    assert policies_of(run.folder)[FINETUNED] == steps
    longer = replace(preset, train=replace(preset.train, online_steps=100))
    run = open_run(longer, tmp_path / "run", 4)
    run.store_episode(episode(preset, 50, 9))
    while run.work_due():
        run.work()
    run.close()
    assert policies_of(run.folder)[FINETUNED] == steps, "of the end there was"
