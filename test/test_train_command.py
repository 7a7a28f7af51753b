"""``poco train`` and ``poco eval``: real environments in real worker processes, end to end."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from poco_ros.cli.main import main
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.learning.policies import policy_from_bytes
from poco_ros.run_folder import RunFolder

pytestmark = pytest.mark.xdist_group("train and eval")  # fixtures are made once
PRESET = {
    "task": {"domain": "cube-single", "max_episode_steps": 30},
    "demonstrations": {"kind": "directed", "episodes": 3},
    "agent": {"hidden_dim": 16, "num_layers": 2, "num_candidates": 4, "flow_steps": 3,
              "batch_size": 16, "normalize_observations": True, "zeta": 1.0},
    "train": {"offline_steps": 30, "offline_objective": "bc", "critic_warmup": 40, "utd": 0.5,
              "online_steps": 150, "eval_every": 60, "eval_episodes": 2, "log_every": 20,
              "checkpoint_every": 25},
}


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preset")
    values = {**PRESET, "demonstrations": {**PRESET["demonstrations"],
                                           "path": str(folder / "demonstrations")}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def poco(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in this process, with its workers in processes of their own."""
    words = [str(argument) for argument in arguments]
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            code = main(words)
        except SystemExit as end:  # argparse refuses
            code = int(end.code or 0)
    done = subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def whole_run(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, shared by the tests below."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    poco("train", "--preset", preset, "--seed", "3", "--run-dir", run, "--workers", "1")
    return run


def test_a_run_leaves_everything_that_is_needed_to_understand_it(whole_run: Path) -> None:
    folder = RunFolder(whole_run)
    assert folder.load_preset().agent.hidden_dim == 16 and folder.seed() == 3
    assert {"git_revision", "command", "versions"} <= set(yaml.safe_load(
        (whole_run / "run.json").read_text()))
    policies = {path.stem for path in folder.policies.iterdir()}
    assert {"cloned", "finetuned", "latest"} <= policies
    assert any(name.startswith("steps-") for name in policies)
    rows = list(csv.DictReader((whole_run / "metrics.csv").open()))
    assert [row["stage"] for row in rows[:1]] == ["offline"]
    assert rows[-1]["poco/effective_candidates"] != ""
    evaluations = folder.read_evaluations()
    assert {"cloned", "finetuned"} <= {row["policy"] for row in evaluations}
    assert all(row["episodes"] == "2" for row in evaluations)
    assert list((whole_run / "tensorboard").iterdir())
    steps = sum(len(episode) for episode in EpisodeStore(folder.episodes))
    assert steps >= 150


def test_kill_9_and_resume_is_the_same_run_bit_for_bit(whole_run: Path, preset: Path,
                                                       tmp_path: Path) -> None:
    """Killed twice, once between two episodes' updates; weights and episodes come out equal.

    What is killed, and what goes on, is the command in a process of its own.
    """
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "poco_ros.cli.main", "train", "--preset", str(preset),
               "--seed", "3", "--run-dir", str(run), "--workers", "1"]
    for episodes in (2, 4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 100
        while len(list((run / "episodes").glob("*.safetensors"))) < episodes:
            assert process.poll() is None, process.stderr.read().decode()  # type: ignore
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if "--resume" not in command:
            command.append("--resume")
    subprocess.run(command, capture_output=True, check=True, timeout=150)
    whole = RunFolder(whole_run)
    again = RunFolder(run)
    for name in ("cloned", "finetuned"):
        assert again.load_policy(name).to_bytes() == whole.load_policy(name).to_bytes()
    first, second = EpisodeStore(whole.episodes), EpisodeStore(again.episodes)
    assert first.ids == second.ids
    assert all(a.to_bytes() == b.to_bytes() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("words", [
    ["--algorithm", "dppo", "--sync-lag", "0", "--round-episodes", "3", "--minibatch-size", "8",
     "--warmup-rounds", "0", "--online-steps", "140"],
    ["--algorithm", "qc", "--sync-lag", "2", "--critic-warmup", "10"]], ids=["dppo", "qc"])
def test_the_weights_do_not_depend_on_how_many_act_at_a_time(words: list[str], preset: Path,
                                                             tmp_path: Path) -> None:
    """One actor, or three that are ahead when the last step is made: the same run."""
    found = []
    for actors in ("1", "3"):
        run = tmp_path / actors
        poco("train", "--preset", preset, "--seed", "3", "--run-dir", run, "--eval-every", "0",
             "--actors", actors, *words)
        folder = RunFolder(run)
        episodes = EpisodeStore(folder.episodes)
        found.append((folder.load_policy("finetuned").to_bytes(),
                      [episode.to_bytes() for episode in episodes]))
    assert found[0] == found[1]
    assert len(found[0][1]) == 5
    rows = list(csv.DictReader((tmp_path / "1" / "metrics.csv").open()))
    left_out = {row["ppo/left_out"] for row in rows if row.get("ppo/left_out")}
    assert left_out == ({"0"} if "dppo" in words else set()), "every chunk could be followed"


def test_a_lag_that_an_algorithm_cannot_have_is_refused(preset: Path, tmp_path: Path) -> None:
    done = poco("train", "--preset", preset, "--algorithm", "reinflow", "--run-dir",
                tmp_path / "run", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "set sync_lag to 0" in done.stderr
    assert not (tmp_path / "run").exists(), "refused before the run has begun"


def test_ctrl_c_saves_and_says_how_to_go_on(preset: Path, tmp_path: Path) -> None:
    run = tmp_path / "interrupted"
    process = subprocess.Popen(
        [sys.executable, "-m", "poco_ros.cli.main", "train", "--preset", str(preset),
         "--run-dir", str(run), "--online-steps", "100000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    deadline = time.monotonic() + 100
    while not list((run / "episodes").glob("*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to workers as well
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert f"poco train --resume --run-dir {run}" in output
    assert (run / "checkpoint" / "LATEST").exists()
    assert "Traceback" not in output


def test_stages_can_be_run_one_by_one(whole_run: Path, preset: Path, tmp_path: Path) -> None:
    """Offline, then online with --resume: the same run as both at once."""
    run = tmp_path / "staged"
    poco("train", "--preset", preset, "--seed", "3", "--run-dir", run, "--stage", "offline")
    assert not list((run / "episodes").glob("*.safetensors"))
    poco("train", "--preset", preset, "--run-dir", run, "--stage", "online", "--resume")
    assert RunFolder(run).load_policy("finetuned").to_bytes() == \
        RunFolder(whole_run).load_policy("finetuned").to_bytes()


@pytest.mark.parametrize("arguments, message", [
    (["--preset", "nowhere"], "no preset 'nowhere'"),
    (["--resume", "--run-dir", "nowhere"], "nowhere holds no run"),
    (["--stage", "online", "--run-dir", "{tmp}/x"], "no policy to start from"),
    (["--checkpoint", "nowhere.safetensors", "--run-dir", "{tmp}/y"], "no policy there"),
    (["--flow-steps", "0"], "--flow-steps"),
    (["--task", "kitchen"], "--task"),
    (["--task", "robot"], "--task"),
    (["--seed", "-1"], "--seed"),
    (["--workers", "0"], "--workers"),
    (["--device", "gpu", "--run-dir", "{tmp}/z"], "train.device is 'gpu', which torch does not"),
])
def test_wrong_arguments_are_refused_in_one_clear_line(
        arguments: list[str], message: str, preset: Path, tmp_path: Path) -> None:
    words = [word.format(tmp=tmp_path) for word in arguments]
    if "--preset" not in words and "--resume" not in words:
        words += ["--preset", str(preset)]
    done = poco("train", *words, check=False)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--episodes", "-5"], ["--seed", "-1"], ["--workers", "0"]])
def test_an_evaluation_of_nothing_is_refused(words: list[str], whole_run: Path) -> None:
    before = (whole_run / "evaluations.csv").read_bytes()
    done = poco("eval", whole_run, *words, check=False)
    assert done.returncode == 2 and words[0] in done.stderr
    assert (whole_run / "evaluations.csv").read_bytes() == before


def test_poco_sim_needs_both_stages(preset: Path, tmp_path: Path) -> None:
    """There would be nothing to compare."""
    values = yaml.safe_load(preset.read_text())
    values["train"]["online_steps"] = 0
    path = tmp_path / "offline.yaml"
    path.write_text(yaml.safe_dump(values))
    done = poco("sim", "--preset", path, "--run-dir", tmp_path / "run", check=False)
    assert done.returncode == 2 and "must both be above 0" in done.stderr
    assert not (tmp_path / "run").exists()


def test_evaluations_of_other_episodes_stand_beside_those_of_the_run(whole_run: Path,
                                                                     tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    for name in list((run / "policies").iterdir()):
        if name.stem not in ("cloned", "finetuned"):
            name.unlink()
    before = RunFolder(run).read_evaluations()
    poco("eval", run, "--episodes", "3", "--workers", "1")
    after = RunFolder(run).read_evaluations()
    assert all(row in after for row in before) and len(after) == len(before) + 2
    poco("plot", run)
    assert (run / "curve.png").stat().st_size > 10_000


def test_a_policy_of_another_task_is_refused(whole_run: Path, tmp_path: Path) -> None:
    policy = whole_run / "policies" / "finetuned.safetensors"
    done = poco("eval", policy, "--preset", "paper_scene", "--episodes", "1", check=False)
    assert done.returncode == 2
    assert "is a policy for cube-single-task1, not for scene-task1" in done.stderr


def test_evaluation_is_the_same_with_any_number_of_workers(whole_run: Path, preset: Path) -> None:
    policy = whole_run / "policies" / "cloned.safetensors"
    assert policy_from_bytes(policy.read_bytes()).version == 31
    outputs = {poco("eval", policy, "--preset", preset, "--episodes", "3", "--seed", "5",
                    "--workers", workers).stdout for workers in ("1", "2")}
    assert len(outputs) == 1
