"""The figures of a bench: success over steps and over minutes, ablations, variants.

Figures are matplotlib objects without a window or a global state, so they can be drawn anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from poco_ros.bench.anchors import Anchors
from poco_ros.bench.results import BenchResults, Group
from poco_ros.bench.statistics import (
    Interval,
    at_minutes,
    at_step,
    by_minutes,
    common_steps,
    interval,
    minutes_at,
)
from poco_ros.core.files import replacing

PANEL = (4.2, 3.3)
"""Width and height of a panel [inch]."""
MOST_COLUMNS = 4
DPI = 130
ANCHOR_COLOUR = "0.45"
"""Grey, for published numbers of an algorithm that was not measured."""
ANCHOR_MARKERS = "x+1s^"
"""One an algorithm of which there are published numbers."""


def draw_all(results: BenchResults, anchors: Anchors, folder: Path) -> list[Path]:
    """Draw every figure that the results allow into ``folder``; return their paths."""
    figures = {}
    if _measured(results):
        figures["success_steps"] = draw_success(results, anchors)
        figures["success_minutes"] = draw_success(results, None)
    for name in ablations(results):
        figures[f"ablation_{name}"] = draw_ablation(results, name)
    if len(_variant_groups(results)) > 1:
        figures["variants"] = draw_variants(results)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=DPI, format="png")
        paths.append(path)
    return paths


def draw_success(results: BenchResults, anchors: Anchors | None) -> Figure:
    """Draw a panel a measured task: mean success and interval of each group, over steps, anchors.

    Without anchors the axis is minutes, and success that of the newest policy by then.
    """
    measured = _measured(results)
    figure, panels = _panels(measured, results.title)
    colours = _colours(results)
    for task, panel in panels.items():
        groups = [group for group in measured if group.task == task]
        for group in groups:
            _draw_curve(panel, group, colours[group.label], anchors is None)
        if anchors is None:
            _show_minutes(panel, groups)
        else:
            _draw_anchors(panel, anchors, groups, colours)
            end = max(common_steps(group.curves)[-1] for group in groups)
            panel.set_xlim(0, 1.02 * end or 1.0)
            panel.set_xlabel("environment steps")
            panel.xaxis.set_major_formatter(FuncFormatter(_thousands))
    _finish(figure, panels)
    return figure


def _draw_curve(panel: Axes, group: Group, colour: Any, minutes: bool) -> None:
    """Draw success at the steps of the evaluations, or as it was after so many minutes."""
    if minutes:
        found = {x: interval([runs]) for x in by_minutes(group.curves)
                 if (runs := at_minutes(group.curves, x))}
    else:
        found = {float(step): interval([at_step(group.curves, step)])
                 for step in common_steps(group.curves)}
    low, mean, high = ([100 * getattr(one, name) for one in found.values()]
                       for name in ("low", "mean", "high"))
    if len(common_steps(group.curves)) == 1:  # cloned, and nothing after that: a level
        panel.axhline(mean[-1], color=colour, linestyle="--", label=group.label)
        return
    steps: dict[str, Any] = {"drawstyle": "steps-post", "markevery": [-1]} if minutes else {}
    panel.plot(list(found), mean, color=colour, marker="o", markersize=3, label=group.label,
               **steps)
    panel.fill_between(list(found), low, high, color=colour, alpha=0.16, linewidth=0,
                       step="post" if minutes else None)


def _show_minutes(panel: Axes, groups: list[Group]) -> None:
    """Have equal factors of time stand at equal distances, from the first cloned policy on."""
    panel.set_xlabel("minutes")
    cloned = [group for group in groups if group.first.clones] or groups
    begin = min((by_minutes(group.curves)[0] for group in cloned), default=0.0)
    if begin <= 0.0:
        return
    panel.set_xscale("log")
    panel.set_xlim(left=0.9 * begin)
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_anchors(panel: Axes, anchors: Anchors, groups: list[Group],
                  colours: Mapping[str, Any]) -> None:
    """Draw the published numbers of the tasks that the groups have, each algorithm's once."""
    drawn: dict[str, tuple[float, ...]] = {}
    for group in groups:
        drawn = {**anchors.of(group.first), **drawn}
    measured = {group.first.algorithm: colours[group.label] for group in reversed(groups)}
    for number, (algorithm, success) in enumerate(drawn.items()):
        panel.plot(anchors.steps, success, color=measured.get(algorithm, ANCHOR_COLOUR),
                   linestyle=":", marker=ANCHOR_MARKERS[number % len(ANCHOR_MARKERS)],
                   markersize=4, linewidth=1.2, label=f"{algorithm}, {anchors.label}")


def ablations(results: BenchResults) -> list[str]:
    """Return the ablations of the matrix of which a run is finished."""
    names = dict.fromkeys(group.first.ablation for group in _measured(results))
    return [name for name in names if name]


