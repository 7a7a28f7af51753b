"""Episodes and robomimic's HDF5: there and back bit for bit, and what others wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from disk_support import files_up_to
from recording_support import PRESET, contents, recorded, recordings, store
from robomimic_support import LENGTHS, publish, with_env_args

from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.episode import Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.data.robomimic import read_robomimic, write_robomimic
from poco_ros.data.stored import read_episodes

SIZES = {"object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}


def convert(*words: object) -> None:
    assert main(["data", "convert", *map(str, words)]) == 0


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["data", "convert", *map(str, words)]) == USER_ERROR
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("poco: ")
    return error


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "robot.yaml"
    path.write_text(PRESET)
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A file written here."""
    write_robomimic(tmp_path / "ours.hdf5", recordings())
    return tmp_path / "ours.hdf5"


def published(path: Path, lengths: tuple[int, ...] = (12, 9, 11), next_obs: bool = True) -> Path:
    """Write a file as robomimic publishes them: float64, sparse rewards, doubles of the end."""
    generator = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "type": 1, "env_version": "1.4.1",
             "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}})
        for number, length in zip((0, 2, 10), lengths, strict=True):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            demo["actions"] = generator.uniform(-1, 1, (length, 7))
            demo["states"] = generator.normal(size=(length, 32))
            rewards = np.zeros(length)
            rewards[-3:] = number != 2  # demo 2 fails
            demo["rewards"], demo["dones"] = rewards, (rewards > 0).astype(np.int64)
            for key, size in SIZES.items():
                values = generator.normal(size=(length + 1, size))
                demo[f"obs/{key}"] = values[:-1]
                if next_obs:
                    demo[f"next_obs/{key}"] = values[1:]
            demo["obs/agentview_image"] = np.zeros((length, 4, 4, 3), np.uint8)
        file["mask/train"] = np.array([b"demo_0", b"demo_10"])
    return path


@pytest.mark.parametrize("with_preset", [True, False])
def test_there_and_back_is_the_same_bit_for_bit(
        with_preset: bool, tmp_path: Path, preset: Path) -> None:
    """Ids, order, labels, notes, stamps, versions and every float."""
    store(tmp_path / "before", recordings())
    named = ("--preset", preset) if with_preset else ()
    convert(tmp_path / "before", tmp_path / "all.hdf5", *named)
    convert(tmp_path / "all.hdf5", tmp_path / "after")
    assert contents(tmp_path / "after") == contents(tmp_path / "before")
    convert(tmp_path / "after", tmp_path / "again.hdf5", *named)
    convert(tmp_path / "again.hdf5", tmp_path / "third.hdf5")
    with h5py.File(tmp_path / "third.hdf5") as file:
        parts = json.loads(file["data"].attrs["poco_layout"])
    assert parts == ([["front", 3], ["wrist", 2], ["joint_states", 7]] if with_preset
                     else [["state", 12]]), "the file itself names the parts"


def test_the_layout_is_the_one_that_robomimic_reads(tmp_path: Path, preset: Path) -> None:
    episodes = store(tmp_path / "set", recordings())
    convert(tmp_path / "set", tmp_path / "all.hdf5", "--preset", preset)
    with h5py.File(tmp_path / "all.hdf5") as file:
        data = file["data"]
        assert data.attrs["total"] == sum(map(len, episodes))
        assert json.loads(data.attrs["env_args"])["env_name"] == "pick-cube"
        assert set(data) == {f"demo_{index}" for index in range(9)}
        for index, episode in enumerate(episodes):
            demo = data[f"demo_{index}"]
            assert demo.attrs["num_samples"] == len(episode)
            assert set(demo["obs"]) == set(demo["next_obs"]) == {"front", "wrist", "joint_states"}
            np.testing.assert_array_equal(demo["obs/wrist"], episode.observations[:-1, 3:5])
            np.testing.assert_array_equal(demo["next_obs/wrist"], episode.observations[1:, 3:5])
            np.testing.assert_array_equal(demo["actions"], episode.actions)
            assert demo["dones"][()].tolist() == [0] * 19 + [int(episode.terminated)]
        assert [n.decode() for n in file["mask/trainable"]] == [
            f"demo_{i}" for i, e in enumerate(episodes) if e.trainable]
        assert len(file["mask/successful"]) == 5


