"""``poco encoder``: fit the picture encoder to one's own pictures, and measure what it sees."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from poco_ros.cli.flags import add_flags, given
from poco_ros.core import config
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.preset import find_settings
from poco_ros.robot.encoder import Encoder
from poco_ros.robot.encoder_fit import FitConfig, FitProgress, fit_encoder
from poco_ros.robot.encoder_probe import CANDIDATES, compare_heads, table
from poco_ros.robot.encoder_weights import load_weights, save_weights
from poco_ros.robot.picture_set import PictureSet, join, load_pictures
from poco_ros.robot.vision_config import EncoderConfig, HeadConfig, VisionConfig

CAMERAS = "robot/cameras.yaml"
OF_CAMERAS = "that of --cameras"
LINE_EVERY = 15.0
"""Seconds between lines where the output is no terminal."""
PICTURES = ("recorded by camera_encoder (parameter record), a folder of pictures or videos whose"
            " sub-folders are episodes, a video, or an .npz with 'pictures' (N, H, W, 3) uint8 and"
            " optionally 'states' (N, D), 'cameras' and 'episodes' (N,)")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco encoder`` and its actions."""
    parser = subparsers.add_parser(
        "encoder", help="fit the picture encoder to one's own pictures",
        description="The encoder turns cameras' pictures into features, and stays frozen while a"
        " policy learns. Where the published ResNet-10 weights are not at hand, fit it to your own"
        " pictures: record some hundreds at the robot (camera_encoder with record:=FOLDER), fit,"
        " probe, and name the file as encoder.weights of the settings of the cameras.")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)

    fit = actions.add_parser(
        "fit", help="fit the encoder to pictures, and to the states logged beside them",
        description="Fit the ResNet-10: its features must suffice to draw each picture again, and"
        " where states are logged, to tell them. No labels are needed.",
        epilog="example: poco encoder fit --pictures runs/pictures --out runs/encoder.safetensors")
    fit.add_argument("--pictures", type=Path, nargs="+", required=True, metavar="PATH",
                     help=f"pictures, from one place or several: {PICTURES}")
    fit.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors",
                     help="file of weights to write; one that is there is replaced")
    fit.add_argument("--cameras", default=CAMERAS, metavar="YAML", help="settings of the cameras"
                     " that will take the weights: a path, or a name in config/; their image size"
                     f" and head are fitted [default: {CAMERAS}]")
    add_flags(fit.add_argument_group("fit"), FitConfig, defaults={"image_size": OF_CAMERAS})
    heads = config.settings_of(HeadConfig)
    add_flags(fit.add_argument_group("head", "the way from the feature map to the features"),
              HeadConfig, "head", rename={name: f"head_{name}" for name in heads},
              defaults=dict.fromkeys(heads, OF_CAMERAS))
    fit.set_defaults(do=fit_pictures)

    probe = actions.add_parser(
        "probe", help="how well a linear readout of the features tells the logged states",
        description="Print, for each kind of head, how far a linear readout of its features is"
        " from the logged states, on episodes that the readout has not seen. Best first. Take"
        " pictures that the weights were not fitted to.",
        epilog="example: poco encoder probe --pictures runs/pictures --weights"
        " runs/encoder.safetensors")
    probe.add_argument("--pictures", type=Path, required=True, metavar="PATH",
                       help=f"pictures with states: {PICTURES}")
    probe.add_argument("--weights", type=Path, default=None, metavar="FILE",
                       help="encoder weights [default: random ones]")
    probe.add_argument("--camera", default="", help="only this camera [default: each]")
    probe.add_argument("--states", nargs="+", default=[], metavar="NAME",
                       help="only these logged states, by name or number [default: all]")
    probe.add_argument("--at-most", type=int, default=1000, metavar="N",
                       help="pictures of a camera, evenly chosen; 0 = all [default: 1000]")
    probe.set_defaults(do=probe_pictures)


def run(args: argparse.Namespace) -> int:
    """Do the action that was asked for."""
    action: Callable[[argparse.Namespace], int] = args.do
    return action(args)


def fit_pictures(args: argparse.Namespace) -> int:
    """Fit, and write the weights."""
    wanted = config.merge(wanted_by_cameras(args.cameras), given(args))
    settings = config.from_dict(FitConfig, wanted, "poco encoder fit")
    if args.out.suffix != ".safetensors":
        raise ConfigError(f"--out {args.out}: weights are safetensors; name it"
                          f" {args.out.with_suffix('.safetensors').name}")
    if settings.start_from:
        load_weights(settings.start_from)  # what cannot be used is refused now, not after the fit
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {args.out}: its folder cannot be made ({error})") from error
    console = Console(highlight=False, soft_wrap=True)
    wants = {"pictures": False, "auto": None}.get(settings.objective, True)
    sets = []
    for path in args.pictures:
        sets.append(load_pictures(path, settings.image_size, wants))
        console.print(f"{path}: {describe(sets[-1])}", markup=False)
    pictures = sets[0] if len(sets) == 1 else join(sets)
    with _shown(console) as show:
        weights, held_out = fit_encoder(pictures, settings, ", ".join(map(str, args.pictures)),
                                        show)
    try:
        save_weights(args.out, weights)
    except OSError as error:
        raise DataError(f"{args.out}: the weights cannot be written ({error})") from error
    size = Encoder(EncoderConfig(str(args.out), threads=settings.threads)).feature_dim
    loss = "no episode was held out" if math.isnan(held_out) else f"held-out loss {held_out:.4f}"
    console.print(f"{args.out}: {loss}. Name it as encoder.weights of the settings of the cameras,"
                  f" or with encoder:=; a camera then has {size} features (task.features of the"
                  " preset)", markup=False)
    return 0


