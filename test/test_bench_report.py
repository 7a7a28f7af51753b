"""Tables and figures of a bench, from results that were worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bench_support import begin, matrix_of, measure, measure_all
from matplotlib.axes import Axes
from PIL import Image

from poco_ros.bench.anchors import Anchors, load_anchors
from poco_ros.bench.cell_folder import BenchFolder, State
from poco_ros.bench.figures import draw_ablation, draw_success, draw_variants
from poco_ros.bench.report import write_report, write_tables
from poco_ros.bench.results import BenchResults, read_results
from poco_ros.bench.table import minute_marks, minutes_text
from poco_ros.cli.main import main
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.core.tables import read_rows, write_rows
from poco_ros.run_folder import CLONED

TWO = {"poco": {}, "bc": {}}
SHORT = {"train": {"online_steps": 20, "eval_every": 10}}


def rows_of(table: str, task: str) -> list[list[str]]:
    """Return the cells of every row of a task's tables, without the heads."""
    section = table.split(f"## {task}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines() if line.startswith("| ") and "---" not in line]


@pytest.fixture
def measured(tmp_path: Path) -> BenchFolder:
    """Two algorithms, two seeds, one task, by hand."""
    bench, cells = begin(tmp_path / "bench", matrix_of(
        title="By hand", seeds=[0, 1], algorithms=TWO, overrides=SHORT))
    measure_all(bench, cells, {
        "cube/poco/base/seed0": [(0, 1.0, 40), (13, 2.0, 20), (25, 3.0, 90)],
        "cube/poco/base/seed1": [(0, 1.0, 60), (12, 2.5, 96), (21, 5.0, 100)],
        "cube/bc/base/seed0": [(0, 1.0, 50), (11, 2.0, 50), (22, 4.0, 40)],
        "cube/bc/base/seed1": [(0, 1.0, 50), (10, 2.0, 30), (20, 4.0, 60)]})
    return bench


def test_the_table_says_what_was_worked_out_by_hand(measured: BenchFolder) -> None:
    results = write_tables(measured)
    assert results.done
    table = (measured.path / "table.md").read_text()
    assert table.startswith("# By hand\n") and "4 of 4 runs are finished" in table
    rows = rows_of(table, "cube")
    means = [[cell.split(" [")[0] for cell in row] for row in rows]
    assert means == [
        ["", "runs", "final success", "steps to 90%", "minutes to 90%",
         "worst drop below the cloned policy, mean (worst run)", "minutes in all",
         "runs at a time"],
        # 90 and 100; first at 90%: seed 0 at 20, seed 1 at 10; drops of 20 and 0 points
        ["poco", "2", "95", "20", "3", "10 (20)", "4", "1"],
        ["bc", "2", "50", "never (0 of 2)", "never", "15 (20)", "4", "1"],
        ["", "0", "10", "20"],
        ["poco", "50", "58", "95"],  # (20 + 96) / 2 = 58
        ["bc", "50", "40", "50"],
        ["", "0.5", "0.7", "1", "1.5", "2", "3", "5"],
        # after 2 minutes: seed 0 has 20, seed 1 still the cloned 60; after 3: 90 and 96
        ["poco", "–", "–", "50", "50", "40", "93", "95"],
        ["bc", "–", "–", "50", "50", "40", "40", "50"],
    ]
    low, high = map(float, re.findall(r"\d+", rows[1][2].split("[")[1]))
    assert 84 <= low < 90 and 97 <= high <= 100, "runs differ by 10 points, and each varies by 3"


def test_the_list_has_a_row_for_every_evaluation(measured: BenchFolder) -> None:
    write_tables(measured)
    rows = read_rows(measured.path / "results.csv")
    assert len(rows) == 4 * 3
    row = next(row for row in rows if row["algorithm"] == "poco" and row["seed"] == "1"
               and row["step"] == "10")
    assert (row["policy"], row["environment_steps"], row["successes"], row["episodes"],
            row["success_rate"]) == ("steps-000000012", "12", "96", "100", "0.9600")
    assert (measured.path / row["folder"] / "evaluations.csv").exists()
    assert row["hash"] in row["folder"] and row["git_revision"] and row["state"] == "finished"


def test_evaluations_that_somebody_made_by_hand_change_no_table(measured: BenchFolder) -> None:
    """All runs are compared by the same episodes."""
    write_tables(measured)
    before = (measured.path / "table.md").read_text(), read_rows(measured.path / "results.csv")
    cell = measured.cell(measured.read_index()[1][0])
    for seed, episodes in ((7, 100), (0, 500)):
        cell.run.add_evaluation({
            "policy": CLONED, "environment_steps": 0, "updates": 0, "minutes": 9.0,
            "successes": 0, "episodes": episodes, "success_rate": "0.0000", "seed": seed})
    assert len(cell.run.read_evaluations()) == 3 + 2, "each is kept"
    write_tables(measured)
    after = (measured.path / "table.md").read_text(), read_rows(measured.path / "results.csv")
    assert before == after


def test_what_is_missing_or_diverged_is_said_and_counts_in_no_mean(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(seeds=[0, 1, 2], overrides=SHORT))
    measure(bench, cells["cube/poco/base/seed0"], [(0, 1, 40), (20, 2, 80)])
    measure(bench, cells["cube/poco/base/seed1"], [(0, 1, 40)], state=State.DIVERGED,
            message="update 7: critic/loss is not finite")
    results = write_tables(bench)
    assert not results.done
    table = (tmp_path / "table.md").read_text()
    assert rows_of(table, "cube")[1][:3] == ["poco", "1 of 3", "80 [72, 88]"]
    assert "**cube/poco/base/seed1** diverged: update 7: critic/loss is not finite" in table
    for line in ("- 1 new", "- 1 finished", "- 1 diverged"):
        assert line in table
    states = [row["state"] for row in read_rows(tmp_path / "results.csv")]
    assert states == ["finished", "finished", "diverged", "new"]


def test_results_of_another_revision_are_kept_and_shown_as_such(measured: BenchFolder) -> None:
    cell = next(cell for cell in read_results(measured).cells if cell.record.algorithm == "bc")
    (row,) = read_rows(cell.folder / "sittings.csv")
    write_rows(cell.folder / "sittings.csv", list(row), [
        {**row, "git_revision": "0123456789abcdef0123"},
        {**row, "git_revision": "fedcba9876543210fedc+changes"}])
    write_tables(measured)
    table = (measured.path / "table.md").read_text()
    assert "- 1 of revision 0123456789 then fedcba9876+changes: cube bc (1)" in table
    assert re.search(r"- 3 of revision \S+: cube poco \(2\), cube bc \(1\)", table)
    revisions = {row["git_revision"] for row in read_rows(measured.path / "results.csv")
                 if row["hash"] == cell.record.hash}
    assert revisions == {"0123456789abcdef0123 then fedcba9876543210fedc+changes"}


def test_cells_of_another_configuration_are_kept_and_in_no_table(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(overrides=SHORT))
    measure(bench, cells["cube/poco/base/seed0"], [(0, 1, 40), (20, 2, 80)])
    bench, cells = begin(tmp_path, matrix_of(overrides={**SHORT, "agent": {"lr": 0.5}}))
    results = write_tables(bench)
    assert [cell.outcome.state for cell in results.cells] == [State.NEW]
    assert len(results.others) == 1 and (results.others[0] / "evaluations.csv").exists()
    table = (tmp_path / "table.md").read_text()
    assert "- 1 of other configurations are kept in the folder and are in no table" in table
    assert "80" not in rows_of(table, "cube")[1]


def test_several_tasks_have_a_mean_over_them(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(
        algorithms=TWO, overrides=SHORT, tasks={"cube": {"preset": "cpu_cube_single"},
                                                "scene": {"preset": "cpu_scene"}}))
    measure_all(bench, cells, {"cube/poco/base/seed0": [(0, 1, 10), (20, 2, 60)],
                               "scene/poco/base/seed0": [(0, 1, 10), (20, 2, 80)],
                               "scene/bc/base/seed0": [(0, 1, 10), (20, 2, 80)]})
    write_tables(bench)
    rows = rows_of((tmp_path / "table.md").read_text(), "All tasks")
    assert rows[1][0] == "poco" and rows[1][1].startswith("70 [")
    assert rows[2] == ["bc", "1 of 2 tasks measured"]


def named(panel: Axes) -> list[str]:
    return [str(line.get_label()) for line in panel.lines]


def test_a_curve_an_algorithm_over_steps_and_over_minutes(measured: BenchFolder) -> None:
    results = read_results(measured)
    (panel,) = draw_success(results, load_anchors()).axes
    assert named(panel) == ["poco", "bc"] and len(panel.collections) == 2, "and intervals"
    assert list(panel.lines[0].get_xdata()) == [0, 10, 20]
    assert list(panel.lines[0].get_ydata()) == pytest.approx([50, 58, 95])
    (panel,) = draw_success(results, None).axes
    curves = {line.get_label(): line for line in panel.lines}
    assert len(panel.collections) == 2 and panel.get_xscale() == "log"
    # As the table by minutes: what one would have held, no line between two evaluations.
    assert curves["poco"].get_drawstyle() == "steps-post"
    assert list(curves["poco"].get_xdata()) == [1.0, 2.0, 2.5, 3.0, 5.0]
    assert list(curves["poco"].get_ydata()) == pytest.approx([50, 40, 58, 93, 95])
    assert list(curves["bc"].get_ydata()) == pytest.approx([50, 40, 50])


@pytest.mark.parametrize("last", [0.013, 0.7, 1.0, 3.4, 11.3, 23.0, 51.1, 70.0, 71.0, 999.0, 4000])
def test_the_head_of_a_column_is_the_very_minute_that_it_tells_of(last: float) -> None:
    """A head of 18 stood over what was there after 18.4 minutes, which was far more."""
    marks = minute_marks(last)
    assert [float(minutes_text(mark).replace(",", "")) for mark in marks] == marks
    assert len(marks) == 7 and marks[-2] < last <= marks[-1] and marks == sorted(set(marks))


def test_who_has_cloned_nothing_falls_below_no_cloned_policy(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(algorithms={"poco": {}, "rlpd": {}},
                                             overrides=SHORT))
    measure_all(bench, cells, {"cube/poco/base/seed0": [(0, 1, 40), (20, 2, 30)],
                               "cube/rlpd/base/seed0": [(0, 1, 0), (20, 2, 30)]})
    write_tables(bench)
    rows = rows_of((tmp_path / "table.md").read_text(), "cube")
    assert [row[5] for row in rows[1:3]] == ["10 (10)", "–"]


def test_a_table_says_how_many_runs_went_at_a_time(measured: BenchFolder) -> None:
    """Minutes of one that had the machine for itself are not those of one of two."""
    for cell in read_results(measured).cells:
        if cell.record.name == "cube/bc/base/seed1":
            (row,) = read_rows(cell.folder / "sittings.csv")
            write_rows(cell.folder / "sittings.csv", list(row), [{**row, "cells_at_once": "2"}])
    write_tables(measured)
    rows = rows_of((measured.path / "table.md").read_text(), "cube")
    assert [row[7] for row in rows[1:3]] == ["1", "1 or 2"]


def test_figures_are_pictures_of_something(measured: BenchFolder) -> None:
    paths = write_report(measured)
    pictures = [path for path in paths if path.suffix == ".png"]
    assert [path.name for path in pictures] == ["success_steps.png", "success_minutes.png"]
    for path in pictures:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[1] > 500 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_a_task_that_was_not_measured_has_no_panel(tmp_path: Path) -> None:
    """Part of a matrix was run; an ablation on one of its tasks."""
    bench, cells = begin(tmp_path / "bench", matrix_of(
        tasks={task: {"preset": "cpu_cube_single", "overrides": {"task": {"number": number}}}
               for number, task in enumerate(("cube", "other", "never"), start=1)},
        overrides=SHORT, ablations={"zeta": {"key": "agent.zeta", "values": [0.5, 2.0]}}))
    measure_all(bench, cells, {f"{task}/poco/{variant}/seed0": [(0, 1.0, 40), (20, 2.0, 60)]
                               for task, variant in (("cube", "base"), ("cube", "zeta-0.5"),
                                                     ("other", "base"))})
    results = read_results(bench)
    for figure, tasks in ((draw_success(results, None), ["cube", "other"]),
                          (draw_ablation(results, "zeta"), ["cube"])):
        assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == tasks


def test_a_legend_of_long_names_stays_within_the_picture(tmp_path: Path) -> None:
    names = [f"a-variant-with-a-long-name-{number}" for number in range(7)]
    bench, cells = begin(tmp_path / "bench", matrix_of(seeds=[0], overrides=SHORT, variants={
        name: {"overrides": {"agent": {"eta": 0.1 + number}}}
        for number, name in enumerate(names)}))
    measure_all(bench, cells, {f"cube/poco/{name}/seed0": [(0, 1.0, 40), (20, 2.0, 60)]
                               for name in ("base", *names)})
    figure = draw_success(read_results(bench), None)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    place = legend.get_window_extent()
    assert 0 <= place.x0 < place.x1 <= figure.bbox.x1, "nothing of it is cut off"
    assert len(legend.get_texts()) == 8


def of_domain(folder: Path, **task: object) -> BenchResults:
    bench, cells = begin(folder, matrix_of(
        algorithms={"poco": {}, "qc": {"algorithm": "bc"}},
        tasks={"double": {"preset": "paper_cube_double", "overrides": {
            "task": task, "train": {"online_steps": 200_000, "eval_every": 100_000,
                                   "eval_episodes": 100}}}}))
    for cell in cells.values():
        measure(bench, cell, [(0, 1, 10), (100_000, 2, 20), (200_000, 2, 30)])
    return read_results(bench)


def test_published_numbers_are_dotted_where_the_task_is_the_same(tmp_path: Path) -> None:
    published = load_anchors()
    same = {"reward": "staged"}
    (panel,) = draw_success(of_domain(tmp_path / "same", **same), published).axes
    assert named(panel) == ["poco", "qc", *(f"{name}, published" for name in (
        "qc", "qc_fql", "fql", "rlpd", "rlpd_ac"))]
    measured, anchor = panel.lines[1], panel.lines[2]
    assert anchor.get_linestyle() == ":" and anchor.get_color() == measured.get_color()
    assert list(anchor.get_xdata()) == list(range(0, 1_000_001, 100_000))
    assert list(anchor.get_ydata())[:6] == [72, 94, 98, 100, 100, 99]
    assert panel.get_xlim()[1] < 250_000, "the axis ends with what was measured"
    for number, other in enumerate(({"max_episode_steps": 300}, {"reward": "sparse"})):
        found = of_domain(tmp_path / str(number), **{**same, **other})
        (panel,) = draw_success(found, published).axes
        assert named(panel) == ["poco", "qc"], f"{other} makes another task"


def test_anchors_have_the_colour_of_their_algorithm_with_budgets_too(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(
        algorithms={"poco": {}, "qc": {"algorithm": "bc"}},
        budgets={"short": {"online_steps": 100_000}, "long": {}},
        tasks={"double": {"preset": "paper_cube_double", "overrides": {
            "task": {"reward": "staged"}, "train": {
                "online_steps": 200_000, "eval_every": 100_000, "eval_episodes": 100}}}}))
    for cell in cells.values():
        measure(bench, cell, [(0, 1, 10), (cell.record.online_steps, 3, 30)])
    (panel,) = draw_success(read_results(bench), load_anchors()).axes
    drawn = {str(line.get_label()): line for line in panel.lines}
    assert drawn["qc, published"].get_color() == drawn["qc base@short"].get_color()
    others = [line for name, line in drawn.items() if "published" in name]
    assert len({line.get_marker() for line in others}) == 5, "most are grey, and told apart"


def test_anchors_are_drawn_whichever_of_the_algorithms_has_their_reward(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(
        algorithms={"poco": {}, "qc": {"algorithm": "bc", "overrides": {
            "task": {"reward": "staged", "reward_offset": -1.0}}}},
        tasks={"double": {"preset": "paper_cube_double", "overrides": {
            "train": {"online_steps": 200_000, "eval_every": 100_000,
                      "eval_episodes": 100}}}}))
    for cell in cells.values():
        measure(bench, cell, [(0, 1, 10), (200_000, 3, 30)])
    (panel,) = draw_success(read_results(bench), load_anchors()).axes
    assert "qc, published" in named(panel)


def test_anchors_have_a_source_and_a_number_a_step() -> None:
    published = load_anchors()
    assert "arXiv" in published.source and len(published.tasks) == 4 * 5 + 3
    assert len({(task.domain, task.number) for task in published.tasks}) == 23
    assert all(0 <= value <= 100 for task in published.tasks for values in task.success.values()
               for value in values)
    with pytest.raises(ConfigError, match="need their source"):
        Anchors(steps=(0,))
    with pytest.raises(ConfigError, match="scene: qc has 1 numbers for 11 steps"):
        Anchors(source="a paper", steps=published.steps,
                tasks=(type(published.tasks[0])("scene", 2, success={"qc": (1.0,)}),))


def test_an_ablation_is_drawn_against_its_values(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(overrides=SHORT, base=False, ablations={
        "zeta": {"key": "agent.zeta", "values": [0.1, 0.3, 0.0]}}))
    for value, successes in (("0.1", 50), ("0.3", 90), ("0.0", 20)):
        measure(bench, cells[f"cube/poco/zeta-{value}/seed0"], [(0, 1, 40), (20, 2, successes)])
    assert {path.name for path in write_report(bench)} >= {"ablation_zeta.png"}
    (panel,) = draw_ablation(read_results(bench), "zeta").axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0.1", "0.3", "0.0"]
    line = panel.containers[0].lines[0]
    assert list(line.get_xdata()) == [0, 1, 2] and list(line.get_ydata()) == [50, 90, 20]


def test_variants_are_drawn_beside_what_they_vary(tmp_path: Path) -> None:
    bench, cells = begin(tmp_path, matrix_of(overrides=SHORT, algorithms=TWO, variants={
        "sum": {"overrides": {"agent": {"posterior": "sum"}}, "algorithms": ["poco"]}}))
    for name, minutes in (("poco/base", 2), ("poco/sum", 6), ("bc/base", 1)):
        measure(bench, cells[f"cube/{name}/seed0"], [(0, 1, 40), (20, minutes, 80)])
    assert "variants.png" in {path.name for path in write_report(bench)}
    left, right = draw_variants(read_results(bench)).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["poco", "poco sum"]
    assert [bar.get_width() for bar in right.patches] == [2, 6]


def test_a_report_needs_no_run_and_says_where_there_is_none(
        measured: BenchFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--report", str(measured.path)]) == 0
    assert "success_steps.png" in capsys.readouterr().out
    with pytest.raises(DataError, match="holds no bench"):
        read_results(BenchFolder(tmp_path / "empty"))
    assert main(["bench", "--report", str(tmp_path / "empty")]) == 2
    assert main(["bench", "smoke", "--report", str(measured.path)]) == 2
