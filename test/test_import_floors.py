"""Imports point down only: every module stands on a floor and knows just the floors below it."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"poco_ros", "poco_ros.core"}),
    frozenset({"poco_ros.learning", "poco_ros.robot", "poco_ros.cell", "sim_bridge",
               "poco_ros.video", "poco_ros.processes"}),
    frozenset({"poco_ros.data"}),  # demonstrations are made in the simulated environments
    frozenset({"poco_ros.ros"}),
    # What nodes and command line share.
    frozenset({"poco_ros.preset", "poco_ros.evaluation"}),
    frozenset({"poco_ros.run_folder"}),
    frozenset({"poco_ros.training"}),
    # Every node is a unit of its own, so that a node never imports a node.
    frozenset({"poco_ros.nodes.*", "sim_bridge.node", "poco_ros.bringup", "poco_ros.bench"}),
    frozenset({"poco_ros.ros_launch"}),
    frozenset({"poco_ros.cli"}),
)
"""From the ground up. The units on one floor do not know each other."""
ROS_FLOOR, NODE_FLOOR = (
    next(floor for floor, units in enumerate(FLOORS) if unit in units)
    for unit in ("poco_ros.ros", "poco_ros.nodes.*"))

CORE_MAY_IMPORT = {"numpy", "yaml", "safetensors", *sys.stdlib_module_names}
ROS_PACKAGES = {"rclpy", "launch", "launch_ros", "ament_index_python", "rosidl_runtime_py",
                "rcl_interfaces", "builtin_interfaces"}
LAUNCH_PACKAGES = {"launch", "launch_ros"}
# Without torch a robot's computer or a simulation worker starts in a blink.
FREE_OF_TORCH = ("poco_ros.core", "poco_ros.ros", "poco_ros.data", "poco_ros.cell", "sim_bridge",
                 "poco_ros.preset", "poco_ros.bringup", "poco_ros.bench", "poco_ros.processes")


@cache
def modules() -> dict[str, Path]:
    """Return every module of the project, dotted name -> file."""
    found = {}
    for package in ("poco_ros", "sim_bridge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the dotted names that a module imports, wherever in it the import stands.

    ``from a.b import c`` counts as ``a.b.c`` when that is a module of ours, else as ``a.b``.
    Imports under ``if TYPE_CHECKING`` count too: what a reader must know is what is imported.
    """
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[:len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in modules() else base)
    return frozenset(found)


def unit_of(module: str) -> tuple[str, int] | None:
    """Return the unit that a module belongs to and its floor; the longest match counts."""
    best: tuple[str, int] | None = None
    for floor, units in enumerate(FLOORS):
        for unit in units:
            if unit.endswith(".*"):
                parent = unit.removesuffix(".*")
                if not module.startswith(f"{parent}.") and module != parent:
                    continue
                named = ".".join(module.split(".")[:len(parent.split(".")) + 1])
            elif unit == "poco_ros":
                if module != unit:  # the package's own __init__ alone: the version
                    continue
                named = unit
            elif module == unit or module.startswith(f"{unit}."):
                named = unit
            else:
                continue
            if best is None or len(named) > len(best[0]):
                best = (named, floor)
    return best


def ours(name: str) -> bool:
    return name.split(".")[0] in ("poco_ros", "sim_bridge")


def test_every_module_stands_on_a_floor() -> None:
    homeless = [module for module in modules() if unit_of(module) is None]
    assert not homeless, f"give these a floor in FLOORS: {homeless}"


def test_every_folder_of_modules_is_a_package() -> None:
    bare = {str(path.parent.relative_to(ROOT)) for path in modules().values()
            if not (path.parent / "__init__.py").exists()}
    assert not bare, f"no __init__.py in {sorted(bare)}: they would be missing when installed"


def test_imports_point_down_and_siblings_do_not_know_each_other() -> None:
    wrong = []
    for module in modules():
        here = unit_of(module)
        for name in imports_of(module):
            there = unit_of(name) if ours(name) else None
            if here is None or there is None or here[0] == there[0]:
                continue
            if there[1] >= here[1]:
                wrong.append(f"{module} (floor {here[1]}) imports {name} (floor {there[1]})")
    assert not wrong, "\n".join(sorted(wrong))


def test_the_core_needs_numpy_and_yaml_only() -> None:
    wrong = [f"{module} imports {name}" for module in modules()
             if module.startswith("poco_ros.core")
             for name in imports_of(module)
             if not ours(name) and name.split(".")[0] not in CORE_MAY_IMPORT]
    assert not wrong, wrong


def test_only_the_floors_from_ros_up_know_ros() -> None:
    wrong = []
    for module in modules():
        unit = unit_of(module)
        for name in imports_of(module):
            first = name.split(".")[0]
            of_ros = first in ROS_PACKAGES or first.endswith(("_msgs", "_srvs"))
            if of_ros and unit is not None and unit[1] < ROS_FLOOR:
                wrong.append(f"{module} imports {name}")
    assert not wrong, wrong


def test_only_the_launch_bridge_needs_launch() -> None:
    """``launch`` is absent where ROS 2 comes as wheels; everything else must do without."""
    wrong = [f"{module} imports {name}" for module in modules() if module != "poco_ros.ros_launch"
             for name in imports_of(module) if name.split(".")[0] in LAUNCH_PACKAGES]
    assert not wrong, wrong


@pytest.mark.parametrize("unit", FREE_OF_TORCH)
def test_torch_stays_out_of(unit: str) -> None:
    wrong = [f"{module} imports {name}" for module in modules()
             if module == unit or module.startswith(f"{unit}.")
             for name in imports_of(module) if name.split(".")[0] == "torch"]
    assert not wrong, wrong


def test_the_walk_sees_imports_wherever_they_stand() -> None:
    """The judge is judged: in functions, relative, of modules and of names."""
    assert "poco_ros.core.config" in imports_of("poco_ros.preset")
    assert "poco_ros.cli.keep_alive" in imports_of("poco_ros.cli.launch"), "in a function"
    assert unit_of("sim_bridge.node") == ("sim_bridge.node", NODE_FLOOR)
    assert unit_of("sim_bridge.factory") == ("sim_bridge", 1)
    assert unit_of("poco_ros.nodes.learner") == ("poco_ros.nodes.learner", NODE_FLOOR)
    assert unit_of("poco_ros.unheard_of") is None
