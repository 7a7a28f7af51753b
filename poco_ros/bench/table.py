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
    minutes_at,
    time_to_goal,
    worst_drop,
)
from poco_ros.run_folder import git_revision

MOST_COLUMNS = 7
NOTHING = "–"
MARKS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Times that the table by minutes may have, times any power of ten."""
SHORT = 10
"""Digits of a revision that are shown."""


def table_text(results: BenchResults) -> str:
    """Return the table as Markdown."""
    lines = [f"# {results.title or 'Bench'}", "", *_about(results)]
    for task in results.tasks:
        groups = results.groups(task)
        lines += ["", f"## {task}", "", *_summary(groups)]
        if not any(group.curves for group in groups):
            continue
        lines += ["", "Success in % by steps of the environment:", "", *_by_steps(groups)]
        lines += ["", "Success in % by minutes, of the newest policy that there was by then:", "",
                  *_by_minutes(groups)]
    if len(results.tasks) > 1:
        lines += ["", "## All tasks", "", "Final success in %, mean over tasks:", "",
                  *_all_tasks(results)]
    return "\n".join([*lines, "", *_cells(results)]) + "\n"


def _about(results: BenchResults) -> list[str]:
    episodes = sorted({int(row["episodes"]) for cell in results.cells for row in cell.evaluations})
    finished = sum(cell.outcome.state is State.FINISHED for cell in results.cells)
    return [f"{finished} of {len(results.cells)} runs are finished. Evaluations have"
            f" {_some(episodes)} episodes with fixed seeds; minutes are those of a clock,"
            " evaluations apart, of the median run, and compare where as many runs went at a time"
            f" on a machine that did nothing else. Brackets are 95% bootstrap intervals of the"
            f" mean ({REPLICATES:,} replicates, numpy: runs drawn anew within each task, then"
            " their episodes); with few runs that differ much they are too narrow."]


def _some(values: Sequence[object]) -> str:
    return " or ".join(map(str, values)) if values else "no"


def _summary(groups: Iterable[Group]) -> list[str]:
    rows = []
    for group in groups:
        if not group.curves or not common_steps(group.curves):
            rows.append([group.label, _seeds(group), *[NOTHING] * 6])
            continue
        goal = time_to_goal(group.curves)
        reached = f" ({goal.reached} of {goal.runs})" if goal.reached < goal.runs else ""
        drops = [worst_drop(curve) for curve in group.curves] if group.first.clones else []
        last = common_steps(group.curves)[-1]
        rows.append([
            group.label, _seeds(group), percent(_at(group, last)),
            f"{goal.steps:,.0f}{reached}" if math.isfinite(goal.steps) else f"never{reached}",
            minutes_text(goal.minutes) if math.isfinite(goal.minutes) else "never",
            f"{100 * sum(drops) / len(drops):.0f} ({100 * max(drops):.0f})" if drops else NOTHING,
            minutes_text(minutes_at(group.curves, last)), _some(group.cells_at_once)])
    return markdown(["", "runs", "final success [%]", f"steps to {GOAL:.0%}",
                     f"minutes to {GOAL:.0%}", "worst drop below the cloned policy, mean (worst"
                     " run) [points]", "minutes in all", "runs at a time"], rows)


def _seeds(group: Group) -> str:
    done, asked = len(group.curves), len(group.records)
    return str(done) if done == asked else f"{done} of {asked}"


def _at(group: Group, step: int) -> Interval:
    return interval([at_step(group.curves, step)])


def _by_steps(groups: Sequence[Group]) -> list[str]:
    steps = spread(sorted({step for group in groups for step in common_steps(group.curves)}))
    rows = [[group.label,
             *(percent(_at(group, step)) if step in common_steps(group.curves) else NOTHING
               for step in steps)] for group in groups]
    return markdown(["", *(f"{step:,}" for step in steps)], rows)


def _by_minutes(groups: Sequence[Group]) -> list[str]:
    ends = [minutes_at(group.curves, common_steps(group.curves)[-1]) for group in groups
            if common_steps(group.curves)]
    times = minute_marks(max(ends, default=0.0))
    rows = []
    for group in groups:
        found = [at_minutes(group.curves, time) if group.curves else None for time in times]
        rows.append([group.label,
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


def _cells(results: BenchResults) -> list[str]:
    """Return what else must be known: revisions, what is missing and why, what is kept aside."""
    found: dict[str, Counter[str]] = {}
    for cell in results.cells:
        if cell.revisions:
            label = f"{cell.record.task} {cell.record.label}"
            found.setdefault(cell.revision, Counter())[label] += 1
    lines = ["## Runs", ""]
    for revision, runs in sorted(found.items(), key=lambda item: -item[1].total()):
        lines.append(f"- {runs.total()} of revision {short(revision)}: "
                     + ", ".join(f"{label} ({count})" for label, count in runs.items()))
    if found:
        lines.append(f"- the code is now at {short(git_revision())}; results of other revisions"
                     " are kept as they are")
    states = Counter(cell.outcome.state for cell in results.cells)
    lines += [f"- {states[state]} {state.value}" for state in State if states[state]]
    origins = Counter(cell.outcome.measured_in for cell in results.cells)
    lines += [f"- {count} taken over from {origin}, the same configuration and seed"
              for origin, count in origins.items() if origin]
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
    """Return minutes with as many digits as they deserve: all that a mark has."""
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.2g}"


def spread(values: Sequence[int], most: int = MOST_COLUMNS) -> list[int]:
    """Return at most so many of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def minute_marks(last: float, count: int = MOST_COLUMNS) -> list[float]:
    """Return at most so many round times, each some half as long again, until past ``last``."""
    if last <= 0.0:
        return []
    power = math.floor(math.log10(last))
    marks = [float(f"{mark:g}e{digits}") for digits in range(power - 2, power + 2)
             for mark in MARKS]
    past = next(number for number, mark in enumerate(marks) if mark >= last)
    return marks[past + 1 - count:past + 1]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return ["| " + " | ".join(cells) + " |"
            for cells in (head, ["---"] * len(head), *rows)]
