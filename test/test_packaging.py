"""What a clone turns into: pins that fit the ranges, executables for ros2 run, files in share."""

from __future__ import annotations

import ast
import ctypes.util
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from distutils.core import run_setup
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import poco_ros
from poco_ros.cli.main import COMMANDS, main
from poco_ros.cli.node import NODES

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@cache
def project():
    """Return what setup.py declares."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return run_setup("setup.py", stop_after="init")
    finally:
        os.chdir(before)


def pins(python: str) -> dict[str, Requirement]:
    """Return the pins of constraints.txt that hold for a Python version, by project."""
    found: dict[str, Requirement] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker and not pin.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(pin.name)
        assert name not in found, f"{name} is pinned twice for Python {python}"
        found[name] = pin
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_one_exact_pin_within_its_range(python: str) -> None:
    dist = project()
    wanted = [Requirement(text) for text in dist.install_requires]
    for extra in dist.extras_require.values():
        wanted += [Requirement(text) for text in extra]
    pinned = pins(python)
    for requirement in wanted:
        if requirement.marker and not requirement.marker.evaluate({"python_version": python}):
            continue
        pin = pinned.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} has no pin in constraints.txt"
        version = re.fullmatch(r"==([^,*]+)", str(pin.specifier))
        assert version, f"{pin} is not exact"
        assert requirement.specifier.contains(version[1]), f"{pin} is outside of {requirement}"


def test_make_brings_on_every_python_what_pip_leaves_out_on_the_newest() -> None:
    """The simulations whose own requirements have no release there, and what those import."""
    sim = [Requirement(text) for text in project().extras_require["sim"]]
    left_out = {canonicalize_name(one.name) for one in sim
                if one.marker and not one.marker.evaluate({"python_version": PYTHONS[-1]})}
    line = re.search(r"^SIMULATIONS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line and {canonicalize_name(name) for name in line[1].split()} == left_out


def test_this_environment_is_the_pinned_one_where_it_matters() -> None:
    """numpy, torch and mujoco of the tests are those that a newcomer gets."""
    pinned = pins(f"{sys.version_info[0]}.{sys.version_info[1]}")
    for name in ("numpy", "torch", "mujoco", "robosuite", "ogbench", "ros-rclpy"):
        installed = version(name).split("+")[0]
        assert str(pinned[name].specifier) == f"=={installed}"


def imported() -> set[str]:
    """Return the packages, other than ours and Python's, that the project imports."""
    found = set()
    for package in ("poco_ros", "sim_bridge"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(), str(path))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    found.add(node.module.split(".")[0])
    return found - {"poco_ros", "sim_bridge", *sys.stdlib_module_names}


