"""A run on disk that stops anywhere keeps what an uninterrupted one keeps."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from disk_support import files_up_to
from learning_support import random_episode, reached
from rich.console import Console

from poco_ros import training
from poco_ros.cli import eval as eval_command
from poco_ros.cli.eval import policies_of
from poco_ros.core.episode import Episode
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import CheckpointError, ConfigError, DataError
from poco_ros.core.tables import read_rows, write_rows
from poco_ros.core.task import TaskConfig
from poco_ros.data.config import DemonstrationConfig
from poco_ros.evaluation import Evaluation
from poco_ros.learning.checkpoint import load_checkpoint
from poco_ros.learning.config import DPPOConfig, PocoConfig, TrainConfig
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


def kill(run: TrainingRun) -> None:
    """Leave a run as ``kill -9`` does: nothing is saved, and the kernel frees its lock."""
    run._lock.close()


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
    kill(open_run(preset, tmp_path / "run", 5, str(policy)))
    RunFolder(tmp_path / "early").begin(preset, 5, str(policy))  # and killed still earlier
    for folder in (tmp_path / "run", tmp_path / "early"):
        again = open_run(preset, folder, 5)
        assert again.trainer.stage == "warmup"
        assert again.trainer.policy().tensors.keys() == source.trainer.policy().tensors.keys()
        for name, tensor in source.trainer.policy().tensors.items():
            assert np.array_equal(again.trainer.policy().tensors[name], tensor), name
        again.close()


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
    again.close()
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


def on_policy_preset(folder: Path, **schedule: object) -> Preset:
    """Return a preset of DPPO, 10 updates a round of four episodes of :class:`Reach`."""
    store = EpisodeStore(folder)
    for number in range(2):
        store.add(random_episode(100 + number, 9, 8, 7, terminated=True, task="reach"))
    return Preset(
        task=TaskConfig(domain="robot", title="reach", features={"front": 1},
                        max_episode_steps=20),
        demonstrations=DemonstrationConfig(kind="episodes", path=folder, episodes=0),
        agent=DPPOConfig(hidden_dim=16, num_layers=2, batch_size=8, flow_steps=3,
                         round_episodes=4),
        train=TrainConfig(offline_steps=5, offline_objective="bc", online_steps=800, sync_lag=0,
                          eval_every=100, **schedule))  # type: ignore[arg-type]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: self.now))


def act_and_learn(run: TrainingRun, clock: Clock, until: int) -> None:
    """Make episodes, a minute each, and learn from them until there are so many steps."""
    while True:
        if run.work_due():
            run.work()
        elif run.trainer.environment_steps < until:
            number = run.trainer.episodes_added
            policy = run.trainer.acting_policy(number)
            assert policy is not None
            clock.now += 60.0
            run.store_episode(reached(policy, 7, number, 7))
        else:
            return


def table_of(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, float]]:
    """Return policy -> steps and minutes of ``evaluations.csv``."""
    monkeypatch.setattr(eval_command, "evaluate_shown", lambda *_: Evaluation(1, 2, 1.0))
    eval_command.evaluate_run(run.folder, None, 2, 0, Console(quiet=True))  # type: ignore
    return {row["policy"]: (int(row["environment_steps"]), float(row["minutes"]))
            for row in run.folder.read_evaluations()}


def test_minutes_of_a_policy_are_those_when_it_was_had(tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the last row of updates, of which a round makes few."""
    clock = Clock(monkeypatch)
    preset = on_policy_preset(tmp_path / "demonstrations", log_every=1000)
    run = open_run(preset, tmp_path / "run", 7)
    act_and_learn(run, clock, 800)
    run.close()
    table = table_of(run, monkeypatch)
    episodes = [len(episode) for episode in run.store]
    passed = dict(zip(np.cumsum(episodes).tolist(), range(1, 1 + len(episodes)), strict=True))
    assert {name: minutes for name, (_, minutes) in table.items()} == {
        name: passed.get(steps, 0) for name, (steps, _) in table.items()}
    assert len(table) == 9 and table[FINETUNED] == (sum(episodes), len(episodes))


