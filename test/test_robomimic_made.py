"""``poco data robomimic``: a file that robomimic reads, a function of its seed, safe to interrupt.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from poco_ros.bringup.sim_scene import SimSceneArguments, resolve
from poco_ros.cli.main import main
from poco_ros.core.config import to_dict
from poco_ros.core.errors import DataError
from poco_ros.core.robomimic import ROBOMIMIC_TASKS
from poco_ros.core.task import TaskConfig
from poco_ros.data import DemonstrationConfig
from poco_ros.data.config import RobomimicConfig
from poco_ros.data.demonstrations import demonstrations_path, load_demonstrations
from poco_ros.data.directed.robomimic.demonstrator import RobomimicDemonstrator
from poco_ros.data.directed.robomimic.operators import MASKS
from poco_ros.data.robomimic_made import generate_robomimic, make_demo, split_of
from poco_ros.data.robomimic_sets import load_robomimic
from poco_ros.preset import load_preset
from sim_bridge.quiet import quiet_import
from sim_bridge.robosuite_env import ENVIRONMENTS

pytestmark = pytest.mark.xdist_group("robomimic made")  # fixtures are made once

with quiet_import():
    import robosuite

COUNT = 6
TASK = TaskConfig(domain="lift")


def settings(**changes: Any) -> RobomimicConfig:
    return RobomimicConfig(**{"task": "lift", "num_trajs": COUNT, "noise": 0.3, **changes})


def contents(path: Path) -> dict[str, Any]:
    """Return every data set and attribute of a file."""
    found: dict[str, Any] = {}

    def visit(name: str, thing: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": str(value) for key, value in thing.attrs.items()})
        if isinstance(thing, h5py.Dataset):
            found[name] = thing[()].tobytes() if thing.shape else str(thing[()])

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two workers."""
    path = tmp_path_factory.mktemp("robomimic") / "lift.hdf5"
    return generate_robomimic(settings(), path, workers=2, show_progress=False)


def test_the_layout_is_the_published_one(made: Path) -> None:
    with h5py.File(made) as file:
        data = file["data"]
        assert set(data) == {f"demo_{index}" for index in range(COUNT)}
        assert data.attrs["total"] == sum(len(demo["actions"]) for demo in data.values())
        for demo in data.values():
            steps = demo.attrs["num_samples"]
            assert demo["actions"].shape == (steps, 7)
            assert demo["states"].shape == (steps, 32) and demo["states"].dtype == np.float64
            assert demo["rewards"][()].tolist() == [0.0] * (steps - 1) + [1.0]
            assert demo["dones"][()].tolist() == [0] * (steps - 1) + [1]
            for group in ("obs", "next_obs"):
                assert {part: demo[group][part].shape for part in demo[group]} == {
                    part: (steps, size) for part, size in ROBOMIMIC_TASKS["lift"].layout.parts}
            np.testing.assert_array_equal(demo["obs/object"][1:], demo["next_obs/object"][:-1])
            assert demo.attrs["model_file"].startswith("<mujoco model=\"base\">")


def test_filter_keys_name_operators_their_groups_and_a_split(made: Path) -> None:
    with h5py.File(made) as file:
        masks = {name: {demo.decode() for demo in file[f"mask/{name}"]} for name in file["mask"]}
        every = set(file["data"])
    assert masks["train"] | masks["valid"] == every and not masks["train"] & masks["valid"]
    assert len(masks["valid"]) == 1, "a tenth of six, rounded"
    for group in ("better", "okay", "worse"):
        assert masks[group] == masks[f"{group}_operator_1"] | masks[f"{group}_operator_2"]
        assert len(masks[group]) == 2
    assert masks["better"] | masks["okay"] | masks["worse"] == masks["successful"] == every
    assert set(masks) <= set(MASKS), "a mask that a file may have is no mistake"
    some = load_robomimic(made, TASK, "better")
    assert [episode.notes[0] for episode in some] == ["better_operator_1", "better_operator_2"]


