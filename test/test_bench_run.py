"""``poco bench`` at work: real cells in real processes, killed, stopped, diverged, and gone on
with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from bench_support import begin, matrix_of

from poco_ros.bench.cell_folder import BenchFolder, CellFolder, Outcome, State
from poco_ros.bench.engine import cell_environment
from poco_ros.bench.matrix import load_matrix
from poco_ros.bench.results import read_results
from poco_ros.core.config import to_yaml
from poco_ros.core.errors import ConfigError
from poco_ros.core.tables import read_rows
from poco_ros.learning.checkpoint import load_checkpoint
from poco_ros.preset import load_preset
from poco_ros.run_folder import CLONED, FINETUNED, RunFolder

pytestmark = [pytest.mark.xdist_group("bench at work"),  # fixtures are made once
              pytest.mark.timeout(1500)]
PATIENCE = 600.0
"""Half a minute is usual for the longest of it; a machine that is busy elsewhere takes minutes."""


def start(*words: str | Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start ``poco bench`` in a session of its own."""
    return subprocess.Popen([*prefix, sys.executable, "-m", "poco_ros.cli.main", "bench",
                             *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end; return exit code and output."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert "Traceback" not in output, output
    return process.returncode, output


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition while ``process`` runs."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, f"ended first: {process.communicate()[0]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def cells_of(out: Path) -> list[CellFolder]:
    bench = BenchFolder(out)
    return [bench.cell(record) for record in bench.read_index()[1]]


def has_episode(out: Path, number: int, before: int = 0) -> Callable[[], bool]:
    """Return whether cell ``number`` has made more than ``before`` episodes online."""
    def made() -> bool:
        if not (out / "cells.json").exists():
            return False
        return len(list(cells_of(out)[number].run.episodes.glob("*.safetensors"))) > before
    return made


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the process of the cell that a bench runs."""
    path = Path(f"/proc/{process.pid}/task")
    (child,) = {int(pid) for task in path.iterdir()
                for pid in (task / "children").read_text().split()}
    return child


@pytest.fixture(scope="module")
def half_diverged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two cells at a time: bc of the smoke matrix, and a poco whose rewards no float can sum."""
    folder = tmp_path_factory.mktemp("diverged")
    values = yaml.safe_load(to_yaml(load_matrix("smoke")))
    wild = values["algorithms"].pop("poco")
    wild["overrides"]["task"] = {"reward_offset": 1e38}
    values["algorithms"]["wild"] = {**wild, "algorithm": "poco"}
    matrix = folder / "matrix.yaml"
    matrix.write_text(yaml.safe_dump(values))
    code, output = end(start(matrix, "--out", folder / "out", "--jobs", "2"))
    assert code == 1 and "1 finished, 1 diverged" in output, output
    return matrix, folder / "out"


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_repeats_nothing(half_diverged: tuple[Path, Path],
                                                        tmp_path: Path) -> None:
    """Ctrl-C and kill -9 of the bench in the first cell, kill -9 of the second cell itself."""
    out = tmp_path / "smoke"
    words = ("smoke", "--out", out, "--jobs", "1")

    bench = start(*words)
    wait_until(has_episode(out, 0), bench)
    os.killpg(bench.pid, signal.SIGINT)  # as a terminal does
    code, output = end(bench)
    assert code == 130 and "the same command goes on where it stopped" in output
    first, second = cells_of(out)
    assert first.outcome().state is State.UNFINISHED and second.outcome().state is State.NEW
    assert first.run.has_checkpoint, "Ctrl-C saves"
    made = len(list(first.run.episodes.glob("*.safetensors")))

    bench = start(*words)
    wait_until(has_episode(out, 0, before=made), bench)
    os.kill(bench.pid, signal.SIGKILL)
    bench.communicate()

    bench = start(*words)  # it waits until the cell that was left behind has saved and gone
    wait_until(lambda: first.outcome().state is State.FINISHED, bench)
    wait_until(has_episode(out, 1), bench)
    os.kill(child_of(bench), signal.SIGKILL)
    code, output = end(bench)
    assert code == 1 and "1 finished, 1 failed" in output
    outcome = second.outcome()
    assert outcome.state is State.FAILED and "SIGKILL" in outcome.message
    assert any("warming up the critic" in line for line in outcome.log), "the end of its log"
    assert "failed: its process was killed by SIGKILL" in (out / "table.md").read_text()

    whole = (first.path / "outcome.json").read_bytes()
    bench = start(*words, prefix=("nohup",))
    wait_until(lambda: len(second.sittings()) == 2, bench)
    os.kill(bench.pid, signal.SIGHUP)  # the terminal is closed, which nohup said not to mind
    code, output = end(bench)
    assert code == 0 and "1 done before" in output, output
    assert len(first.sittings()) == 3 and len(second.sittings()) == 2
    assert (first.path / "outcome.json").read_bytes() == whole, "finished cells are not repeated"
    rows = read_rows(out / "results.csv")
    assert [row["step"] for row in rows] == ["0", "60", "120", "150"] * 2
    assert {row["state"] for row in rows} == {"finished"}
    assert (out / "success_steps.png").stat().st_size > 10_000

    uninterrupted, _ = cells_of(half_diverged[1])
    assert uninterrupted.record().hash == second.record().hash
    for policy in (CLONED, FINETUNED):
        assert second.run.load_policy(policy).to_bytes() == \
            uninterrupted.run.load_policy(policy).to_bytes(), "the same run, bit for bit"

    data = list((out / "data").glob("*/*.safetensors"))
    assert len(data) == 3, "both have learned from one set of demonstrations"
    assert len({load_checkpoint(cell.run.checkpoint).words["demonstrations"]
                for cell in (first, second)}) == 1

    listed = subprocess.run([sys.executable, "-m", "poco_ros.cli.main", "bench", "smoke", "--out",
                             str(out), "--dry-run"], capture_output=True, text=True, check=True)
    assert listed.stdout.count("finished   cube-single/") == 2, listed.stdout


def test_a_cell_that_diverges_is_stopped_and_the_rest_goes_on(
        half_diverged: tuple[Path, Path]) -> None:
    matrix, out = half_diverged
    good, bad = cells_of(out)
    assert good.outcome() == Outcome(State.FINISHED)
    assert bad.outcome().state is State.DIVERGED
    assert bad.outcome().message.startswith("update 31: critic/loss"), "why"
    assert [row["policy"] for row in bad.run.read_evaluations()] == [CLONED], "how good until then"
    assert bad.run.has_checkpoint and read_rows(bad.run.metrics), "what it was until then is kept"
    assert "diverged: update" in (out / "table.md").read_text()
    code, _ = end(start(matrix, "--out", out, "--jobs", "2"))
    assert code == 1, "not all is done"
    assert len(good.sittings()) == len(bad.sittings()) == 1, "the same run would diverge again"
    together = {cell.cells_at_once for cell in read_results(BenchFolder(out)).cells}
    assert together == {("2",)}, "minutes depend on how many ran at a time"


def test_wrong_arguments_are_refused_before_anything_runs(tmp_path: Path) -> None:
    for words, message in (
            (("nowhere",), "no matrix 'nowhere': neither a file nor one of"),
            (("smoke", "--only", "qc"), "--only qc: no cell is left"),
            (("smoke", "--jobs", "-1"), "at least one cell at a time"),
            ((), "name a matrix, such as small")):
        code, output = end(start(*words, "--out", tmp_path / "out"))
        assert code == 2 and message in output
    assert not (tmp_path / "out").exists()


def test_one_bench_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with BenchFolder(tmp_path).alone():
        with pytest.raises(ConfigError, match="another poco bench works there"):
            with BenchFolder(tmp_path).alone():
                pass
    with BenchFolder(tmp_path).alone():
        pass


def test_configurations_are_never_mixed_in_a_folder(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path / "bench", matrix_of())
    (cell,) = cells.values()
    folder = bench.cell(cell.record)
    folder.prepare(cell, bench.data)
    folder.prepare(cell, bench.data)
    assert not folder.check_run(), "nothing has begun"
    folder.run.begin(load_preset(folder.preset), cell.record.seed)
    assert folder.check_run()

    _, others = begin(tmp_path / "bench", matrix_of(overrides={"agent": {"lr": 0.5}}))
    (other,) = others.values()
    assert bench.cell(other.record).path != folder.path, "another configuration, another folder"
    with pytest.raises(ConfigError, match=f"is of the configuration {cell.record.hash}"):
        folder.prepare(other, bench.data)

    text = folder.run.config.read_text()
    folder.run.config.write_text(text.replace("zeta: 1.0", "zeta: 0.5"))
    with pytest.raises(ConfigError, match="results are never mixed"):
        folder.check_run()
    folder.run.config.write_text(text)
    run = folder.path / "run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "seed": 7}))
    with pytest.raises(ConfigError, match="results are never mixed"):
        folder.check_run()


def test_a_bench_may_be_moved_to_another_place(tmp_path: Path) -> None:
    """Its unfinished runs find their demonstrations there."""
    bench, cells = begin(tmp_path / "here", matrix_of())
    (cell,) = cells.values()
    folder = bench.cell(cell.record)
    folder.prepare(cell, bench.data)
    folder.run.begin(load_preset(folder.preset), cell.record.seed)
    bench.path.rename(tmp_path / "there")
    bench = BenchFolder(tmp_path / "there")
    moved = bench.cell(cell.record)
    moved.prepare(cell, bench.data)
    assert moved.check_run()
    assert moved.run.load_preset().demonstrations.path.parent == tmp_path / "there" / "data"


def test_a_run_that_was_killed_while_it_began_can_begin_again(tmp_path: Path) -> None:
    """Its settings are written last: a folder that has them has its seed too."""
    _, cells = begin(tmp_path / "bench", matrix_of())
    (cell,) = cells.values()
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    (folder.path / "run.json").write_text('{"seed": 5}')  # and killed here
    folder.begin(cell.preset, 3)
    assert folder.seed() == 3
    with pytest.raises(ConfigError, match="holds a run with seed 3, not 5"):
        folder.begin(cell.preset, 5)


def test_cells_take_graphics_cards_in_turn() -> None:
    cards = [cell_environment(slot, ["0", "3"])["CUDA_VISIBLE_DEVICES"] for slot in range(5)]
    assert cards == ["0", "3", "0", "3", "0"]
    assert "CUDA_VISIBLE_DEVICES" not in cell_environment(0, [])
    assert cell_environment(0, [])["OMP_NUM_THREADS"] == "1"
