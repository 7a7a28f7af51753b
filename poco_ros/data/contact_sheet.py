"""A contact sheet: recorded episodes in one picture, a row each, to see at a glance what is there.

A row shows the joints and the gripper over time in the colour of the outcome, where nothing was
asked for or a tick was missing, and pictures along the way when some were recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from PIL import Image, UnidentifiedImageError

from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.errors import DataError
from poco_ros.core.files import replacing
from poco_ros.core.observation import ObservationLayout
from poco_ros.core.task import JOINTS_PART
from poco_ros.data.parts import columns, layout_for
from poco_ros.data.pictures import Picture, RecordedPictures
from poco_ros.data.recording import has_stamps, held_steps, steps_with_holes

COLOURS = {Outcome.SUCCESS: "#1b8a5a", Outcome.FAILURE: "#c8472e", Outcome.DISCARD: "#7d7d7d",
           Outcome.NONE: "#3a6ea5"}
GRIPPER, HELD, HOLE = "#222222", "#f2c14e", "#b5179e"
WIDTH, LABEL, TRACES = 12.0, 2.6, 8.6  # inches: the sheet, its column of words, that of traces
TRACE_HEIGHT, THUMB_HEIGHT, HEADER, FOOTER = 0.85, 0.72, 0.62, 0.5  # inches
DPI = 110


def draw_contact_sheet(episodes: Sequence[Episode], out: Path, title: str = "", *,
                       layout: ObservationLayout | None = None,
                       pictures: RecordedPictures | None = None, rows: int = 12) -> list[Episode]:
    """Draw ``episodes`` into the picture ``out`` and return those that have a row.

    Args:
        episodes: recorded episodes, in order, at least one.
        out: the PNG file.
        title: what they are.
        layout: parts of their observation; with a part ``joint_states`` the measured joints are
            drawn, else the executed actions.
        pictures: what was recorded beside them.
        rows: at most so many episodes; see :func:`choose`.

    Raises:
        DataError: a recorded picture cannot be read, or ``layout`` is not that of the episodes.
    """
    shown = choose(episodes, rows)
    cameras = max((sum(map(bool, pictures.of(e).values())) for e in shown), default=0) \
        if pictures is not None else 0
    row_height = TRACE_HEIGHT + cameras * THUMB_HEIGHT + 0.16
    height = HEADER + len(shown) * row_height + FOOTER
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(shown), 2, width_ratios=(LABEL, TRACES), wspace=0.02,
        hspace=0.16 / max(row_height - 0.16, 0.1), left=0.015, right=0.955,
        top=1 - HEADER / height, bottom=FOOTER / height)
    traces = [_traces(episode, layout) for episode in shown]
    longest = max(_times(episode)[-1] for episode in shown)
    joints = np.concatenate([each[:, :-1].reshape(-1) for each in traces])
    grippers = np.concatenate([each[:, -1] for each in traces])
    for row, (episode, values) in enumerate(zip(shown, traces, strict=True)):
        _label(figure.add_subplot(grid[row, 0]), episode)
        axes = _draw_row(figure, grid[row, 1], episode, values, longest, cameras, pictures)
        axes[0].set_ylim(*_range(joints))
        axes[1].set_ylim(*_range(grippers))
        if row < len(shown) - 1:
            axes[0].tick_params(labelbottom=False)
        else:
            axes[0].set_xlabel("time [s]" if all(map(has_stamps, shown)) else "step", fontsize=8)
    _header(figure, title, len(episodes), len(shown), height,
            layout is not None and JOINTS_PART in layout.names)
    with replacing(out) as temporary:
        figure.savefig(temporary, format="png")
    return shown


def choose(episodes: Sequence[Episode], rows: int) -> list[Episode]:
    """Return at most ``rows`` episodes, in order: all, or the first, the last and some of each.

    Successes, failures and what is not trained on get a row in turn as long as there are any; of
    each kind those are taken that lie evenly over its time.
    """
    if len(episodes) <= rows:
        return list(episodes)
    chosen = {0, len(episodes) - 1}
    kinds: list[list[int]] = [[], [], []]
    for index in range(1, len(episodes) - 1):
        episode = episodes[index]
        kinds[(0 if episode.success else 1) if episode.trainable else 2].append(index)
    quotas = [0, 0, 0]
    turns = (kind for turn in range(rows) for kind in range(3) if turn < len(kinds[kind]))
    for kind in islice(turns, max(rows - len(chosen), 0)):
        quotas[kind] += 1
    for members, quota in zip(kinds, quotas, strict=True):
        chosen |= {members[int((k + 0.5) * len(members) / quota)] for k in range(quota)}
    return [episodes[index] for index in sorted(chosen)[:rows]]


def _traces(episode: Episode, layout: ObservationLayout | None) -> np.ndarray:
    """Return what is drawn, the gripper last: (L+1, J) [rad, m], or actions, (L+1, A)."""
    place = columns(layout_for(episode, layout)).get(JOINTS_PART)
    if place is None:
        return np.concatenate([episode.actions, episode.actions[-1:]])
    return episode.observations[:, place]


def _times(episode: Episode) -> np.ndarray:
    """Return the time of each observation [s], or its number when it was not recorded, (L+1,)."""
    if not has_stamps(episode):
        return np.arange(len(episode) + 1, dtype=np.float64)
    return (episode.stamps - episode.stamps[0]) * 1e-9


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.1
    return low - margin, high + margin


def _draw_row(figure: Figure, place: SubplotSpec, episode: Episode, values: np.ndarray,
              longest: float, cameras: int,
              pictures: RecordedPictures | None) -> tuple[Axes, Axes]:
    """Draw one episode: strips of pictures above its traces; return axes of joints and gripper."""
    parts = place.subgridspec(cameras + 1, 1, hspace=0.03,
                              height_ratios=(*[THUMB_HEIGHT] * cameras, TRACE_HEIGHT))
    axes = figure.add_subplot(parts[cameras, 0])
    twin = axes.twinx()
    times, colour = _times(episode), np.array(to_rgb(COLOURS[episode.outcome]))
    period = float(np.median(np.diff(times)))
    for step in held_steps(episode):
        axes.axvspan(times[step], times[step + 1], color=HELD, alpha=0.55, linewidth=0, zorder=0)
    for step in steps_with_holes(episode):
        axes.axvspan(times[step], times[step + 1], color=HOLE, alpha=0.35, linewidth=0, zorder=0)
    joints = values.shape[1] - 1
    for joint in range(joints):
        pale = 0.6 * joint / max(joints - 1, 1)
        axes.plot(times, values[:, joint], color=tuple(colour * (1 - pale) + pale), linewidth=1.1)
    twin.plot(times, values[:, -1], color=GRIPPER, linewidth=1.2, linestyle=(0, (3, 1.5)))
    axes.axvline(times[-1], color=tuple(colour), linewidth=2.5, ymin=0, ymax=1)
    for each in (axes, twin):
        each.set_xlim(-period, 1.01 * longest)
        each.tick_params(labelsize=6.5, length=2)
        for side in ("top", "left", "right"):
            each.spines[side].set_visible(False)
    axes.grid(axis="x", alpha=0.25, linewidth=0.5)
    if pictures is not None and cameras:
        _draw_pictures(figure, parts, episode, longest, pictures, axes)
    return axes, twin


def _draw_pictures(figure: Figure, parts: object, episode: Episode, longest: float,
                   pictures: RecordedPictures, below: Axes) -> None:
    """Draw strips of pictures, each where it belongs in time."""
    panel = (0.955 - 0.015) * WIDTH * TRACES / (LABEL + TRACES)
    share = float(_times(episode)[-1]) / longest
    count = max(1, int(share * panel / (THUMB_HEIGHT * 1.45)))  # pictures are about 4:3
    low, high = below.get_xlim()
    strips = {camera: chosen for camera, chosen in pictures.spread(episode, count).items()
              if chosen}
    for row, (camera, chosen) in enumerate(strips.items()):
        axes = figure.add_subplot(parts[row, 0])  # type: ignore[index]
        axes.set_axis_off()
        for time, picture in chosen:
            thumb = _thumb(picture)
            width = thumb.width / thumb.height * THUMB_HEIGHT / panel * (high - low)
            left = min(max(time - width / 2, 0.0), high - width)
            axes.imshow(np.asarray(thumb), extent=(left, left + width, 0, 1), aspect="auto",
                        interpolation="antialiased")
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1)
        axes.text(1.005, 0.5, camera, fontsize=6.5, rotation=90, va="center",
                  transform=axes.transAxes)


def _thumb(picture: Picture) -> Image.Image:
    """Return a picture at the size that it is drawn at."""
    try:
        with Image.open(picture.path) as image:
            thumb = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{picture.path}: cannot be read as a picture ({error})") from error
    edge = round(THUMB_HEIGHT * DPI)
    thumb.thumbnail((4 * edge, edge))
    return thumb


def _label(axes: Axes, episode: Episode) -> None:
    """Write what an episode is, beside it."""
    axes.set_axis_off()
    colour = COLOURS[episode.outcome]
    how = episode.outcome.name.lower() if episode.outcome else "no outcome"
    ended = "terminated" if episode.terminated else "truncated" if episode.truncated else "cut off"
    held, holes = len(held_steps(episode)), len(steps_with_holes(episode))
    doubts = [f"held {held}" if held else "", f"holes {holes}" if holes else ""]
    seconds = f", {_times(episode)[-1]:.1f} s" if has_stamps(episode) else ""
    note = "" if episode.trainable else f"not trained on: {'; '.join(episode.notes) or '?'}"
    lines = [(_short(episode.id, 34), "bold", "black"), (f"{how}, {ended}", "bold", colour),
             (f"{episode.source}, {len(episode)} steps{seconds}", "normal", "black"),
             ("  ".join(filter(None, doubts)), "normal", "#8a6d00")]
    words = wrap(note, 44, max_lines=2, placeholder=" …")
    lines += [(text, "normal", COLOURS[Outcome.FAILURE]) for text in words]
    for number, (text, weight, shade) in enumerate(line for line in lines if line[0]):
        axes.annotate(text, (0, 1), xycoords="axes fraction", xytext=(0, -11 * number - 2),
                      textcoords="offset points", fontsize=7.5 if number else 8, weight=weight,
                      color=shade, va="top")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length - 1] + "…"


def _header(figure: Figure, title: str, count: int, shown: int, height: float,
            measured: bool) -> None:
    """Write what the sheet shows and what its colours mean."""
    which = f"{shown} of {count} episodes" if shown < count else f"all {count} episodes"
    figure.text(0.015, 1 - 0.2 / height, f"{title}   {which}".strip(), fontsize=11,
                weight="bold", va="center")
    what = "joints [rad, left]" if measured else "executed actions (left)"
    words = [(f"{what}, first dark to last pale;", "black"),
             ("gripper dashed (right" + (" [m]" if measured else "") + ");", GRIPPER),
             ("success", COLOURS[Outcome.SUCCESS]), ("failure", COLOURS[Outcome.FAILURE]),
             ("discarded", COLOURS[Outcome.DISCARD]), ("no outcome", COLOURS[Outcome.NONE]),
             ("held", HELD), ("a tick is missing", HOLE)]
    left = 0.015
    for number, (text, colour) in enumerate(words):
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.55} \
            if number >= 6 else None
        drawn = figure.text(left, 1 - 0.44 / height, text, fontsize=8, va="center",
                            color="black" if box else colour,
                            weight="bold" if 2 <= number < 6 else "normal", bbox=box)
        extent = drawn.get_window_extent(figure.canvas.get_renderer())  # type: ignore
        left += extent.width / (WIDTH * DPI) + (0.014 if number >= 2 else 0.006)
