"""``table.md``: what a bench has measured, for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from poco_ros.bench.cell_folder import State
from poco_ros.bench.results import BenchResults, CellResult, Group
from poco_ros.bench.statistics import (
    GOAL,
    REPLICATES,
    Interval,
    at_minutes,
    at_step,
    common_steps,
    interval,
    mean_minutes,
    time_to_goal,
    worst_drop,
)
from poco_ros.run_folder import git_revision

MOST_COLUMNS = 7
NOTHING = "–"
MARK = "†"
"""Stands beside a group that holds runs of another revision of the code than most."""
SHORT = 10
"""Digits of a revision that are shown."""


def table_text(results: BenchResults) -> str:
    """Return the table as Markdown."""
    lines = [f"# {results.title or 'Bench'}", "", *_about(results)]
    main = main_revision(results)
    for task in results.tasks:
        groups = results.groups(task)
        names = {group.label: group.label + _mark(results, group, main) for group in groups}
        lines += ["", f"## {task}", "", *_summary(groups, names)]
        if not any(group.curves for group in groups):
            continue
        lines += ["", "Success in % by steps of the environment:", "", *_by_steps(groups, names)]
        lines += ["", "Success in % by minutes, of the newest policy that there was by then:", "",
                  *_by_minutes(groups, names)]
    if len(results.tasks) > 1:
        lines += ["", "## All tasks", "", "Final success in %, mean over tasks:", "",
                  *_all_tasks(results)]
    return "\n".join([*lines, "", *_cells(results, main)]) + "\n"


def _about(results: BenchResults) -> list[str]:
    episodes = sorted({int(row["episodes"]) for cell in results.cells for row in cell.evaluations})
    together = sorted({one for cell in results.cells for one in cell.cells_at_once})
    finished = sum(cell.outcome.state is State.FINISHED for cell in results.cells)
    return [f"{finished} of {len(results.cells)} runs are finished. Evaluations have"
            f" {_some(episodes)} episodes with fixed seeds; minutes are those of a clock,"
            f" evaluations apart, with {_some(together)} run(s) at a time. Brackets are 95%"
            f" bootstrap intervals of the mean ({REPLICATES:,} replicates, numpy: runs drawn anew"
            " within each task, then their episodes)."]


def _some(values: Sequence[object]) -> str:
    return " or ".join(map(str, values)) if values else "no"


def _summary(groups: Iterable[Group], names: dict[str, str]) -> list[str]:
    rows = []
    for group in groups:
        if not group.curves or not common_steps(group.curves):
            rows.append([names[group.label], _seeds(group), *[NOTHING] * 5])
            continue
        goal = time_to_goal(group.curves)
        reached = f" ({goal.reached} of {goal.runs})" if goal.reached < goal.runs else ""
        drops = [drop for curve in group.curves if (drop := worst_drop(curve)) is not None]
        last = common_steps(group.curves)[-1]
        rows.append([
            names[group.label], _seeds(group), percent(_at(group, last)),
            f"{goal.steps:,.0f}{reached}" if math.isfinite(goal.steps) else f"never{reached}",
            minutes_text(goal.minutes) if math.isfinite(goal.minutes) else "never",
            f"{100 * sum(drops) / len(drops):.0f} ({100 * max(drops):.0f})" if drops else NOTHING,
            minutes_text(mean_minutes(group.curves, last))])
    return markdown(["", "runs", "final success [%]", f"steps to {GOAL:.0%}",
                     f"minutes to {GOAL:.0%}", "worst drop below the cloned policy, mean (worst"
                     " run) [points]", "minutes in all"], rows)


def _seeds(group: Group) -> str:
    done, asked = len(group.curves), len(group.records)
    return str(done) if done == asked else f"{done} of {asked}"


def _at(group: Group, step: int) -> Interval:
    return interval([at_step(group.curves, step)])


def _by_steps(groups: Sequence[Group], names: dict[str, str]) -> list[str]:
    steps = spread(sorted({step for group in groups for step in common_steps(group.curves)}))
    rows = [[names[group.label],
             *(percent(_at(group, step)) if step in common_steps(group.curves) else NOTHING
               for step in steps)] for group in groups]
    return markdown(["", *(f"{step:,}" for step in steps)], rows)


def _by_minutes(groups: Sequence[Group], names: dict[str, str]) -> list[str]:
    ends = [curve[-1].minutes for group in groups for curve in group.curves]
    times = minute_marks(max(ends, default=0.0))
    rows = []
    for group in groups:
        found = [at_minutes(group.curves, time) if group.curves else None for time in times]
        rows.append([names[group.label],
                     *(percent(interval([runs])) if runs else NOTHING for runs in found)])
    return markdown(["", *map(minutes_text, times)], rows)


def _all_tasks(results: BenchResults) -> list[str]:
    tables = {task: {group.label: group for group in results.groups(task)}
              for task in results.tasks}
    rows = []
    for label in dict.fromkeys(label for groups in tables.values() for label in groups):
        groups = [groups[label] for groups in tables.values()
                  if label in groups and common_steps(groups[label].curves)]
        if len(groups) < len(tables):
            rows.append([label, f"{len(groups)} of {len(tables)} tasks measured"])
            continue
        rows.append([label, percent(interval(
            [at_step(group.curves, common_steps(group.curves)[-1]) for group in groups]))])
    return markdown(["", "final success [%]"], rows)


def _cells(results: BenchResults, main: str) -> list[str]:
    """Return what else must be known: revisions, what is missing and why, what is kept aside."""
    counted = Counter(cell.revision for cell in results.cells if cell.revisions)
    lines = ["## Runs", ""]
    for revision, count in counted.most_common():
        mark = "" if revision == main else f" {MARK}"
        lines.append(f"- {count} of revision {short(revision)}{mark}")
    if counted:
        lines.append(f"- the code is now at {short(git_revision())}; results of other revisions"
                     " are kept as they are")
    states = Counter(cell.outcome.state for cell in results.cells)
    lines += [f"- {states[state]} {state.value}" for state in State if states[state]]
    if results.others:
        lines.append(f"- {len(results.others)} of other configurations are kept in the folder and"
                     " are in no table")
    for cell in results.cells:
        lines += _trouble(cell)
    return lines


def _trouble(cell: CellResult) -> list[str]:
    outcome = cell.outcome
    if outcome.state not in (State.DIVERGED, State.FAILED):
        return []
    head = f"**{cell.record.name}** {outcome.state.value}: {outcome.message}"
    return ["", head, *(["", "```", *outcome.log, "```"] if outcome.log else [])]


def main_revision(results: BenchResults) -> str:
    """Return the revision of the code that most runs have run under; empty without any."""
    counted = Counter(cell.revision for cell in results.cells if cell.revisions)
    return counted.most_common(1)[0][0] if counted else ""


def _mark(results: BenchResults, group: Group, main: str) -> str:
    strange = any(cell.revisions and cell.revision != main for cell in results.cells
                  if cell.record in group.records)
    return f" {MARK}" if strange else ""


def short(revision: str) -> str:
    """Return revisions with fewer digits, what follows them kept."""
    def one(text: str) -> str:
        digits, plus, rest = text.partition("+")
        return digits[:SHORT] + plus + rest
    return " then ".join(map(one, revision.split(" then ")))


def percent(found: Interval) -> str:
    """Return an interval as text, in %."""
    return f"{100 * found.mean:.0f} [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def minutes_text(minutes: float) -> str:
    """Return minutes with as many digits as they deserve."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.2g}"


def spread(values: Sequence[int], most: int = MOST_COLUMNS) -> list[int]:
    """Return at most so many of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def minute_marks(last: float, count: int = 5) -> list[float]:
    """Return so many evenly spread times up to ``last``, rounded up to two digits."""
    if last <= 0.0:
        return []
    unit = 10.0 ** (math.floor(math.log10(last)) - 1)
    top = math.ceil(last / unit) * unit
    return [round(top * (i + 1) / count, 6) for i in range(count)]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return ["| " + " | ".join(cells) + " |"
            for cells in (head, ["---"] * len(head), *rows)]