def test_robomimic_can_make_the_environment_again_and_look_at_every_state(made: Path) -> None:
    """As its dataset_states_to_obs does: from env_args, model_file and states alone."""
    with h5py.File(made) as file:
        said = json.loads(file["data"].attrs["env_args"])
        demo = file["data/demo_1"]
        model, states = demo.attrs["model_file"], demo["states"][()]
        seen = {part: demo[f"obs/{part}"][()] for part in demo["obs"]}
    assert (said["env_name"], said["type"]) == ("Lift", 1)
    assert said["env_version"] == robosuite.__version__
    simulator = robosuite.make(said["env_name"], renderer="mujoco", **said["env_kwargs"])
    simulator.reset()
    simulator.reset_from_xml_string(simulator.edit_model_xml(model))
    for step in range(0, len(states), 5):
        simulator.sim.set_state_from_flattened(states[step])
        simulator.sim.forward()
        observed = simulator._get_observations(force_update=True)
        for part, values in seen.items():
            name = "object-state" if part == "object" else part
            # What is observed while stepping is the state of the last substep but one.
            np.testing.assert_allclose(observed[name], values[step], atol=2e-3)
    simulator.close()


def test_a_demonstration_does_not_depend_on_workers_and_order(made: Path) -> None:
    environment = ENVIRONMENTS["lift"](TASK)
    wanted = settings()
    people = RobomimicDemonstrator(environment, wanted.noise, wanted.noise_smoothing,
                                   wanted.attempts)
    episodes = load_robomimic(made, TASK)
    for index in (4, 0):
        alone = make_demo(environment, people, wanted, index)
        assert alone.episode.to_bytes() == episodes[index].to_bytes()
    environment.close()


MAKE = """
import sys
from pathlib import Path
from poco_ros.core.config import from_dict
from poco_ros.data.config import RobomimicConfig
from poco_ros.data.robomimic_made import generate_robomimic
generate_robomimic(from_dict(RobomimicConfig, eval(sys.argv[1])), Path(sys.argv[2]), 1, False)
"""