def test_everything_that_is_imported_is_declared() -> None:
    """Of ROS in package.xml, everything else in setup.py."""
    package = ElementTree.parse(ROOT / "package.xml")
    of_ros = {element.text for element in package.iter("exec_depend")}
    dist = project()
    texts = [*dist.install_requires, *(text for extra in dist.extras_require.values()
                                       for text in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    providers = packages_distributions()
    undeclared = {
        name for name in imported()
        if not {name, f"ros2{name}"} & of_ros
        and not declared & {canonicalize_name(one) for one in providers.get(name, ())}}
    assert not undeclared, f"declare in setup.py or package.xml: {sorted(undeclared)}"


def test_one_version_everywhere() -> None:
    versions = {str(path): ElementTree.parse(path).findtext("version")
                for path in (ROOT / "package.xml", ROOT / "msg/package.xml")}
    versions["setup.py"] = project().get_version()
    assert set(versions.values()) == {poco_ros.__version__}, versions


def test_types_and_licence_go_with_the_code() -> None:
    dist = project()
    assert dist.package_data == {"poco_ros": ["py.typed"], "sim_bridge": ["py.typed"]}
    for package, (name,) in dist.package_data.items():
        assert (ROOT / package / name).is_file()
    assert dist.get_license() == "Apache-2.0" and dist.metadata.license_files == ["LICENSE"]
    assert (ROOT / "LICENSE").read_text().split()[:4] == ["Apache", "License", "Version", "2.0,"]


def test_poco_node_and_ros2_run_know_the_same_nodes() -> None:
    scripts = dict(text.split(" = ") for text in project().entry_points["console_scripts"])
    assert scripts.pop("poco") == "poco_ros.cli.main:main"
    assert scripts == dict.fromkeys(NODES, "poco_ros.cli.node:main")
    for name, module in NODES.items():
        assert importlib.util.find_spec(module) is not None, f"{name} has no module"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the prefix into which colcon has built and installed poco_ros."""
    folder = tmp_path_factory.mktemp("colcon")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-m", "colcon", "--log-base", str(folder / "log"), "build",
         "--base-paths", str(ROOT), "--build-base", str(folder / "build"),
         "--install-base", str(folder / "install"), "--event-handlers", "console_direct-"],
        check=True, cwd=folder, capture_output=True, env=environment)
    return folder / "install" / "poco_ros"


def test_colcon_installs_executables_where_ros2_run_looks(installed: Path) -> None:
    folder = installed / "lib" / "poco_ros"
    assert {path.name for path in folder.iterdir()} == {"poco", *NODES}
    site = next(installed.glob("lib/python*/site-packages"))
    shown = subprocess.run([folder / "poco", "--version"], capture_output=True, text=True,
                           check=True, env={**os.environ, "PYTHONPATH": str(site)})
    assert shown.stdout.strip() == f"poco_ros {poco_ros.__version__}"


def test_colcon_installs_every_module_launch_file_and_preset(installed: Path) -> None:
    site = next(installed.glob("lib/python*/site-packages"))
    share = installed / "share" / "poco_ros"
    for source, target in ((ROOT / "poco_ros", site / "poco_ros"),
                           (ROOT / "sim_bridge", site / "sim_bridge"),
                           (ROOT / "launch", share / "launch"),
                           (ROOT / "config", share / "config")):
        for path in source.rglob("*"):
            if path.suffix in (".py", ".yaml", ".typed") and "__pycache__" not in path.parts:
                assert (target / path.relative_to(source)).is_file(), f"{path} is not installed"
    assert (share / "package.xml").is_file() and (share / "LICENSE").is_file()
    marker = installed / "share/ament_index/resource_index/packages/poco_ros"
    assert marker.is_file(), "ros2 would not find the package"


def run_alone(code: str) -> None:
    """Run Python code in an interpreter that has imported nothing yet."""
    subprocess.run([sys.executable, "-c", code], check=True,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_help_is_instant_because_nothing_heavy_is_imported() -> None:
    code = ("import sys; from poco_ros.cli.main import build_parser; build_parser();"
            "heavy = {'numpy', 'torch', 'yaml', 'rclpy', 'mujoco'} & set(sys.modules);"
            "sys.exit(f'{heavy} imported' if heavy else 0)")
    run_alone(code)


def test_what_is_refused_is_refused_at_once() -> None:
    """A wrong word costs no wait for torch."""
    code = ("import sys; from poco_ros.cli.main import main;"
            "code = main(['train', '--preset', 'nowhere']);"
            "sys.exit('torch imported' if 'torch' in sys.modules else code - 2)")
    run_alone(code)


def test_launch_files_need_only_what_ros_brings() -> None:
    """``ros2 launch`` runs them in the system's Python, beside whose ROS only these are found."""
    code = ("import sys; import poco_ros.bringup;"
            "missing = {'torch', 'safetensors', 'scipy', 'h5py', 'rich', 'honcho', 'mujoco',"
            " 'cv2'} & set(sys.modules); sys.exit(f'{missing} imported' if missing else 0)")
    run_alone(code)


def test_every_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for command, summary in COMMANDS.items():
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        told = capsys.readouterr().out
        assert told.startswith(f"usage: poco {command}"), told
        assert summary and len(told.splitlines()) > 8, f"poco {command} --help says too little"


def test_a_machine_without_a_compiler_is_told_what_to_install() -> None:
    checked = subprocess.run([sys.executable, str(ROOT / "scripts/check_machine.py")],
                             capture_output=True, text=True, env={"PATH": "/nowhere"})
    assert checked.returncode == 1
    assert "a C++ compiler" in checked.stderr
    assert re.search(r"Remedy: sudo apt-get install .*g\+\+", checked.stderr)


def test_nothing_is_asked_for_that_make_does_without(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without libGL and glib it takes the OpenCV that needs neither, at the same version."""
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    assert runpy.run_path(str(ROOT / "scripts/check_machine.py"))["main"]() == 0
    assert capsys.readouterr().err == ""
    for python in PYTHONS:
        pinned = pins(python)
        assert pinned["opencv-python"].specifier == pinned["opencv-python-headless"].specifier


def test_every_interface_is_built_and_every_field_explained() -> None:
    cmake = (ROOT / "msg/CMakeLists.txt").read_text()
    for path in (*(ROOT / "msg").rglob("*.msg"), *(ROOT / "msg").rglob("*.srv")):
        assert str(path.relative_to(ROOT / "msg")) in cmake, f"{path.name} is not built"
        for line in path.read_text().splitlines():
            code, _, comment = line.partition("#")
            if code.strip() and code.strip() != "---" and " " in code.strip():
                plain = code.split()[1] in ("success", "episode")  # the name says it all
                assert comment.strip() or plain, f"{path.name}: {line}"