def test_published_files_become_demonstrations(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published(tmp_path / "low_dim_v141.hdf5")
    convert(path, tmp_path / "demos", "--observation", *SIZES)
    assert "3 episodes" in capsys.readouterr().out
    episodes = read_episodes(tmp_path / "demos")
    assert [e.id for e in episodes] == [f"low_dim_v141-demo_{n}" for n in (0, 2, 10)]
    assert [e.outcome for e in episodes] == [Outcome.SUCCESS, Outcome.FAILURE, Outcome.SUCCESS]
    assert [(e.terminated, e.truncated) for e in episodes] == [
        (True, False), (False, True), (True, False)]
    assert [len(e) for e in episodes] == [10, 9, 9], "what follows the success is left out"
    assert "2 steps after the success" in episodes[0].notes[1]
    for episode, number in zip(episodes, (0, 2, 10), strict=True):
        assert (episode.task, episode.source) == ("Lift", "demonstration")
        assert (np.diff(episode.stamps) == 50_000_000).all(), "20 Hz, as env_args says"
        assert episode.rewards.sum() == episode.success
        with h5py.File(path) as file:
            demo = file[f"data/demo_{number}"]
            rows = np.concatenate([demo[f"obs/{key}"][()] for key in SIZES], axis=1)
            last = np.concatenate([demo[f"next_obs/{key}"][()] for key in SIZES], axis=1)
        steps = len(episode)
        np.testing.assert_array_equal(episode.observations[:-1], rows[:steps].astype("f4"))
        np.testing.assert_array_equal(episode.observations[-1], last[steps - 1].astype("f4"))


def test_with_its_preset_a_published_file_becomes_what_training_reads_of_it(
        tmp_path: Path) -> None:
    """Parts, task and rewards are those of the task, though the file has more vectors."""
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")
    task = TaskConfig(domain="can")
    convert(path, tmp_path / "demos", "--preset", "cpu_can")
    direct, demos = (load_demonstrations(source, task) for source in (path, tmp_path / "demos"))
    assert [e.to_bytes() for e in demos] == [e.to_bytes() for e in direct]
    assert len(demos) == len(LENGTHS)
    convert(tmp_path / "demos", tmp_path / "ours.hdf5", "--preset", "cpu_can")
    convert(tmp_path / "ours.hdf5", tmp_path / "again", "--preset", "cpu_can")
    assert contents(tmp_path / "again") == contents(tmp_path / "demos"), "our own say no robosuite"
    preset = tmp_path / "offset.yaml"
    preset.write_text("task: {domain: can, reward_offset: -1.0}")
    convert(path, tmp_path / "offset", "--preset", preset)
    assert {r for e in read_episodes(tmp_path / "offset") for r in e.rewards} == {-1.0, 0.0}


CAN = ROBOMIMIC_TASKS["can"].layout.names


@pytest.mark.parametrize(("words", "change", "said"), [
    ((), {"env_version": "1.4.1"}, "env_version 1.4.1, the environments here are robosuite 1.5"),
    (("--observation", *CAN), {"env_version": "1.4.1"}, "env_version 1.4.1"),
    (("--observation", *CAN), {"env_kwargs": {"robots": ["Panda"], "control_freq": 10}},
     "control_freq 10, can-task1 is recorded with 20"),
    (("--observation", *CAN[1:], CAN[0]), {}, "can-task1 takes object robot0_eef_pos"),
    (("--success-reward", "0.5"), {}, "success in files for can-task1 has a reward of 1"),
])
def test_with_a_preset_what_training_would_refuse_is_not_converted(
        words: tuple[str, ...], change: dict[str, object], said: str, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    path = publish(tmp_path / "low_dim.hdf5", "can")
    with_env_args(lambda says: says.update(change))(path)
    assert said in refused(capsys, path, tmp_path / "demos", "--preset", "cpu_can", *words)
    assert not (tmp_path / "demos").exists()


def test_parts_are_chosen_and_ordered_and_demos_too(tmp_path: Path) -> None:
    path = published(tmp_path / "image.hdf5")
    every = next(read_robomimic(path))
    assert every.observations.shape[1] == sum(SIZES.values()), "all vectors, no pictures"
    few = list(read_robomimic(path, ["robot0_eef_pos", "object"], mask="train", task="lift-task1"))
    assert [e.id[-2:] for e in few] == ["_0", "10"] and few[0].task == "lift-task1"
    np.testing.assert_array_equal(few[0].observations[:, 3:], every.observations[:, :10])
    harder = list(read_robomimic(path, success_reward=2.0))
    assert not any(episode.success for episode in harder)


def test_a_file_without_next_observations_loses_what_it_does_not_know(tmp_path: Path) -> None:
    path = published(tmp_path / "bare.hdf5", next_obs=False)
    first, failed, _ = read_robomimic(path, success_reward=1.0)
    assert first.terminated and len(first) == 10
    assert failed.truncated and len(failed) == 8, "what the last step led to is unknown"
    assert "not recorded" in failed.notes[-1]
    with h5py.File(path, "a") as file:  # success at the very last step: nothing follows it
        file["data/demo_0/rewards"][:-1] = 0.0
    last = next(read_robomimic(path))
    assert len(last) == 12 and "repeats the one before" in last.notes[-1]
    np.testing.assert_array_equal(last.observations[-1], last.observations[-2])


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])