def test_kill_9_loses_only_what_was_in_work(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "killed.hdf5"
    parts = path.with_suffix(".parts")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    maker = subprocess.Popen([sys.executable, "-c", MAKE, repr(to_dict(settings())), str(path)],
                             env=environment)
    end = time.monotonic() + 120.0
    while not list(parts.glob("0*.npz")) and time.monotonic() < end:
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert list(parts.glob("0*.npz")) and not path.exists()
    generate_robomimic(settings(), path, workers=1, show_progress=False)
    assert contents(path) == contents(made) and not parts.exists()


def test_what_is_there_is_not_made_again_and_other_settings_are_refused(
        made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, begun = made.stat().st_mtime_ns, time.monotonic()
    with monkeypatch.context() as read_only:
        read_only.setattr("fcntl.flock", lambda *_: pytest.fail("none is needed"))
        assert generate_robomimic(settings(), made, show_progress=False) == made
    assert made.stat().st_mtime_ns == before and time.monotonic() - begun < 0.5
    with pytest.raises(DataError, match=r"noise = 0\.3, now asked for 0\.1"):
        generate_robomimic(settings(noise=0.1), made, show_progress=False)
    foreign = tmp_path / "low_dim_v15.hdf5"
    foreign.write_bytes(b"theirs")
    with pytest.raises(DataError, match="was not made here"):
        generate_robomimic(settings(), foreign, show_progress=False)
    assert foreign.read_bytes() == b"theirs"
    with pytest.raises(DataError, match=r"must end in \.hdf5"):
        generate_robomimic(settings(), tmp_path / "lift.npz", show_progress=False)


def test_what_a_stop_left_unchecked_is_checked_and_its_pieces_go(
        made: Path, tmp_path: Path) -> None:
    out = tmp_path / made.name
    out.with_suffix(".yaml").write_bytes(made.with_suffix(".yaml").read_bytes())
    parts = out.with_suffix(".parts")
    parts.mkdir()
    whole = made.read_bytes()
    out.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(DataError, match=r"lift\.hdf5: not a whole"):
        generate_robomimic(settings(), out, show_progress=False)
    assert parts.exists()
    out.write_bytes(whole)
    assert generate_robomimic(settings(), out, show_progress=False) == out
    assert not parts.exists()


@pytest.mark.parametrize(("demos", "share", "held_out"), [
    (1, 0.1, 0), (2, 0.1, 1), (5, 0.1, 1), (20, 0.1, 2), (5, 0.0, 0)])
def test_some_of_several_demonstrations_are_held_out(
        demos: int, share: float, held_out: int) -> None:
    split = split_of(settings(num_trajs=demos, valid_share=share))
    assert len(split) == demos and split.count("valid") == held_out
    assert split.count("train") == demos - held_out


def test_failures_are_kept_or_made_good() -> None:
    """Of those who err much and try once: kept, some fail; else the same ones do not."""
    environment = ENVIRONMENTS["lift"](TASK)
    people = RobomimicDemonstrator(environment, 0.5, 2.0, 1)

    def succeeds(index: int, keep: bool) -> bool:
        wanted = settings(keep_failures=keep, noise=0.5, attempts=1)
        return make_demo(environment, people, wanted, index).episode.success

    worse = (17, 16, 11, 10, 5, 4)
    failed = next(index for index in worse if not succeeds(index, keep=True))
    assert succeeds(failed, keep=False)
    environment.close()


def test_a_preset_makes_what_it_needs_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = DemonstrationConfig(kind="robomimic", episodes=2, noise=0.1, noise_smoothing=2.0,
                                 attempts=3, keep_failures=True)
    path = demonstrations_path(wanted, TASK)
    assert path.parent == Path("runs/data") and path.name.startswith("lift-robomimic-")
    assert path != demonstrations_path(wanted, TaskConfig(domain="can"))
    episodes = load_demonstrations(wanted, TASK, workers=1, show_progress=False)
    assert len(episodes) == 2 and path.exists()
    again = load_demonstrations(wanted, TASK, show_progress=False)
    assert [e.to_bytes() for e in again] == [e.to_bytes() for e in episodes]

    copy = tmp_path / "elsewhere" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    copied = load_demonstrations(dataclasses.replace(wanted, path=copy), TASK)
    assert [e.to_bytes() for e in copied] == [e.to_bytes() for e in episodes], "without its .yaml"


@pytest.mark.parametrize(("domain", "zeta", "demos"), [
    ("lift", 0.15, 300), ("can", 0.3, 30), ("square", 0.08, 300)])
def test_presets_and_launch_know_the_tasks(
        domain: str, zeta: float, demos: int, tmp_path: Path) -> None:
    paper, small = load_preset(f"paper_{domain}"), load_preset(f"cpu_{domain}")
    assert paper.task == small.task == TaskConfig(domain=domain)
    assert {paper.demonstrations.kind, small.demonstrations.kind} == {"robomimic"}
    assert (paper.agent.zeta, paper.demonstrations.episodes) == (zeta, demos)
    assert (paper.agent.eta, paper.agent.beta, paper.agent.hidden_dim) == (0.001, 1.0, 512)
    resolved = resolve(SimSceneArguments(task=domain, run_dir=str(tmp_path / "run")))
    assert Path(resolved.preset).name == f"cpu_{domain}.yaml"


def test_the_command_says_what_it_made(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "robomimic", "--task", "lift", "--num-trajs", "2", "--noise", "0",
                 "--workers", "1"]) == 0
    told = capsys.readouterr().out
    path = next(word for word in told.split() if word.startswith("runs/data/lift-robomimic-"))
    assert Path(path).suffix == ".hdf5" and "2, of which 2 succeed (100%)" in told
    assert main(["data", "inspect", path]) == 0
    assert "lift-task1" in capsys.readouterr().out
    assert main(["data", "convert", path, "episodes"]) == 0
    assert len(load_demonstrations(tmp_path / "episodes", TASK)) == 2
