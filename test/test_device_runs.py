"""Runs whose updates are wholly on the device: late metrics, what diverges, resume, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_support import TRAIN, make, updater_of
from learning_support import random_episode, signature

from poco_ros.cli.main import main
from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError, ConfigError
from poco_ros.learning.agents import Phase
from poco_ros.learning.captured import DeviceUpdater, make_updater
from poco_ros.learning.config import PocoConfig, TrainConfig
from poco_ros.learning.experience import ReplayExperience
from poco_ros.learning.gpus import check_gpus
from poco_ros.learning.metrics import MetricsLog
from poco_ros.learning.trainer import Trainer
from poco_ros.learning.updater import DivergedError, HostUpdater


def test_metrics_come_late_and_add_up() -> None:
    """Sums over 5 updates on the device are those of 5 updates read one by one."""
    at_once, late = updater_of(make("poco")), updater_of(make("poco"))
    total: dict[str, float] = {}
    for number in range(1, 6):
        at_once.update(Phase.FULL, number)
        for name, value in at_once.late_metrics().items():
            total[name] = total.get(name, 0.0) + value
        late.update(Phase.FULL, number)
    assert late.late_metrics() == pytest.approx(total, rel=1e-9)
    assert set(late.late_metrics().values()) == {0.0}


def test_a_row_of_metrics_holds_the_means_of_late_ones(tmp_path: Path) -> None:
    """The log counts updates as they come and takes their sums when they do."""
    agent = make("poco")
    updater, other = updater_of(agent), updater_of(make("poco"))
    late, at_once = (MetricsLog(tmp_path / name, 0, agent.METRICS) for name in ("late", "at_once"))
    for number in range(1, 5):
        late.add(updater.update(Phase.FULL, number))
        other.update(Phase.FULL, number)
        at_once.add(other.late_metrics())
    late.add_late(updater.late_metrics())
    assert late.count == at_once.count == 4
    assert late.means() == pytest.approx(at_once.means(), rel=1e-9)
    for log in (late, at_once):
        log.close()


def test_what_is_not_finite_is_told_by_the_exact_update_and_again() -> None:
    agent = make("poco")
    updater = updater_of(agent)
    for number in range(41, 44):
        updater.update(Phase.FULL, number)
    updater.check()
    updater.update(Phase.FULL, 44)
    with torch.no_grad():
        agent.actor.layers[1].bias[3] = float("nan")
    for number in range(45, 49):
        updater.update(Phase.FULL, number)
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"update 45: .*clone_loss.* is not finite.*lr"):
            updater.check()


def test_it_is_noticed_within_log_every_updates() -> None:
    agent = make("bc")
    updater = updater_of(agent, TrainConfig(offline_steps=0, log_every=7))
    with torch.no_grad():
        agent.actor.layers[1].bias[3] = float("inf")
    for number in range(1, 7):
        updater.update(Phase.CLONE, number)
    with pytest.raises(DivergedError, match="update 1:"):
        updater.update(Phase.CLONE, 7)


# -- the trainer over it ---------------------------------------------------------------------

AGENT = PocoConfig(hidden_dim=16, num_layers=2, num_candidates=4, batch_size=8, flow_steps=3,
                   normalize_observations=True, zeta=1.0)
STAGES = TrainConfig(offline_steps=5, offline_objective="bc", critic_warmup=12, utd=0.5,
                     online_steps=60, replay_capacity=40, log_every=4)
DEMONSTRATIONS = [random_episode(100 + n, 9, terminated=n % 2 == 0) for n in range(3)]
EPISODES = [random_episode(n, 8 + n % 3, terminated=n % 3 == 0) for n in range(7)]


def trainer() -> Trainer:
    """Return a trainer whose updates are done wholly on the device, which is the CPU."""
    subject = Trainer(AGENT, STAGES, signature(3, 2, "task"), 4, DEMONSTRATIONS)
    assert isinstance(subject.experience, ReplayExperience)
    subject.updater = DeviceUpdater(subject.agent, subject.experience.replay, STAGES,
                                    captured=False)
    return subject


def work_through(subject: Trainer, episodes: list[Episode]) -> list[bytes]:
    for episode in episodes[subject.episodes_added:]:
        subject.add_episode(episode)
    weights = []
    while subject.work_due():
        subject.work()
        weights.append(subject.policy().to_bytes())
    return weights


@pytest.mark.parametrize("stop", [3, 9, 20, 30])
def test_resume_equals_uninterrupted_bit_for_bit(stop: int, tmp_path: Path) -> None:
    whole, stopped, again = trainer(), trainer(), trainer()
    weights = work_through(whole, EPISODES)
    for episode in EPISODES[:5]:
        stopped.add_episode(episode)
    for _ in range(stop):
        if stopped.work_due():
            stopped.work()
    stopped.save(tmp_path)
    again.resume(tmp_path, EPISODES)
    assert work_through(again, EPISODES) == weights[stopped.updates:]
    left, right = again.agent.state(), whole.agent.state()
    assert all(torch.equal(left[k], right[k]) for k in left)


def test_nothing_that_diverged_is_saved_or_acts(tmp_path: Path) -> None:
    """The sums have not been read when the checkpoint is asked for: they are read first."""
    subject = trainer()
    for _ in range(5):
        subject.work()
    subject.add_episode(EPISODES[0])
    subject.work()
    kept = subject.save(tmp_path)
    with torch.no_grad():
        subject.agent.critic.biases[0].fill_(float("nan"))  # losses are not finite from here on
    subject.work()
    with pytest.raises(DivergedError, match="update 7: critic/loss"):
        subject.save(tmp_path)
    assert list(tmp_path.glob("0*")) == [kept]
    subject.episodes_ingested += 1  # a round of its own
    with pytest.raises(DivergedError, match="update 7"):
        subject._finish_round()
    again = trainer()
    again.resume(tmp_path, EPISODES[:1])
    assert again.updates == 6


def test_the_random_state_of_another_kind_of_device_is_refused(tmp_path: Path) -> None:
    subject = trainer()
    state = subject.agent.state()
    state["generator"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's: seed and offset
    before = subject.agent.state()
    with pytest.raises(CheckpointError, match=r"another kind of device than cpu.*train\.device"):
        subject.agent.load_state(state, "checkpoint")
    assert all(torch.equal(v, before[k]) for k, v in subject.agent.state().items())


# -- settings --------------------------------------------------------------------------------


def test_on_the_cpu_updates_are_plain() -> None:
    agent = make("poco")
    experience = ReplayExperience(agent.signature, agent.config, TRAIN, [])
    assert isinstance(make_updater(agent, experience, TRAIN, np.random.default_rng(0)),
                      HostUpdater)


@pytest.mark.parametrize("settings", [{"precision": "tf32"}, {"compiled": True}])
def test_what_is_for_a_gpu_is_refused_on_the_cpu(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"for a GPU.*device is cpu"):
        TrainConfig(**settings)
    TrainConfig(device="cuda:1", **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_of() -> None:
    with pytest.raises(ConfigError, match=r"train\.device is cuda, but torch .* finds no GPU"):
        Trainer(AGENT, TrainConfig(offline_steps=0, device="cuda"), signature(3, 2), 0, [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_bench_on_gpus_that_are_not_there_runs_nothing(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every cell was started, to be refused and entered as failed."""
    out = tmp_path / "bench"
    for more in ([], ["--dry-run"]):
        assert main(["bench", "smoke", "--gpus", "0,7", "--out", str(out), *more]) == 2
        assert "GPUs 0, 7 are asked for, but torch" in capsys.readouterr().err
    matrix = tmp_path / "gpu.yaml"
    matrix.write_text("tasks: {cube: {preset: cpu_cube_single}}\n"
                      "algorithms: {bc: {}, poco: {overrides: {train: {device: cuda}}}}\n")
    assert main(["bench", str(matrix), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "cube/poco/base/seed0: train.device is cuda, but torch" in said
    assert not out.exists()


def test_gpus_are_named_by_numbers_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus(["0", "1", "0", "GPU-5e1c", "MIG-77"])
    with pytest.raises(ConfigError, match="GPU 2 is asked for, those here are 0 to 1"):
        check_gpus(["0", "2"])
    for name in ("cuda:0", "-1", "a"):
        with pytest.raises(ConfigError, match=f"GPU '{name}': name it by its number"):
            check_gpus([name])