def wanted_by_cameras(name: str) -> dict[str, Any]:
    """Return the settings of a fit whose weights the cameras take: image size and head.

    What their settings leave open (``image_size: 0``, no head) they take from the weights.

    Raises:
        ConfigError: no such settings, or wrong ones.
    """
    encoder = config.load(VisionConfig, find_settings(name)).encoder
    wanted: dict[str, Any] = {}
    if encoder.image_size:
        wanted["image_size"] = encoder.image_size
    if encoder.head is not None:
        wanted["head"] = config.to_dict(encoder.head)
    return wanted


def probe_pictures(args: argparse.Namespace) -> int:
    """Print what each head's features know, camera by camera."""
    with _quiet("poco_ros.robot.encoder"):  # random weights are told once, below
        return _probe(args)


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    before = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(before)


def _probe(args: argparse.Namespace) -> int:
    weights = str(args.weights or "")
    size = Encoder(EncoderConfig(weights)).image_size
    data = load_pictures(args.pictures, size, states=True)
    if data.states is None:
        raise DataError(f"{args.pictures}: no states are logged beside these pictures; record them"
                        " while joint_states is published, or give an .npz with 'states'")
    columns = _columns(data, args.states)
    cameras = _cameras(data, args.camera)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{args.pictures}: {describe(data)}", markup=False)
    console.print(f"weights: {load_weights(weights).description if weights else 'RANDOM ones'}",
                  markup=False)
    for name, number in cameras.items():
        chosen = np.flatnonzero(data.cameras == number)
        if 0 < args.at_most < len(chosen):
            chosen = chosen[np.linspace(0, len(chosen) - 1, args.at_most).astype(int)]
        try:
            with console.status(f"camera {name}: {len(CANDIDATES)} heads"):
                reports = compare_heads(weights, data.pictures[chosen],
                                        data.states[chosen][:, columns], data.groups[chosen])
        except DataError as error:
            raise DataError(f"{args.pictures}, camera {name}: {error}") from error
        console.print(f"\ncamera {name}, {len(chosen)} pictures; errors in thousandths of the"
                      " states' unit (mrad, mm)")
        console.print(table(reports), markup=False)
    return 0


def describe(data: PictureSet) -> str:
    """Return how many pictures, of which cameras and with which states, in words."""
    cameras = len(np.unique(data.cameras))
    named = f" ({', '.join(data.camera_names)})" if data.camera_names else ""
    states = "no states" if data.states is None else \
        f"{data.states.shape[1]} states" + (f" ({', '.join(data.state_names)})"
                                            if data.state_names else "")
    return (f"{len(data):,} pictures, {cameras} camera{'s' * (cameras > 1)}{named},"
            f" {len(np.unique(data.groups))} episodes, {states}")


def _columns(data: PictureSet, wanted: list[str]) -> list[int]:
    """Return the numbers of the states that are asked for."""
    assert data.states is not None
    names = list(data.state_names) or [str(n) for n in range(data.states.shape[1])]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(f"--states {unknown[0]}: there are {', '.join(names)}")
    return [names.index(name) for name in wanted] or list(range(len(names)))


def _cameras(data: PictureSet, wanted: str) -> dict[str, int]:
    """Return name -> number of the cameras that are asked for and have pictures."""
    there = {(data.camera_names[number] if data.camera_names else str(number)): int(number)
             for number in np.unique(data.cameras)}
    if wanted and wanted not in there:
        raise ConfigError(f"--camera {wanted}: there are {', '.join(there)}")
    return {wanted: there[wanted]} if wanted else there


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[FitProgress], None]]:
    """Show how a fit does: a bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        last = -math.inf

        def line(progress: FitProgress) -> None:
            nonlocal last
            if time.monotonic() - last >= LINE_EVERY or progress.step == progress.steps:
                last = time.monotonic()
                console.print(f"fitting: {progress.step:,}/{progress.steps:,}  {_words(progress)}")

        yield line
        return
    columns = (TextColumn("fitting"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None, words="")
        yield lambda progress: bar.update(task, total=progress.steps, completed=progress.step,
                                          words=_words(progress))


def _words(progress: FitProgress) -> str:
    minutes, seconds = divmod(int(progress.seconds_left), 60)
    return f"loss {progress.loss:.4f}  {minutes}:{seconds:02d} left"