def draw_ablation(results: BenchResults, name: str) -> Figure:
    """Draw final success against the values of one ablated setting, a panel a measured task.

    Values stand side by side at equal distances, for a zero, a word or three decades alike.
    """
    figure, panels = _panels(
        [group for group in _measured(results) if group.first.ablation == name],
        f"{results.title}: {name}" if results.title else name)
    for task, panel in panels.items():
        groups = [group for group in results.groups(task) if group.first.ablation == name]
        values = list(dict.fromkeys(group.first.value for group in groups))
        lines: dict[str, list[Group]] = {}
        for group in groups:
            if common_steps(group.curves):
                _, _, budget = group.first.variant.partition("@")
                label = f"{group.first.algorithm} {budget}".strip()
                lines.setdefault(label, []).append(group)
        for label, measured in lines.items():
            found = [_final(group) for group in measured]
            panel.errorbar([values.index(group.first.value) for group in measured],
                           [100 * one.mean for one in found], yerr=_bars(found), marker="o",
                           capsize=3, label=label)
        panel.set_xticks(range(len(values)), values)
        panel.set_xlim(-0.4, len(values) - 0.6)
        panel.set_xlabel(name)
    _finish(figure, panels, "final success [%]")
    return figure


def draw_variants(results: BenchResults) -> Figure:
    """Draw final success and minutes of every named variant, a row of two panels a task."""
    groups = _variant_groups(results)
    tasks = [task for task in results.tasks if any(group.task == task for group in groups)]
    tallest = max(sum(group.task == task for group in groups) for task in tasks)
    figure = Figure(figsize=(9.0, len(tasks) * (1.1 + 0.32 * tallest)), layout="constrained")
    grid = figure.subplots(len(tasks), 2, squeeze=False, sharex="col")
    for (left, right), task in zip(grid, tasks, strict=True):
        rows = [group for group in groups if group.task == task]
        found = [_final(group) for group in rows]
        places = range(len(rows))
        left.errorbar([100 * one.mean for one in found], places, xerr=_bars(found), fmt="o",
                      capsize=3)
        right.barh(places, [minutes_at(group.curves, common_steps(group.curves)[-1])
                            for group in rows], height=0.5)
        left.set_yticks(places, [group.label for group in rows])
        right.set_yticks(places, [""] * len(rows))
        for panel in (left, right):
            panel.set_ylim(len(rows) - 0.5, -0.5)
            panel.grid(alpha=0.3)
        left.set_xlim(0, 102)
        left.set_title(task)
    grid[-1][0].set_xlabel("final success [%]")
    grid[-1][1].set_xlabel("minutes in all")
    if results.title:
        figure.suptitle(results.title)
    return figure


def _measured(results: BenchResults) -> list[Group]:
    """Return the groups that have a point to draw."""
    return [group for task in results.tasks for group in results.groups(task)
            if common_steps(group.curves)]


def _variant_groups(results: BenchResults) -> list[Group]:
    """Return the measured groups where a matrix has named variants: those, and what they vary."""
    groups = [group for group in _measured(results) if not group.first.ablation]
    varied = {group.first.algorithm for group in groups if group.label != group.first.algorithm}
    return [group for group in groups if group.first.algorithm in varied]


def _final(group: Group) -> Interval:
    return interval([at_step(group.curves, common_steps(group.curves)[-1])])


def _bars(found: list[Interval]) -> list[list[float]]:
    """Return the lengths of error bars below and above the means, in %."""
    return [[100 * (one.mean - one.low) for one in found],
            [100 * (one.high - one.mean) for one in found]]


def _panels(groups: Sequence[Group], title: str) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel a task of the groups, success on the upright axis."""
    tasks = list(dict.fromkeys(group.task for group in groups))
    columns = min(MOST_COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(max(columns, 1.3) * PANEL[0], rows * PANEL[1] + 0.6),
                    layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel in panels[len(tasks):]:
        panel.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure, dict(zip(tasks, panels, strict=False))


def _finish(figure: Figure, panels: dict[str, Axes], upright: str = "success [%]") -> None:
    """Label the panels, and put one legend below all of them."""
    entries: dict[str, Any] = {}
    for number, (task, panel) in enumerate(panels.items()):
        panel.set_title(task)
        panel.set_ylim(-2, 102)
        panel.grid(alpha=0.3)
        if number % MOST_COLUMNS == 0:
            panel.set_ylabel(upright)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        _legend_below(figure, entries, min(len(entries), 2 + 2 * min(len(panels), MOST_COLUMNS)))


def _legend_below(figure: Figure, entries: Mapping[str, Any], columns: int) -> None:
    """Put a legend below the panels, in as many columns as fit, at most ``columns``."""
    for count in range(columns, 0, -1):
        legend = figure.legend(entries.values(), entries.keys(), loc="outside lower center",
                               ncols=count, fontsize=8)
        figure.draw_without_rendering()
        if count == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _colours(results: BenchResults) -> dict[str, Any]:
    """Return label -> colour, the same in every panel and every figure of a bench."""
    labels = list(dict.fromkeys(cell.record.label for cell in results.cells))
    palette = matplotlib.colormaps["tab10" if len(labels) <= 10 else "tab20"]
    return {label: palette(number % palette.N) for number, label in enumerate(labels)}


def _thousands(value: float, _: int) -> str:
    """Return steps as text: 500, 20k, 1.5M."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
