"""``poco cell`` as people and launch files use it; and that nothing else knows of the cell."""

from __future__ import annotations

import argparse
import ast
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import can
import pytest
from cell_support import quick_config, wait_until

from poco_ros.cell.cell import Cell
from poco_ros.cell.config import CellConfig
from poco_ros.cli import cell as command
from poco_ros.core.config import load
from poco_ros.core.errors import ConfigError, PocoError

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "config/cell"
PROGRAM = ("import argparse, sys; from poco_ros.cli import cell; p = argparse.ArgumentParser();"
           "cell.add_parser(p.add_subparsers()); sys.exit(cell.run(p.parse_args()))")


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["cell", *words]))


def test_the_cell_tells_its_names_obeys_commands_and_ends_cleanly(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugs = tmp_path / "made" / "cell"
    folder = ["--folder", str(plugs)]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "cell", *folder, "--config", str(CONFIGS / "quick.yaml"),
         "--no-operator", "--slcan"], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        description = plugs / "cell.json"
        wait_until(lambda: description.exists() or process.poll() is not None, "it is up")
        names = json.loads(description.read_text())
        assert set(names) == {"can", "cameras", "keypad", "control", "process"}
        assert names["process"] == process.pid
        with can.Bus(channel=names["can"]["channel"], interface="poco_cell") as bus:
            assert bus.recv(2)
        assert Path(names["keypad"]["port"]).exists() and Path(names["can"]["slcan"]).exists()

        capsys.readouterr()
        assert run("truth", *folder) == 0
        assert json.loads(capsys.readouterr().out)["powered"] == [False] * 7
        assert run("fault", "slow_replies", "delay=0.1", *folder) == 0
        assert run("key", "ready", *folder) == 0
        assert run("scene", "scatter", "seed=4", *folder) == 0
        picture = tmp_path / "front.jpg"
        assert run("picture", "front", str(picture), *folder) == 0
        assert picture.read_bytes()[:2] == b"\xff\xd8"
        picture.unlink()
        with pytest.raises(PocoError, match="silent_bus"):
            run("fault", "nonsense", *folder)
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert names["can"]["channel"] in output and names["cameras"]["front"] in output
    assert not plugs.exists()


def test_a_command_without_a_cell_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(PocoError, match="poco cell"):
        run("truth", "--folder", str(tmp_path))


def test_a_port_that_is_taken_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(PocoError, match="--port"):
            run("--folder", str(tmp_path / "cell"), "--port", str(taken.getsockname()[1]))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_somebody_elses_stays(tmp_path: Path) -> None:
    Cell(quick_config(tmp_path)).close()
    assert tmp_path.exists() and not list(tmp_path.iterdir())
    (tmp_path / "new").mkdir()
    cell = Cell(quick_config(tmp_path / "new" / "cell"))
    kept = tmp_path / "new" / "cell" / "notes.txt"
    kept.touch()
    cell.close()
    assert list((tmp_path / "new" / "cell").iterdir()) == [kept]


def test_wrong_settings_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trial_tim"):
        run("--folder", str(tmp_path), "--set", "operator.trial_tim=3")
    with pytest.raises(PocoError, match="KEY=VALUE"):
        run("--folder", str(tmp_path), "--set", "operator")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    load(CellConfig, path)


def test_the_shipped_configuration_is_what_runs_without_one() -> None:
    assert load(CellConfig, CONFIGS / "pick_cube.yaml") == CellConfig()


def test_help_names_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    shown = capsys.readouterr().out
    for word in ("fault NAME", "leader start", "truth", "cell.json", "--speed"):
        assert word in shown


def test_only_its_own_command_imports_the_cell() -> None:
    for folder in (ROOT / "poco_ros", ROOT / "sim_bridge"):
        for path in folder.rglob("*.py"):
            module = path.relative_to(ROOT).as_posix()
            if module.startswith("poco_ros/cell/") or module == "poco_ros/cli/cell.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                names = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                         else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
                assert not any(name.startswith("poco_ros.cell") for name in names), module