def edited(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            change(file)
    return damage


def without(key: str) -> Callable[[Path], None]:
    return edited(lambda file: file.__delitem__(key))


def instead(key: str, value: np.ndarray) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        if key in file:
            del file[key]
        file[key] = value
    return edited(change)


@pytest.mark.parametrize(("damage", "said"), [
    (shortened, "not a whole HDF5 file"),
    (lambda path: path.write_bytes(b"PK\3\4" * 30), "not a whole HDF5 file"),
    (lambda path: path.unlink(), "no such file"),
    (without("data"), "group 'data' is missing, there are ['mask']"),
    (without("data/demo_3/actions"), "demo_3/actions is missing; there are ['dones',"),
    (without("data/demo_3/next_obs/state"), "demo_3/next_obs/state is missing; there are []"),
    (instead("data/demo_3", np.zeros((20, 12))), "/data/demo_3 is a data set, expected the group"),
    (instead("data/demo_3/obs", np.zeros((20, 12))), "demo_3/obs/state is missing; there are []"),
    (without("data/demo_3/poco"), "demo_3/poco/policy_versions is missing"),
    (instead("data/demo_3/obs/state", np.zeros((7, 12), "f4")),
     "demo_3/obs/state has shape (7, 12), expected (20, size)"),
    (instead("data/demo_3/actions", np.full((20, 7), 2.0)), "demo_3: episode ep-0-000003: actions"
     "[0]"),
    (edited(lambda file: file["data"].attrs.__setitem__("poco_format", "poco-robomimic-9")),
     "has format 'poco-robomimic-9', this program reads poco-robomimic-1"),
    (edited(lambda file: file["data"].attrs.__delitem__("poco_layout")), "poco_layout"),
    (instead("data/demo_3/poco/words", np.bytes_(b"{}")), "demo_3/poco/words: not those"),
])
def test_a_damaged_file_is_refused_by_name(
        damage: Callable[[Path], None], said: str, ours: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    damage(ours)
    error = refused(capsys, ours, tmp_path / "there.hdf5")
    assert str(ours) in error and said in error
    assert not list(tmp_path.glob("there*")) and not list(tmp_path.glob(".writing-*"))


@pytest.mark.parametrize(("words", "damage", "said"), [
    (("--observation", "robot0_joint_pos"), None,
     "demo_0/obs/robot0_joint_pos is missing; /data/demo_0/obs has ['agentview_image', 'object',"),
    (("--observation", "agentview_image"), None, "pictures are not observations here"),
    (("--mask", "valid"), None, "there is no mask 'valid'; there are ['train']"),
    (("--preset", "cpu_cube_single"), None, "have 19 values, the layout (('state', 28),)"),
    ((), without("data/demo_2/rewards"), "demo_2/rewards is missing"),
    ((), instead("data/actions", np.zeros((9, 7))), "/data/actions is a data set, expected"),
    ((), instead("data/demo_2/obs", np.zeros((9, 19))), "object is missing; /data/demo_2/obs has"
     " []"),
    ((), without("data/demo_0/obs"), "robomimic's dataset_states_to_obs"),
    ((), instead("data/demo_2/rewards", np.zeros(4)),
     "demo_2/rewards has shape (4,), expected 9 rows beside 9 actions"),
    ((), instead("data/demo_2/obs/object", np.zeros((9, 14))),
     "demo_2/obs/object has 14 values a step, demos before it have 10"),
    ((), instead("data/demo_2/actions", np.full((9, 7), 1.7)), "normalise actions"),
    ((), edited(lambda file: file["data"].attrs.__setitem__("env_args", "Lift")), "env_args"),
])
def test_what_is_wrong_with_a_file_of_others_is_said(
        words: tuple[str, ...], damage: Callable[[Path], None] | None, said: str, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    path = published(tmp_path / "theirs.hdf5")
    if damage is not None:
        damage(path)
    assert said in refused(capsys, path, tmp_path / "there.hdf5", *words)
    assert not (tmp_path / "there.hdf5").exists()


def test_nothing_is_overwritten_and_what_was_interrupted_goes_on(
        tmp_path: Path, ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ours.read_bytes()
    store(tmp_path / "set", [recorded(0)])
    assert "is there already" in refused(capsys, tmp_path / "set", ours)
    assert ours.read_bytes() == before
    convert(ours, tmp_path / "set")  # the first of nine is there
    assert len(contents(tmp_path / "set")) == 9
    store(tmp_path / "other", [recorded(3, steps=5)])
    assert "another episode ep-0-000003" in refused(capsys, ours, tmp_path / "other")


@pytest.mark.parametrize(("dest", "words", "said"), [
    ("there.zip", (), "ends in .hdf5 or .mcap, or a folder"),
    ("there.hdf5", ("--mask", "train"), "are for .hdf5"),
    ("there.hdf5", ("--pictures", "set"), "goes with a recording"),
    ("there.hdf5", ("--rate", "-1"), "expected more than 0"),
    ("there.hdf5", ("--preset", "cpu_scene"), "name the preset that they were recorded with"),
])
def test_words_that_do_not_fit_are_refused(
        dest: str, words: tuple[str, ...], said: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "set", [recorded(0)])
    assert said in refused(capsys, "set", dest, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    with files_up_to(20_000):
        with pytest.raises(OSError, match=r"File too large: '.*/all\.hdf5'"):
            write_robomimic(tmp_path / "all.hdf5", recordings())
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no episodes"):
        write_robomimic(tmp_path / "all.hdf5", [])
    assert not list(tmp_path.iterdir())
