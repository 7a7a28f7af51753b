"""A command that runs a graph as one of its steps never leaves that graph behind."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from graph_support import PATIENCE, write_preset

from poco_ros.cli.graph_run import resumable
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.processes import STOP_SIGNALS, stops_handled
from poco_ros.run_folder import RunFolder


def processes_with(words: str) -> list[str]:
    """Return the command lines of the processes that have ``words`` in theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # ended meanwhile
        if words in line:
            found.append(line)
    return found


def wait_until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_what_asks_to_stop_is_handled_and_afterwards_is_as_before(number: signal.Signals) -> None:
    before, handled = signal.getsignal(number), []
    with stops_handled(lambda number, _: handled.append(number)):
        signal.raise_signal(number)
    assert handled == [number] and signal.getsignal(number) == before


def test_under_nohup_a_closed_terminal_is_no_reason_to_stop() -> None:
    before, handled = signal.signal(signal.SIGHUP, signal.SIG_IGN), []
    try:
        with stops_handled(lambda number, _: handled.append(number)):
            signal.raise_signal(signal.SIGHUP)
        assert not handled
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("words", "run_dir", "goes_on"), [
    (["sim", "--seed", "3"], None, "poco sim --seed 3 --run-dir 'runs/of mine'"),
    (["rehearse", "--run-dir", "runs/of mine"], Path("runs/of mine"),
     "poco rehearse --run-dir 'runs/of mine'")])
def test_who_interrupts_a_command_is_told_which_one_goes_on(
        words: list[str], run_dir: Path | None, goes_on: str) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt), resumable(
            argparse.Namespace(words=words, run_dir=run_dir), Path("runs/of mine"), said.append):
        raise KeyboardInterrupt
    assert said == [f"what is done is kept; go on with {goes_on}"]


@pytest.mark.graph
@pytest.mark.slow
@pytest.mark.parametrize("number, code", [
    (signal.SIGHUP, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["SIGHUP", "SIGKILL"])
def test_the_graph_saves_and_ends_with_its_command(number: signal.Signals, code: int,
                                                   tmp_path: Path) -> None:
    """By a closed terminal, or by ``kill -9``: no orphan, nothing lost."""
    preset = write_preset(tmp_path / "tiny.yaml", {
        "train": {"online_steps": 100_000, "checkpoint_every": 1_000_000},
        "demonstrations": {"episodes": 2, "path": str(tmp_path / "demonstrations")}})
    run = RunFolder(tmp_path / "run")
    command = subprocess.Popen(
        [sys.executable, "-m", "poco_ros.cli.main", "sim", "--preset", str(preset), "--run-dir",
         str(run.path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(100 + os.getpid() % 100)})
    namespace = f"poco_sim_scene_{command.pid}"
    wait_until(lambda: len(list(run.episodes.glob("*.safetensors"))) >= 2,
               lambda: (run.path / "graph.log").read_text())
    assert len(processes_with(namespace)) >= 3, "the launcher and its nodes"

    command.send_signal(number)
    output, _ = command.communicate(timeout=2 * PATIENCE)
    assert command.returncode == code, output
    if code > 0:
        assert "stopping the graph; it saves what it has" in output
        assert "what is done is kept; go on with poco sim --preset" in output
        assert not processes_with(namespace), "it has ended before the command does"
    wait_until(lambda: not processes_with(namespace), lambda: processes_with(namespace))
    assert run.has_checkpoint and len(EpisodeStore(run.episodes)) >= 2, "it has saved"
