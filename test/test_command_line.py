"""The command line: settings as flags, launch arguments as settings, errors as one line."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from poco_ros.bringup import NodeSpec, arguments_from_text, processes_of, split_assignments
from poco_ros.bringup.sim_scene import SimSceneArguments, resolve, sim_scene
from poco_ros.cli.flags import add_flags, add_variant_flags, at_least, given
from poco_ros.cli.main import USER_ERROR, main
from poco_ros.cli.node import NODES, SETTINGS, ros_words
from poco_ros.core.config import ConfigError, SettingInfo, from_dict, setting, settings_of
from poco_ros.learning.config import ALGORITHMS
from poco_ros.preset import domains_with_preset, load_preset
from poco_ros.processes import REFUSED

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Example:
    """One setting of every kind that a flag can carry."""

    whole: int = setting(3, "a number of things", minimum=1, maximum=9)
    real: float = setting(0.5, "a share of 100%", unit="s", minimum=0.0)
    word: str = setting("a", "a letter", choices=("a", "b"))
    yes: bool = setting(False, "whether")
    place: Path = setting(Path("here"), "a folder")
    sizes: tuple[int, ...] = setting((1, 2), "sizes", minimum=0)
    maybe: float | None = setting(None, "a number, or none", minimum=-1.0)


def parse(*words: str, section: str = "") -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--other", default="untouched")
    add_flags(parser, Example, section, rename={"whole": "how_many"})
    return parser.parse_args(words)


def test_only_what_was_given_comes_back() -> None:
    assert given(parse()) == {}
    assert given(parse("--other", "x")) == {}
    assert given(parse("--real", "0")) == {"real": 0.0}, "zero is a value"
    assert given(parse("--no-yes")) == {"yes": False}, "no is an answer"


def test_flags_give_settings_of_their_own_types() -> None:
    values = given(parse("--how-many", "4", "--real", "1e-3", "--word", "b", "--yes",
                         "--place", "~/there", "--sizes", "7", "8", "--maybe", "2"))
    example = from_dict(Example, values)
    assert example == Example(4, 1e-3, "b", True, Path("~/there").expanduser(), (7, 8), 2.0)
    assert given(parse("--maybe", "none")) == {"maybe": None}


def test_sections_nest() -> None:
    assert given(parse("--real", "2", section="agent")) == {"agent": {"real": 2.0}}
    assert given(parse("--yes", section="graph.learner")) == {"graph": {"learner": {"yes": True}}}


@pytest.mark.parametrize(("words", "expected"), [
    (("--how-many", "0"), "out of range"), (("--how-many", "10"), "out of range"),
    (("--how-many", "x"), "is no int"), (("--real", "nan"), "out of range"),
    (("--word", "c"), "not one of a, b"), (("--sizes", "1", "-1"), "out of range")])
def test_a_wrong_value_is_refused_at_the_flag(words: tuple[str, ...], expected: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=expected) as error:
        parse(*words)
    assert words[0] in str(error.value)


def test_a_flag_that_is_no_setting_has_a_range_too() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--workers", type=at_least(0), default=0)
    assert parser.parse_args(["--workers", "3"]).workers == 3
    for wrong, said in (("-1", r"-1 is out of range; a whole number \(at least 0\)"),
                        ("two", "'two' is no int; expected a whole number")):
        with pytest.raises(argparse.ArgumentError, match=f"--workers: {said}"):
            parser.parse_args(["--workers", wrong])


def test_a_command_may_tell_and_take_less_than_a_setting_does() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, Example, infos={"word": SettingInfo("the only letter", choices=("a",))})
    assert given(parser.parse_args(["--word", "a"])) == {"word": "a"}
    with pytest.raises(argparse.ArgumentError, match="--word: 'b' is not one of a"):
        parser.parse_args(["--word", "b"])
    assert "the only letter (one of a) [default: a]" in " ".join(parser.format_help().split())


def test_help_of_several_algorithms_tells_where_they_differ() -> None:
    parser = argparse.ArgumentParser()
    add_variant_flags(parser, ALGORITHMS, "agent")
    told = " ".join(parser.format_help().split())
    assert "discount a step (0 to 1); dppo, reinflow: discount a chunk (0 to 1) [the preset's," \
        " else 0.99; dppo, reinflow: 0.999]" in told
    assert "learning algorithm [the preset's, else poco]" in told
    assert "softmax(Q / eta) (at least 1e-09) [poco] [the preset's, else 0.001]" in told
    assert "[dsrl, reinflow] [the preset's, else dsrl: 2048; reinflow: 256]" in told


def test_help_tells_meaning_unit_range_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "--how-many INT a number of things (1 to 9) [default: 3]" in told
    assert "--real FLOAT a share of 100% [s] (at least 0) [default: 0.5]" in told


def test_launch_arguments_are_settings() -> None:
    texts = split_assignments(["task:=scene", "seed:=7", "record:=True", "run_dir:=a:=b"])
    arguments = arguments_from_text(SimSceneArguments, texts, "sim_scene")
    assert arguments == SimSceneArguments(task="scene", seed=7, record=True, run_dir="a:=b")


@pytest.mark.parametrize(("word", "expected"), [
    ("sede:=1", "did you mean 'seed'"), ("seed:=one", "expected int"), ("seed:=-1", "minimum 0"),
    ("record:=perhaps", "expected true or false"), ("pace:=warp", "'lockstep', 'realtime'")])
def test_wrong_launch_arguments_are_named(word: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        arguments_from_text(SimSceneArguments, split_assignments([word]), "sim_scene")


@pytest.mark.parametrize("words", [["scene"], [":=1"], ["seed:=1", "seed:=2"]])
def test_words_that_are_no_assignments_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        split_assignments(words)


def test_all_nodes_read_one_preset_even_when_the_task_is_overridden(tmp_path: Path) -> None:
    arguments = resolve(SimSceneArguments(
        task="puzzle-3x3", task_number=3, preset="cpu_cube_single", run_dir=str(tmp_path)))
    nodes = sim_scene(arguments)
    presets = {node.parameters["preset"] for node in nodes}
    assert len(presets) == 1
    assert load_preset(str(presets.pop())).task.name == "puzzle-3x3-task3"
    assert arguments.task == "puzzle-3x3" and arguments.task_number == 3


def test_a_preset_that_fits_is_passed_on_as_it_is(tmp_path: Path) -> None:
    arguments = resolve(SimSceneArguments(run_dir=str(tmp_path / "run")))
    assert Path(arguments.preset) == ROOT / "config" / "cpu_cube_single.yaml"
    assert not (tmp_path / "run").exists(), "nothing to write, nothing written"


def test_a_task_without_a_preset_of_its_own_needs_one_named(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_its_own = ("cube-single", "scene", "lift", "can", "square")
    assert domains_with_preset() == of_its_own
    with pytest.raises(ConfigError, match=r"task:=cube-double: has no preset cpu_cube_double, only"
                       " cube-single, .* have one; name another with preset:="):
        resolve(SimSceneArguments(task="cube-double", run_dir=str(tmp_path)))
    with pytest.raises(SystemExit):
        main(["sim", "--task", "cube-double"])
    told = capsys.readouterr().err
    assert "argument --task: invalid choice: 'cube-double'" in told
    assert all(domain in told for domain in of_its_own) and "puzzle" not in told


def test_a_missing_checkpoint_or_preset_stops_the_launch_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such checkpoint"):
        resolve(SimSceneArguments(checkpoint=str(tmp_path / "none"), run_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match="no preset"):
        resolve(SimSceneArguments(preset="unheard_of", run_dir=str(tmp_path)))


def test_only_the_learner_gives_way_and_only_its_end_ends_the_graph(tmp_path: Path) -> None:
    nodes = {node.name: node for node in sim_scene(resolve(
        SimSceneArguments(run_dir=str(tmp_path))))}
    assert {name for name, node in nodes.items() if node.nice > 0} == {"learner"}
    assert {name for name, node in nodes.items() if node.ends_graph} == {"learner"}
    assert set(nodes) == {"sim_bridge", "policy_server", "rollout", "learner"}
    assert all(node.respawn for node in nodes.values())


def test_what_acts_shares_a_process_in_lockstep_alone(tmp_path: Path) -> None:
    def processes(**given: Any) -> list[list[str]]:
        nodes = sim_scene(resolve(SimSceneArguments(run_dir=str(tmp_path), **given)))
        return [[node.name for node in process] for process in processes_of(nodes)]

    acting = ["rollout", "policy_server", "sim_bridge"]
    apart = [[name] for name in (*acting, "learner")]
    assert processes() == [acting, ["learner"]]
    assert processes(composed=False) == processes(pace="realtime") == apart


def test_ros_arguments_keep_text_as_text(tmp_path: Path) -> None:
    """A run folder named 007 must not become the number seven."""
    learner = sim_scene(SimSceneArguments(run_dir="007", namespace="lab"))[-1]
    words = learner.ros_arguments()
    assert 'run_dir:="007"' in words and 'checkpoint:=""' in words and "seed:=0" in words
    assert "__ns:=/lab" in words


def test_poco_node_takes_parameters_as_launch_does() -> None:
    assert ros_words(["a:=1", "b:=x", "--ros-args", "-r", "__ns:=/n"]) == [
        "--ros-args", "-p", "a:=1", "-p", "b:=x", "--", "--ros-args", "-r", "__ns:=/n"]
    assert ros_words(["--ros-args", "-p", "a:=1"]) == ["--ros-args", "-p", "a:=1"]
    assert ros_words([]) == []


@pytest.mark.parametrize("name", NODES)
def test_a_node_that_is_asked_for_help_does_not_start(name: str, capsys: pytest.CaptureFixture[str]
                                                      ) -> None:
    """An arm_controller that starts powers the motors."""
    try:
        code = main(["node", name, "--help"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr().out
    assert code == 0 and name in told
    if name in SETTINGS:
        assert all(f"  {word}:=" in told for word in settings_of(
            pkgutil.resolve_name(SETTINGS[name])))
    if name == "arm_controller":
        assert "  autostart:=true" in told


def test_nodes_refuse_with_the_code_that_launchers_know() -> None:
    from poco_ros.ros import node

    assert node.REFUSED == REFUSED


def test_a_users_error_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "poco_ros.cli.main", "data", "inspect", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ended.returncode == 2
    assert ended.stderr == (f"poco: {tmp_path}: there are no episodes (*.safetensors), here or in"
                            " episodes/\n")


def test_a_place_that_cannot_be_written_is_one_line_too(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for action, name in (("ogbench", "play.npz"), ("robomimic", "lift.hdf5"), ("directed", "set")):
        out = tmp_path / "file" / "folder" / name
        assert main(["data", action, "--out", str(out)]) == USER_ERROR
        assert capsys.readouterr().err == f"poco: {out.parent}: Not a directory\n"


def test_what_is_no_fault_of_the_user_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("poco_ros.cli.data.make_play", fail)
    monkeypatch.setattr("poco_ros.cli.node.start", fail)
    error = OSError("a socket was closed")
    with pytest.raises(OSError, match="socket"):
        main(["data", "ogbench"])
    error = FileNotFoundError(2, "No such file or directory", "weights")
    with pytest.raises(FileNotFoundError):  # or it would not be started again
        main(["node", "learner"])
    assert main(["data", "ogbench"]) == USER_ERROR


def test_launch_declares_the_same_arguments() -> None:
    """Where ROS 2 is installed the usual way; ``launch_ros`` is in no package registry."""
    pytest.importorskip("launch_ros")
    from launch.actions import DeclareLaunchArgument

    from poco_ros.core.config import settings_of
    from poco_ros.ros_launch import describe

    declared = {entity.name for entity in describe("sim_scene").entities
                if isinstance(entity, DeclareLaunchArgument)}
    assert declared == set(settings_of(SimSceneArguments))


class Described:
    """Anything of ``launch``: what it was made with."""

    def __init__(self, *words: Any, **given: Any) -> None:
        self.words, self.given = words, given


@pytest.fixture
def ros_launch(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module with :class:`Described` in place of all of ``launch``, which may be missing."""
    def name(kind: str) -> type[Described]:
        if kind.startswith("__"):
            raise AttributeError(kind)
        return type(kind, (Described,), {})

    for module in ("launch", "launch.actions", "launch.event_handlers", "launch.events",
                   "launch.events.process", "launch.launch_description_sources",
                   "launch.substitutions", "launch_ros", "launch_ros.actions"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
        monkeypatch.setattr(sys.modules[module], "__getattr__", name, raising=False)
    monkeypatch.delitem(sys.modules, "poco_ros.ros_launch", raising=False)
    yield importlib.import_module("poco_ros.ros_launch")
    del sys.modules["poco_ros.ros_launch"]


@pytest.mark.parametrize("code, ends_graph, event", [
    (0, False, "ShutdownProcess"), (0, True, "Shutdown"), (REFUSED, False, "Shutdown"),
    (1, False, None), (1, True, None), (-signal.SIGKILL, False, None)])
def test_under_launch_too_an_error_is_a_death_and_a_good_end_is_not(
        ros_launch: ModuleType, code: int, ends_graph: bool, event: str | None) -> None:
    """launch starts again whatever ends, unless that process is told to shut down."""
    node, *rest = ros_launch._process_actions([NodeSpec("cell", "cell", ends_graph=ends_graph)])
    [ended] = [handler.given["on_exit"] for register in rest for handler in register.words
               if "on_exit" in handler.given]
    action = ended(SimpleNamespace(returncode=code), None)
    if event is None:
        assert action is None
        return
    emitted = action.given["event"]
    assert type(emitted).__name__ == event
    if event == "ShutdownProcess":
        assert emitted.given["process_matcher"].words == (node,), "this process alone"
