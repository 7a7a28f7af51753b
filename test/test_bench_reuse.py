"""What another bench has finished of the same configuration is taken over, not run again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench_support import begin, matrix_of, measure

from poco_ros.bench.cell_folder import BenchFolder, State
from poco_ros.bench.report import write_tables
from poco_ros.bench.reuse import done_elsewhere, take_over
from poco_ros.cli.main import main
from poco_ros.core.errors import ConfigError
from poco_ros.core.files import PREFIX

CURVE = [(0, 0.0, 40), (30_000, 5.0, 88)]


@pytest.fixture
def comparison(tmp_path: Path) -> BenchFolder:
    """Return a bench of POCO as it is: seed 0 is finished, seed 1 diverged, seed 2 begun."""
    bench, cells = begin(tmp_path / "small", matrix_of(seeds=[0, 1, 2]))
    one, two, three = cells.values()
    measure(bench, one, CURVE)
    (bench.cell(one.record).path / "policies").mkdir()
    (bench.cell(one.record).path / "policies" / "final.safetensors").write_bytes(b"weights")
    measure(bench, two, CURVE[:1], state=State.DIVERGED, message="update 3: critic/loss is nan")
    bench.cell(three.record).prepare(three, bench.data)
    bench.cell(three.record).begin_sitting(1, "")
    return bench


ABLATION = {"seeds": [0, 1, 2], "base": False, "ablations": {
    "zeta": {"key": "agent.zeta", "values": [0.3, 1.0]}}}


def test_a_value_of_an_ablation_that_the_comparison_has_is_not_run_again(
        comparison: BenchFolder, tmp_path: Path) -> None:
    bench, cells = begin(tmp_path / "ablation", matrix_of(**ABLATION))
    taken = take_over(bench, list(cells.values()), done_elsewhere([comparison.path]))
    assert [cell.record.name for cell in taken] == ["cube/poco/zeta-1.0/seed0",
                                                    "cube/poco/zeta-1.0/seed1"]
    whole, diverged, unfinished = (bench.cell(cells[f"cube/poco/zeta-1.0/seed{seed}"].record)
                                   for seed in range(3))
    assert whole.record().variant == "zeta-1.0", "it is what the new matrix calls it"
    assert (whole.path / "policies" / "final.safetensors").read_bytes() == b"weights"
    assert diverged.outcome().message == "update 3: critic/loss is nan", "it would do so again"
    assert unfinished.outcome().state is State.NEW, "what is not done there is run here"
    results = write_tables(bench)
    assert [cell.curve[-1].rate for cell in results.cells if cell.measured] == [0.88]
    text = (bench.path / "table.md").read_text()
    assert f"- 2 taken over from {comparison.path}, the same configuration and seed" in text
    assert not take_over(bench, list(cells.values()), done_elsewhere([comparison.path])), "once"


def test_what_has_begun_here_goes_on_here(comparison: BenchFolder, tmp_path: Path) -> None:
    bench, cells = begin(tmp_path / "again", matrix_of())
    (cell,) = cells.values()
    folder = bench.cell(cell.record)
    folder.prepare(cell, bench.data)
    folder.begin_sitting(2, "")
    assert not take_over(bench, [cell], done_elsewhere([comparison.path]))
    assert folder.outcome().state is State.UNFINISHED


def test_killed_while_it_copies_it_leaves_nothing_half(
        comparison: BenchFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, cells = begin(tmp_path / "again", matrix_of())
    (cell,) = cells.values()
    bench.cell(cell.record).prepare(cell, bench.data)

    def killed(source: Path, to: Path) -> None:
        to.mkdir()
        shutil.copy(source / "cell.json", to)
        raise KeyboardInterrupt

    done = done_elsewhere([comparison.path])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copytree", killed)
        take_over(bench, [cell], done)
    assert bench.cell(cell.record).outcome().state is State.NEW
    assert list(bench.path.glob(f"{PREFIX}*")) and not bench.others([cell.record])
    assert take_over(bench, [cell], done) == [cell]
    assert bench.cell(cell.record).outcome().state is State.FINISHED
    assert not list(bench.path.glob(f"{PREFIX}*"))


def test_where_a_cell_was_measured_first_stays_known(comparison: BenchFolder,
                                                     tmp_path: Path) -> None:
    source = comparison
    for name in ("second", "third"):
        bench, cells = begin(tmp_path / name, matrix_of())
        assert take_over(bench, list(cells.values()), done_elsewhere([source.path]))
        source = bench
    (cell,) = cells.values()
    assert source.cell(cell.record).outcome().measured_in == str(comparison.path)


def test_the_command_lists_and_takes_what_is_there(
        comparison: BenchFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = tmp_path / "again.yaml"
    matrix.write_text("seeds: [0]\ntasks: {cube: {preset: cpu_cube_single}}\n"
                      "algorithms: {poco: {}}\n")
    words = ["bench", str(matrix), "--out", str(tmp_path / "out"), "--reuse",
             str(comparison.path)]
    assert main([*words, "--dry-run"]) == 0
    assert f"to be taken over from {comparison.path}" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "taken over: cube/poco/base/seed0" in said and "1 finished" in said
    with pytest.raises(ConfigError, match="holds no bench"):
        done_elsewhere([tmp_path / "nothing"])
