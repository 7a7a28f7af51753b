"""Play data in OGBench's format: made here or elsewhere, they are seen as OGBench sees them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poco_ros.core.config import to_dict, to_yaml
from poco_ros.core.episode import Episode
from poco_ros.core.errors import DataError
from poco_ros.core.task import TaskConfig
from poco_ros.data import DemonstrationConfig, PlayConfig
from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.data.ogbench_format import FORMATS, read_play_data
from poco_ros.data.play import generate_ogbench, validation_path, validation_trajectories
from poco_ros.data.relabel import Goal, load_play_episodes
from sim_bridge.quiet import quiet_import

with quiet_import():
    import gymnasium
    import ogbench
    import ogbench.relabel_utils

pytestmark = [pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning"),
              pytest.mark.xdist_group("play data")]

Arrays = dict[str, np.ndarray]
SMALL = PlayConfig(domain="scene", num_trajs=2, trajectory_steps=60, seed=3)
ROWS = 40


def invented(domain: str, trajectories: int = 6, seed: int = 0) -> Arrays:
    """Return play data of no simulator, whose states meet the goal of task 2 again and again."""
    generator = np.random.default_rng(seed)
    rows = trajectories * ROWS
    arrays = {key: generator.uniform(-1, 1, (rows, width)).astype(np.float32)
              for key, width in FORMATS[domain].widths().items()}
    goal = Goal.of(TaskConfig(domain=domain, number=2))

    def sometimes(wanted: np.ndarray, spread: float) -> np.ndarray:
        met = generator.random((rows, 1)) < 0.8
        return np.where(met, wanted + generator.uniform(-spread, spread, wanted.shape), 9.0)

    for cube, position in enumerate(goal.cubes):
        column = 14 + 7 * cube
        wanted = np.tile(position, (rows, 1))
        arrays["qpos"][:, column:column + 3] = sometimes(wanted, 0.03)
    if len(goal.buttons):
        flipped = (generator.random((rows, len(goal.buttons))) < 0.05).astype(np.int64)
        arrays["button_states"] = (goal.buttons + flipped) % 2
    if len(goal.slides):
        column = 14 + 7 * len(goal.cubes) + len(goal.buttons)
        arrays["qpos"][:, column:column + 2] = sometimes(np.tile(goal.slides, (rows, 1)), 0.05)
    arrays["terminals"] = np.arange(1, rows + 1) % ROWS == 0
    return arrays


def save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def ogbenchs_view(path: Path, domain: str) -> Arrays:
    """Return the data set as OGBench loads and relabels it for task 2."""
    name = f"{domain}-singletask-task2-v0"
    dataset = ogbench.load_dataset(str(path), add_info=True)
    ogbench.relabel_utils.relabel_dataset(name, gymnasium.make(name), dataset)
    return dataset


def joined(episodes: list[Episode], field: str) -> np.ndarray:
    parts = {"next_observations": lambda e: e.observations[1:],
             "observations": lambda e: e.observations[:-1],
             "masks": lambda e: 1.0 - e.terminated * (np.arange(len(e)) == len(e) - 1)}
    return np.concatenate([parts.get(field, lambda e: getattr(e, field))(e) for e in episodes])


@pytest.mark.parametrize("domain", FORMATS)
def test_rewards_and_masks_are_ogbenchs_own(domain: str, tmp_path: Path) -> None:
    """Judged before the step and offset by -1, every transition is as OGBench relabels it."""
    path = save(tmp_path / "play.npz", invented(domain))
    want = ogbenchs_view(path, domain)
    assert 0 < (want["masks"] == 0).sum() < len(want["masks"])
    task = TaskConfig(domain=domain, number=2, success_timing="pre", reward_offset=-1.0)
    episodes = load_play_episodes(path, task)
    for key in ("observations", "actions", "next_observations", "masks"):
        np.testing.assert_array_equal(joined(episodes, key), want[key], err_msg=key)
    solved = want["rewards"] == 0
    np.testing.assert_array_equal(joined(episodes, "rewards"), np.where(solved, 0.0, -1.0))
    staged = TaskConfig(domain=domain, number=2, success_timing="pre", reward_offset=-1.0,
                        reward="staged")
    parts = Goal.of(task).reached(want["qpos"][:1], want.get("button_states", [None])[:1]
                                  if FORMATS[domain].buttons else None).shape[1]
    np.testing.assert_allclose(joined(load_play_episodes(path, staged), "rewards"),
                               want["rewards"] / parts, rtol=1e-6)


def test_judged_after_the_step_each_reward_is_that_of_the_next_state(tmp_path: Path) -> None:
    arrays = invented("cube-double")
    path = save(tmp_path / "play.npz", arrays)
    data = read_play_data(path, "cube-double")
    solved = Goal.of(TaskConfig(domain="cube-double", number=2)).reached(
        data.qpos, None).all(axis=1)
    inner = np.flatnonzero(~arrays["terminals"])
    episodes = load_play_episodes(path, TaskConfig(domain="cube-double", number=2))
    np.testing.assert_array_equal(joined(episodes, "rewards"), solved[inner + 1])
    np.testing.assert_array_equal(joined(episodes, "masks"), 1.0 - solved[inner + 1])
    np.testing.assert_array_equal(joined(episodes, "actions"), arrays["actions"][inner])


def test_value_never_flows_across_a_success_nor_across_trajectories(tmp_path: Path) -> None:
    path = save(tmp_path / "play.npz", invented("cube-single"))
    episodes = load_play_episodes(path, TaskConfig(number=2))
    assert sum(map(len, episodes)) == 6 * (ROWS - 1), "no transition is lost"
    for episode in episodes:
        assert (episode.rewards[:-1] == 0).all(), "a success ends the episode"
        assert episode.terminated == (episode.rewards[-1] == 1) == episode.success
        assert episode.truncated == (not episode.terminated)
    assert sum(episode.truncated for episode in episodes) <= 6, "only trajectories end so"
    assert len({episode.id for episode in episodes}) == len(episodes)
    assert len(load_demonstrations(path, TaskConfig(number=2))) == len(episodes)
    two = DemonstrationConfig(kind="npz", path=path, episodes=2)
    assert sum(map(len, load_demonstrations(two, TaskConfig(number=2)))) == 2 * (ROWS - 1)


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    """Of its letters, those that an id may have are kept."""
    path = save(tmp_path / "würfel 1.npz", invented("cube-single"))
    episodes = load_play_episodes(path, TaskConfig(number=2))
    assert {episode.id[:14] for episode in episodes} == {"play-w-rfel-1-"}


def test_what_is_read_is_shared_not_copied(tmp_path: Path) -> None:
    """A million transitions in a moment: one array, many views."""
    path = save(tmp_path / "play.npz", invented("scene"))
    episodes = load_play_episodes(path, TaskConfig(domain="scene", number=2))
    base = episodes[0].observations.base
    assert base is not None and all(episode.observations.base is base for episode in episodes)


def spoilt(key: str, change: Callable[[np.ndarray], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, key: change(arrays[key])}


def with_value(place: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[place] = value
        return array
    return change


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda a: {k: v for k, v in a.items() if k != "qpos"}, "key 'qpos' is missing"),
    (lambda a: {k: v for k, v in a.items() if k != "button_states"}, "'button_states' is missing"),
    (spoilt("observations", lambda x: x[:, :-1]), r"observations has shape .* expected \(240, 40"),
    (spoilt("actions", lambda x: x[:-1]), r"actions has shape \(239, 5\), expected \(240, 5\)"),
    (spoilt("qpos", lambda x: x[:, :21]), "another domain"),
    (spoilt("observations", with_value((7, 3), np.nan)), r"observations\[7, 3\] is nan"),
    (spoilt("qpos", with_value((9, 2), np.inf)), r"qpos\[9, 2\] is inf"),
    (spoilt("actions", with_value((11, 4), 1.5)), r"actions\[11\] = .* leaves \[-1, 1\]"),
    (spoilt("terminals", lambda x: x[:-1]), "terminals has shape"),
    (spoilt("terminals", np.zeros_like), "terminals must be 1 at the last row"),
    (spoilt("terminals", np.ones_like), "one row"),
    (spoilt("observations", lambda x: x[:0]), "N >= 2"),
])
def test_what_breaks_the_format_is_refused_by_file_key_and_place(
        spoil: Callable[[Arrays], Arrays], said: str, tmp_path: Path) -> None:
    path = save(tmp_path / "spoilt.npz", spoil(invented("scene")))
    with pytest.raises(DataError, match=rf"spoilt\.npz: .*{said}"):
        read_play_data(path, "scene")


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz", invented("scene")).read_bytes()
    for name, content in (("cut.npz", whole[:len(whole) // 2]), ("text.npz", b"not an archive"),
                          ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: not a whole"):
            read_play_data(tmp_path / name, "scene")
    with pytest.raises(DataError, match="no such data set"):
        read_play_data(tmp_path / "absent.npz", "scene")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of scene, made by two workers."""
    out = tmp_path_factory.mktemp("play") / "scene-play-v0.npz"
    return generate_ogbench(SMALL, out, workers=2, show_progress=False)