def test_rounds_that_are_gone_on_with_keep_the_policies_of_a_whole_run(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed amid a round, or handed all its episodes at once, as by a learner that was away."""
    clock = Clock(monkeypatch)
    preset = on_policy_preset(tmp_path / "demonstrations")
    whole = open_run(preset, tmp_path / "whole", 7)
    act_and_learn(whole, clock, 800)
    whole.close()
    expected = table_of(whole, monkeypatch)

    for steps in (330, 340, 410):  # one of these is amid a round
        killed = open_run(preset, tmp_path / f"killed at {steps}", 7)
        act_and_learn(killed, clock, steps)
        kill(killed)
        again = open_run(preset, killed.folder.path, 7)
        act_and_learn(again, clock, 800)
        again.close()
        assert kept(again.folder) == kept(whole.folder)
        table = table_of(again, monkeypatch)
        assert {name: steps for name, (steps, _) in table.items()} == {
            name: steps for name, (steps, _) in expected.items()}
        minutes = [minutes for _, minutes in table.values()]
        assert minutes == sorted(minutes)
        assert minutes[-1] >= expected[FINETUNED][1] - 5, "but those since the last policy"

    late = open_run(preset, tmp_path / "late", 7)
    for episode_ in whole.store:
        late.store_episode(episode_)
    while late.work_due():
        late.work()
    late.close()
    assert kept(late.folder) == kept(whole.folder)


def test_the_last_policy_has_the_steps_of_the_run_though_its_last_round_is_open(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the last update had a row of its own: the steps after it count as well."""
    clock = Clock(monkeypatch)
    preset = on_policy_preset(tmp_path / "demonstrations", log_every=10)
    run = open_run(replace(preset, train=replace(preset.train, online_steps=840, eval_every=40)),
                   tmp_path / "run", 7)
    act_and_learn(run, clock, 840)
    run.close()
    found = policies_of(run.folder)
    assert found[FINETUNED] == run.trainer.environment_steps
    assert len(set(found.values())) == len(found) and found["steps-000000800"] == 800


def test_episodes_of_another_encoder_are_not_stored(tmp_path: Path) -> None:
    preset = preset_in(tmp_path / "demonstrations")
    run = open_run(preset, tmp_path / "run", 4)
    assert not run.encoder
    run.store_episode(replace(episode(preset, 0, 8), encoder="bee"))
    with pytest.raises(DataError, match="of encoder wasp, those of this run are of bee"):
        run.store_episode(replace(episode(preset, 1, 8), encoder="wasp"))
    run.store_episode(episode(preset, 1, 8))  # one that does not know
    run.close()
    again = open_run(preset, tmp_path / "run", 4)
    assert again.encoder == "bee" and len(again.store) == 2
    again.close()

    taught = EpisodeStore(tmp_path / "demonstrations")
    taught.add(replace(episode(preset, 102, 9), encoder="wasp"))
    new = open_run(preset, tmp_path / "new", 4)
    assert new.encoder == "wasp"
    new.close()
    taught.add(replace(episode(preset, 103, 9), encoder="bee", trainable=False))
    taught.add(replace(episode(preset, 104, 9), encoder="fly"))
    with pytest.raises(DataError, match=r"demonstrations: episodes whose features are of different"
                                        r" encoders \(1 of wasp, 1 of fly\)"):
        open_run(preset, tmp_path / "third", 4)


def test_no_row_has_updates_of_two_stages(tmp_path: Path) -> None:
    """They report other metrics, of which the averages would be too small."""
    preset = preset_in(tmp_path / "demonstrations")
    preset = replace(preset, train=replace(preset.train, log_every=1000))
    run = open_run(preset, tmp_path / "run", 4)
    add(run, len(EPISODES))
    while run.work_due():
        run.work()
    run.close()
    rows = read_rows(run.log.path)
    assert [int(row["updates"]) for row in rows] == [5, 17, run.trainer.updates]
    assert not rows[1]["poco/effective_candidates"]
    assert float(rows[2]["poco/effective_candidates"]) >= 1.0, "a mean of those that have it"


def test_one_process_at_a_time_works_in_a_run_folder(tmp_path: Path) -> None:
    """Two would delete each other's checkpoints."""
    preset = preset_in(tmp_path / "demonstrations")
    run = open_run(preset, tmp_path / "run", 4)
    with pytest.raises(ConfigError, match=r"run: another process works in this run folder"):
        open_run(preset, tmp_path / "run", 4)
    run.close()
    open_run(preset, tmp_path / "run", 4).close()
    with pytest.raises(ConfigError, match="seed"):
        open_run(preset, tmp_path / "run", 5)
    open_run(preset, tmp_path / "run", 4).close()  # a refusal keeps nobody out


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match=r"No locks available.*/run/\.lock"):
        open_run(preset_in(tmp_path / "demonstrations"), tmp_path / "run", 4)


