"""``poco cell``: the emulated robot cell, and commands to one that is running."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from poco_ros.cell.config import CellConfig
from poco_ros.cli.flags import add_flags, given
from poco_ros.core.config import from_dict, merge, read_yaml
from poco_ros.core.errors import PocoError
from poco_ros.processes import stops_handled

_DESCRIPTION = """\
An emulated robot cell that sits where the plugs are: a Piper arm on a CAN bus, two cameras, a
serial keypad, a cube on a table, and an operator who presses the keys. The robot's programs run
against it unchanged; only device names differ.

Without an action the cell runs until Ctrl-C. It prints the device names and writes them to
<folder>/cell.json. The page at the control address shows the cameras and has a button for every
key and every fault.

actions on a running cell:
  fault                     list the faults
  fault NAME [key=value]    begin one, such as: poco cell fault silent_bus seconds=2
  fault clear               end all of them
  key NAME                  type a key: success, failure, discard, ready or stop
  operator on|off           let the emulated operator press keys, or not
  leader start [count=N]    give N demonstrations with the leader arm; count=0 ends it
  scene scatter [seed=N]    put the cube somewhere else
  truth                     what is really going on, as JSON
  picture CAMERA FILE       save one picture as JPEG
"""
_ACTIONS = ("fault", "key", "operator", "leader", "scene", "truth", "picture")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "cell", help="run the emulated robot cell, or command a running one",
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="*", metavar="ACTION",
                        help=f"none (run the cell), or: {', '.join(_ACTIONS)}")
    parser.add_argument("--config", type=Path, metavar="YAML",
                        help="settings, such as config/cell/pick_cube.yaml")
    add_flags(parser, CellConfig, exclude=("cameras",))
    parser.add_argument("--slcan", action="store_true",
                        help="also offer the bus as an slcan serial adapter")
    parser.add_argument("--no-operator", action="store_true",
                        help="nobody presses keys but you: poco cell key ...")
    parser.add_argument("--demonstrations", type=int, metavar="N",
                        help="give N demonstrations with the leader arm")
    parser.add_argument("--seconds", type=float, default=0.0,
                        help="end after so long; 0 runs until Ctrl-C")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="any setting, such as operator.trial_time=20")


def run(args: argparse.Namespace) -> int:
    """Run the cell or an action; return the exit code."""
    config = _config(args)
    if args.action:
        return _command(config.folder, args.action)
    return _serve(config, args.seconds)


def main() -> int:
    """Run the cell as one process of a graph: ``ros2 run poco_ros cell --config ...``."""
    words = sys.argv[1:]
    if "--ros-args" in words:  # it is no node, and what a node is told means nothing to it
        words = words[:words.index("--ros-args")]
    parser = argparse.ArgumentParser("cell")
    add_parser(parser.add_subparsers())
    return run(parser.parse_args(["cell", *words]))


def _config(args: argparse.Namespace) -> CellConfig:
    source = str(args.config) if args.config else "poco cell"
    values: dict[str, Any] = read_yaml(args.config) if args.config else {}
    values = merge(values, given(args))
    if args.slcan:
        values = merge(values, {"can": {"slcan": True}})
    if args.no_operator:
        values = merge(values, {"operator": {"enabled": False}})
    if args.demonstrations is not None:
        values = merge(values, {"leader": {"demonstrations": args.demonstrations}})
    for pair in args.set:
        key, separator, text = pair.partition("=")
        if not separator:
            raise PocoError(f"--set {pair!r}: expected KEY=VALUE")
        values = merge(values, _nested(key.split("."), _value(text)))
    return from_dict(CellConfig, values, source)


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _serve(config: CellConfig, seconds: float) -> int:
    from poco_ros.cell.cell import Cell  # MuJoCo: a command to a running cell needs it not

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        cell = Cell(config)
    except OSError as error:
        raise PocoError(f"the cell cannot start: {error}; is another one running? choose another "
                        "--folder and --port") from error
    with stops_handled(lambda *_: cell.stop()):
        try:
            print(_announcement(cell.description(), config.folder), flush=True)
            cell.run(seconds)
        finally:
            cell.close()
    return 0


def _announcement(names: dict[str, Any], folder: Path) -> str:
    lines = ["the emulated cell is up; Ctrl-C ends it",
             f"  arm      interface {names['can']['interface']}, channel"
             f" {names['can']['channel']}"]
    if "slcan" in names["can"]:
        lines.append(f"           or interface slcan, channel {names['can']['slcan']}")
    lines += [f"  camera   {url}" for url in names["cameras"].values()]
    keys = ", ".join(f"{name} {key!r}" for name, key in names["keypad"]["keys"].items())
    lines += [f"  keypad   {names['keypad']['port']} ({keys})",
              f"  control  {names['control']}",
              f"  all of it in {folder / 'cell.json'}"]
    return "\n".join(lines)


def _command(folder: Path, action: list[str]) -> int:
    """Send one action to the cell that runs in ``folder``; print its answer."""
    path = folder / "cell.json"
    try:
        control = json.loads(path.read_text())["control"]
    except FileNotFoundError as error:
        raise PocoError(f"no {path}: no cell runs there; start one with 'poco cell', or name its"
                        " --folder") from error
    kind, *rest = action
    if kind not in _ACTIONS:
        raise PocoError(f"no action {kind!r}; there are {', '.join(_ACTIONS)}")
    if kind == "picture":
        if len(rest) != 2:
            raise PocoError("use: poco cell picture CAMERA FILE")
        Path(rest[1]).write_bytes(_get(f"{control}/camera/{quote(rest[0])}.jpg"))
        return 0
    name = rest.pop(0) if rest and "=" not in rest[0] else ""
    query = dict(pair.split("=", 1) for pair in rest if "=" in pair)
    if len(query) != len(rest):
        raise PocoError(f"{' '.join(rest)}: expected key=value")
    print(json.dumps(json.loads(_get(f"{control}/{kind}/{quote(name)}?{urlencode(query)}")),
                     indent=2))
    return 0


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        raise PocoError(json.loads(error.read()).get("error", str(error))) from error
    except OSError as error:
        raise PocoError(f"{url}: the cell does not answer ({error})") from error

