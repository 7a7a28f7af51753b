"""robomimic's published files become demonstrations of the tasks here, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from robomimic_support import (
    AFTER,
    LENGTHS,
    edited,
    env_args,
    instead,
    publish,
    with_env_args,
)

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import SIMULATED_DOMAINS, TaskConfig
from poco_ros.data import DemonstrationConfig
from poco_ros.data.demonstrations import demonstrations_path, load_demonstrations
from poco_ros.data.robomimic import write_robomimic


def load(path: Path, domain: str = "can", **settings: Any) -> list[Episode]:
    wanted = DemonstrationConfig(**{"kind": "robomimic", "path": path, "episodes": 0, **settings})
    return load_demonstrations(wanted, TaskConfig(domain=domain), show_progress=False)


@pytest.mark.parametrize("domain", ROBOMIMIC_TASKS)
def test_a_published_file_is_read_as_it_is(domain: str, tmp_path: Path) -> None:
    """Every number of the observation stands where the environment has it."""
    path = publish(tmp_path / "low_dim_v15.hdf5", domain)
    episodes = load(path, domain)
    assert len(episodes) == len(LENGTHS)
    layout = ROBOMIMIC_TASKS[domain].layout
    assert layout.names == ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    assert layout.size == SIMULATED_DOMAINS[domain].observation
    for episode, (number, length) in zip(episodes, LENGTHS.items(), strict=True):
        assert (episode.task, episode.source) == (f"{domain}-task1", "demonstration")
        assert episode.terminated and episode.outcome == Outcome.SUCCESS
        assert len(episode) == length - AFTER, "an episode ends with its success"
        assert episode.rewards.tolist() == [0.0] * (len(episode) - 1) + [1.0]
        assert (np.diff(episode.stamps) == 50_000_000).all()
        with h5py.File(path) as file:
            demo = file[f"data/demo_{number}"]
            rows = np.concatenate([demo[f"obs/{part}"][()] for part in layout.names], axis=1)
            steps = len(episode)
            np.testing.assert_array_equal(episode.observations, rows[:steps + 1].astype("f4"))
            np.testing.assert_array_equal(episode.actions, demo["actions"][:steps].astype("f4"))


def test_demos_are_chosen_by_number_and_by_filter_key(tmp_path: Path) -> None:
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")

    def numbers(**settings: Any) -> list[int]:
        return [int(episode.id.rpartition("_")[2]) for episode in load(path, **settings)]

    assert numbers() == list(LENGTHS)
    assert numbers(episodes=2) == [0, 1]
    assert numbers(mask="worse") == [2, 10] and numbers(mask="train", episodes=1) == [1]
    with pytest.raises(DataError, match=r"no mask 'okay'; there are \['better', 'train', 'valid'"):
        numbers(mask="okay")
    by_path = load_demonstrations(path, TaskConfig(domain="can"))
    assert [episode.id for episode in by_path] == [episode.id for episode in load(path)]


def test_a_file_of_failures_has_episodes_that_time_cut_off(tmp_path: Path) -> None:
    episodes = load(publish(tmp_path / "bad.hdf5", "can", success=False))
    assert [len(episode) for episode in episodes] == list(LENGTHS.values())
    assert all(episode.truncated and not episode.rewards.any() for episode in episodes)


def test_rewards_have_the_offset_of_the_task(tmp_path: Path) -> None:
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")
    task = TaskConfig(domain="can", reward_offset=-1.0)
    for episode in load_demonstrations(path, task):
        assert episode.rewards.tolist() == [-1.0] * (len(episode) - 1) + [0.0]


ARM = "env_kwargs", "controller_configs", "body_parts", "right"


def put(*keys: str, value: Any) -> Callable[[Path], None]:
    """Return what sets one entry of ``env_args``."""

    def change(said: dict[str, Any]) -> None:
        for key in keys[:-1]:
            said = said[key]
        said[keys[-1]] = value
    return with_env_args(change)


def lose(*keys: str) -> Callable[[Path], None]:
    """Return what takes one entry out of ``env_args``."""

    def change(said: dict[str, Any]) -> None:
        for key in keys[:-1]:
            said = said[key]
        del said[keys[-1]]
    return with_env_args(change)


def hole(key: str, value: float) -> Callable[[Path], None]:
    """Return what puts a value that is no number into a data set."""

    def change(file: h5py.File) -> None:
        values = file[key][()]
        values[(3, *[1] * (values.ndim - 1))] = value
        file[key][...] = values
    return edited(change)


@pytest.mark.parametrize(("damage", "said"), [
    (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "not a whole HDF5 file"),
    (lambda path: path.write_bytes(path.read_bytes()[:900]), "not a whole HDF5 file"),
    (lambda path: path.write_bytes(b""), "not a whole HDF5 file"),
    (lambda path: path.unlink(), "there is no such file"),
    (put("env_name", value="NutAssemblySquare"), "env_name NutAssemblySquare, can-task1 is"
     " PickPlaceCan; set the task's domain to square, or name another file"),
    (put("env_name", value="ToolHang"), "env_name ToolHang, can-task1 is PickPlaceCan; name"),
    (put("env_version", value="1.4.1"), "env_version 1.4.1, the environments here are robosuite"
     " 1.5: before it the numbers of obs/object came in another order, and its controllers differ;"
     " take robomimic's low_dim_v15.hdf5, run robomimic's dataset_states_to_obs"),
    (put("env_version", value="2.0.0"), "env_version 2.0.0"),
    (lose("env_version"), "env_version none"),
    (edited(lambda file: file["data"].attrs.__setitem__("env_args", "{")), "env_args of data is"
     " not JSON"),
    (edited(lambda file: file["data"].attrs.__delitem__("env_args")), "env_name none"),
    (lose("env_kwargs"), "env_kwargs None"),
    (put("env_kwargs", "robots", value=["Sawyer"]), "robots ['Sawyer'], can-task1 is recorded"
     " with one Panda"),
    (put("env_kwargs", "control_freq", value=10), "control_freq 10, can-task1 is recorded with"
     " 20"),
    (put("env_kwargs", "reward_shaping", value=True), "reward_shaping True, can-task1 is recorded"
     " with sparse rewards (robomimic's low_dim_sparse files)"),
    (put("env_kwargs", "controller_configs", value={"type": "OSC_POSE", "control_delta": True}),
     "the arm's controller None"),
    (put(*ARM, "type", value="JOINT_POSITION"), "the arm's controller 'JOINT_POSITION'"),
    (put(*ARM, "control_delta", value=False), "the controller's input None, can-task1 is recorded"
     " with steps (delta)"),
    (put(*ARM, "output_max", value=[0.1] * 6), "output_max [0.1, 0.1,"),
    (edited(lambda file: file.__delitem__("data/demo_0/obs/object")), "obs/object is missing;"
     " /data/demo_0/obs has ['robot0_eef_pos',"),
    (edited(lambda file: file.__delitem__("data/demo_2/obs/robot0_gripper_qpos")),
     "demo_2/obs/robot0_gripper_qpos is missing"),
    (edited(lambda file: file.__delitem__("data/demo_1/rewards")), "demo_1/rewards is missing"),
    (edited(lambda file: [demo.pop("obs/object") and demo.create_dataset(
        "obs/object", data=np.zeros((len(demo["actions"]), 10)))
        for demo in file["data"].values()]), "obs/object has 10 values a step, that of can-task1"
     " has 14; is it a file of another task?"),
    (instead("data/demo_1/obs/object", np.zeros((24, 10))), "demo_1/obs/object has 10 values a"
     " step, demos before it have 14"),
    (instead("data/demo_1/obs/object", np.zeros((23, 14))), "demo_1/obs/object has shape (23, 14),"
     " expected 24 rows"),
    (instead("data/demo_1/actions", np.zeros((24, 8))), "the actions have 8 values, those of"
     " can-task1 have 7"),
    (instead("data/demo_1/actions", np.full((24, 7), 1.5)), "leaves [-1, 1]; normalise"),
    (hole("data/demo_2/obs/object", np.nan), "demo_2/obs/object[3, 1] is nan; leave this demo out"
     " with a filter key"),
    (hole("data/demo_2/actions", np.inf), "demo_2/actions[3, 1] is inf"),
    (hole("data/demo_2/rewards", np.nan), "demo_2/rewards[3] is nan"),
    (hole("data/demo_2/rewards", 0.5), "has a reward of 0.5, those of can-task1 are 0 and 1"),
    (instead("data/demo_1/rewards", np.r_[np.full(23, -1.0), 0.0]), "a reward of -1, those of"),
    (edited(lambda file: file["data"].attrs.__setitem__("poco_format", [1, 2])),
     "has format array([1, 2])"),
])
def test_what_would_be_misread_is_refused_by_name(
        damage: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")
    damage(path)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize("mask", [
    np.arange(3), np.array(b"demo_0"), np.array([[b"demo_0"]]), {"demo_0": 1}],
    ids=["numbers", "one word", "a table", "a group"])
def test_a_filter_key_that_is_no_list_of_names_is_refused(mask: Any, tmp_path: Path) -> None:
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")
    with h5py.File(path, "r+") as file:
        if isinstance(mask, dict):
            file.create_group("mask/mine")
        else:
            file["mask/mine"] = mask
    with pytest.raises(DataError, match=r"/mask/mine is no list of names of demos; write the"):
        load(path, mask="mine")


@pytest.mark.parametrize(("settings", "task", "said"), [
    ({"mask": "nope"}, {}, "mask is 'nope', of those that are made there are trainable"),
    ({"episodes": 0}, {}, "no demonstrations are asked for"),
    ({}, {"reward": "staged"}, "set reward to sparse"),
    ({}, {"success_timing": "pre"}, "set reward to sparse and success_timing to post"),
])
def test_what_could_not_be_learned_from_is_not_made_first(
        settings: dict[str, Any], task: dict[str, Any], said: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred demonstrations were made, and then refused."""
    monkeypatch.chdir(tmp_path)
    wanted = DemonstrationConfig(**{"kind": "robomimic", "episodes": 200, **settings})
    with pytest.raises(DataError, match=said):
        load_demonstrations(wanted, TaskConfig(domain="can", **task), show_progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(60))