def test_the_file_is_like_the_official_one(made: Path) -> None:
    """Keys, types and rows are those of OGBench's files, and OGBench loads it."""
    for path, trajectories in ((made, 2), (validation_path(made), validation_trajectories(2))):
        with np.load(path) as archive:
            types = {key: (archive[key].dtype.name, archive[key].shape) for key in archive.files}
        rows = trajectories * SMALL.trajectory_steps
        assert types == {
            "observations": ("float32", (rows, 40)), "actions": ("float32", (rows, 5)),
            "terminals": ("bool", (rows,)), "qpos": ("float32", (rows, 25)),
            "qvel": ("float32", (rows, 24)), "button_states": ("int64", (rows, 2))}
        loaded = ogbenchs_view(path, "scene")
        assert len(loaded["next_observations"]) == trajectories * (SMALL.trajectory_steps - 1)
    assert not made.with_suffix(".parts").exists(), "nothing is left lying about"


def test_every_row_is_a_state_of_the_simulator(made: Path) -> None:
    """qpos, buttons and observation of a row belong to one instant."""
    data = read_play_data(made, "scene")
    assert data.button_states is not None
    np.testing.assert_allclose(data.observations[:, 0:6], data.qpos[:, 0:6], atol=1e-6)
    cube = (data.qpos[:, 14:17] - [0.425, 0.0, 0.0]) * 10.0
    np.testing.assert_allclose(data.observations[:, 19:22], cube, atol=1e-5)
    np.testing.assert_array_equal(data.observations[:, [29, 33]], data.button_states)