def test_a_refused_resume_changes_nothing(tmp_path: Path) -> None:
    preset = preset_in(tmp_path / "demonstrations")
    preset = replace(preset, train=replace(preset.train, sync_lag=0))
    run = open_run(preset, tmp_path / "run", 4)
    add(run, 3)
    while run.work_due():
        run.work()
    run.close()
    before = run.folder.config.read_bytes()
    with pytest.raises(CheckpointError, match="sync_lag of the run"):
        open_run(replace(preset, train=replace(preset.train, sync_lag=3)), tmp_path / "run", 4)
    assert run.folder.config.read_bytes() == before
    open_run(run.folder.load_preset(), tmp_path / "run", 4).close()


def test_a_run_goes_on_when_its_demonstrations_have_moved(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preset = preset_in(Path("demonstrations"))
    run = open_run(preset, tmp_path / "run", 4)
    while run.work_due():
        run.work()
    run.close()
    (tmp_path / "demonstrations").rename(tmp_path / "moved")
    for path in ("moved", tmp_path / "moved"):
        moved = replace(preset, demonstrations=replace(preset.demonstrations, path=Path(path)))
        open_run(moved, tmp_path / "run", 4).close()
    EpisodeStore(tmp_path / "moved").add(episode(preset, 102, 9))
    with pytest.raises(CheckpointError, match="demonstrations"):
        open_run(moved, tmp_path / "run", 4)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("what", ["table", "board"])
def test_what_a_full_disk_did_not_take_is_kept_when_there_is_room(tmp_path: Path,
                                                                  what: str) -> None:
    """Checkpoints, the cloned policy, rows; of TensorBoard what comes afterwards."""
    preset = preset_in(tmp_path / "demonstrations")
    preset = replace(preset, train=replace(preset.train, log_every=1, checkpoint_every=3))
    run = open_run(preset, tmp_path / "run", 4)
    add(run, len(EPISODES))
    size = run.log.path.stat().st_size if what == "table" else max(
        path.stat().st_size for path in (run.folder.path / "tensorboard").iterdir())
    with files_up_to(size):
        while run.trainer.stage == "offline":
            with suppress(OSError):
                run.work()
        for _ in range(3):
            with suppress(OSError):
                run.work()
    told = run.trainer.updates  # that many it did without room
    for _ in range(4):
        assert run.work_due()
        run.work()
    words = load_checkpoint(run.folder.checkpoint).words
    assert words["offline_updates"] + words["online_updates"] > told
    run.close()
    assert run.folder.load_policy(CLONED).version == 6, "of 5 updates"
    rows = [int(row["updates"]) for row in read_rows(run.log.path)]
    assert rows == sorted(set(rows)) and rows[-4:] == [told + k for k in range(1, 5)]
    boards = (run.folder.path / "tensorboard").iterdir()
    assert any(b"critic" in path.read_bytes() for path in boards)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_a_full_disk_names_what_cannot_be_written(tmp_path: Path) -> None:
    preset = preset_in(tmp_path / "demonstrations")
    preset = replace(preset, train=replace(preset.train, log_every=1))
    run = open_run(preset, tmp_path / "run", 4)
    with files_up_to(100):
        with pytest.raises(OSError, match="checkpoint"):
            run.save()
        with pytest.raises(OSError, match=r"metrics\.csv"):
            run.work()
    run.close()


def test_columns_of_another_version_stay_in_the_table(tmp_path: Path) -> None:
    preset = preset_in(tmp_path / "demonstrations")
    run = open_run(preset, tmp_path / "run", 4)
    while run.work_due():
        run.work()
    run.close()
    rows = read_rows(run.log.path)
    write_rows(run.log.path, (*rows[0], "later/figure"), [{**row, "later/figure": "7"}
                                                         for row in rows])
    open_run(preset, tmp_path / "run", 4).close()
    assert [row["later/figure"] for row in read_rows(run.log.path)] == ["7"] * len(rows)