def test_a_file_that_is_broken_anywhere_is_refused_or_read(seed: int, tmp_path: Path) -> None:
    """Never another error than the one that a user can act on; half of them in the headers."""
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    begin = int(generator.integers(len(content) if seed % 2 else 20_000))
    content[begin:begin + 40] = generator.bytes(40)
    path.write_bytes(content)
    with suppress(DataError):
        assert load(path)


def test_robosuite_fifteens_own_names_are_understood(tmp_path: Path) -> None:
    """What robosuite 1.5 itself writes: arms below ``arms``, ``input_type``, one robot's name."""
    path = publish(tmp_path / "low_dim_v15.hdf5", "can")
    arm = dict(env_args("can")["env_kwargs"]["controller_configs"]["body_parts"]["right"])
    del arm["control_delta"]
    put("env_kwargs", "controller_configs", "body_parts",
        value={"arms": {"right": {**arm, "input_type": "delta"}}})(path)
    put("env_kwargs", "robots", value="Panda")(path)
    put("env_version", value="1.5.2")(path)
    assert len(load(path)) == len(LENGTHS)


@pytest.mark.parametrize(("task", "said"), [
    (TaskConfig(domain="lift"), "env_name PickPlaceCan, lift-task1 is Lift; set the task's domain"
     " to can"),
    (TaskConfig(domain="scene"), "scene-task1: RoboMimic has no such task"),
    (TaskConfig(domain="can", success_timing="pre"), "set reward to sparse and success_timing"),
    (TaskConfig(domain="can", reward="staged"), "set reward to sparse"),
])
def test_a_task_that_the_file_is_not_for_is_refused(
        task: TaskConfig, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        load_demonstrations(publish(tmp_path / "can.hdf5", "can"), task)


def test_episodes_of_something_else_in_the_same_format_are_refused(tmp_path: Path) -> None:
    """A file that this program wrote of a robot's episodes says no robosuite."""
    from recording_support import recordings

    write_robomimic(tmp_path / "robot.hdf5", recordings())
    with pytest.raises(DataError, match="env_name pick-cube, can-task1 is PickPlaceCan"):
        load(tmp_path / "robot.hdf5")


def test_a_filter_key_is_for_these_files_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mask 'train' is for demonstrations of kind robomimic"):
        load_demonstrations(DemonstrationConfig(path=tmp_path, mask="train"), TaskConfig())
    with pytest.raises(DataError, match="RoboMimic has no task scene"):
        demonstrations_path(DemonstrationConfig(kind="robomimic"), TaskConfig(domain="scene"))