def test_the_data_do_not_depend_on_workers_or_on_a_kill_9(made: Path, tmp_path: Path) -> None:
    """Made by one process that was killed in the middle and gone on with, byte for byte."""
    out = tmp_path / "again.npz"
    program = ("import sys; from poco_ros.core.config import from_dict;"
               "from poco_ros.data.play import PlayConfig, generate_ogbench;"
               "generate_ogbench(from_dict(PlayConfig, eval(sys.argv[1])), sys.argv[2], 1, False)")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    maker = subprocess.Popen([sys.executable, "-c", program, repr(to_dict(SMALL)), str(out)],
                             env=environment)
    parts = out.with_suffix(".parts")
    end = time.monotonic() + 60.0
    while not list(parts.glob("*.npz")) and time.monotonic() < end:
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert list(parts.glob("*.npz")) and not out.exists()
    generate_ogbench(SMALL, out, workers=1, show_progress=False)
    for path, other in ((made, out), (validation_path(made), validation_path(out))):
        assert path.read_bytes() == other.read_bytes()


def test_asking_again_makes_nothing_and_other_settings_are_refused(
        made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = made.stat().st_mtime_ns
    with monkeypatch.context() as read_only:
        read_only.setattr("fcntl.flock", lambda *_: pytest.fail("none is needed"))
        assert generate_ogbench(SMALL, made, show_progress=False) == made
    assert made.stat().st_mtime_ns == stamp
    other = PlayConfig(**{**to_dict(SMALL), "seed": 4})
    with pytest.raises(DataError, match="seed = 3, now asked for 4"):
        generate_ogbench(other, made, show_progress=False)
    foreign = save(tmp_path / "official.npz", invented("scene"))
    with pytest.raises(DataError, match="not made here"):
        generate_ogbench(SMALL, foreign, show_progress=False)
    with pytest.raises(DataError, match=r"end in \.npz"):
        generate_ogbench(SMALL, tmp_path / "data", show_progress=False)


class StoppedError(Exception):
    """Stands for whatever ends a try before the first piece is there."""


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr("poco_ros.data.shards.ProcessPool", refuse)


def test_a_try_that_made_nothing_does_not_bind_the_next_one(no_workers: None,
                                                            tmp_path: Path) -> None:
    for seed in (0, 1):
        with pytest.raises(StoppedError):
            generate_ogbench(PlayConfig(seed=seed), tmp_path / "play.npz", show_progress=False)
    assert not (tmp_path / "play.yaml").exists(), "nothing is said of a file that is not there"


def test_all_that_must_go_for_other_settings_is_named(no_workers: None, tmp_path: Path) -> None:
    out = tmp_path / "play.npz"
    files = [out, validation_path(out), out.with_suffix(".yaml")]
    for path in files:
        path.write_text(to_yaml(SMALL))
    remedy = f"delete {', '.join(map(str, files))}, or choose another place"
    with pytest.raises(DataError, match=re.escape(remedy)):
        generate_ogbench(PlayConfig(), out, show_progress=False)
    for path in files:
        path.unlink()
    with pytest.raises(StoppedError):
        generate_ogbench(PlayConfig(), out, show_progress=False)


def test_what_a_stop_left_unchecked_is_checked_and_its_pieces_go(made: Path,
                                                                 tmp_path: Path) -> None:
    out = tmp_path / made.name
    files = [(made, out), (validation_path(made), validation_path(out)),
             (made.with_suffix(".yaml"), out.with_suffix(".yaml"))]
    for source, copy in files:
        copy.write_bytes(source.read_bytes())
    parts = out.with_suffix(".parts")
    parts.mkdir()
    whole = validation_path(out).read_bytes()
    validation_path(out).write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"-val\.npz: not a whole"):
        generate_ogbench(SMALL, out, show_progress=False)
    assert parts.exists()
    validation_path(out).write_bytes(whole)
    assert generate_ogbench(SMALL, out, show_progress=False) == out
    assert not parts.exists()
