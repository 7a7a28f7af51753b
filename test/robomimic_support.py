"""Files laid out as robomimic publishes them for robosuite 1.5, small, of invented numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poco_ros.core.robomimic import ROBOMIMIC_TASKS

STATES = {"lift": 32, "can": 71, "square": 45}
"""Length of the simulator's flat state in the published files."""
EXTRA_PARTS = {"robot0_eef_quat_site": 4, "robot0_gripper_qvel": 2, "robot0_joint_pos": 7,
               "robot0_joint_pos_cos": 7, "robot0_joint_pos_sin": 7, "robot0_joint_vel": 7}
"""What they observe beside the parts that the study takes."""
LENGTHS = {0: 30, 1: 24, 2: 41, 10: 28}
"""Number of a demo -> its steps."""
AFTER = 5
"""Steps that a demonstration goes on for after the success, each with a reward of 1."""


def env_args(domain: str) -> dict[str, Any]:
    """Return the attribute ``env_args`` of a published file."""
    return {
        "env_name": ROBOMIMIC_TASKS[domain].env_name, "env_version": "1.5.1", "type": 1,
        "env_kwargs": {
            "has_renderer": False, "has_offscreen_renderer": False, "ignore_done": True,
            "use_object_obs": True, "use_camera_obs": False, "control_freq": 20,
            "controller_configs": {"type": "BASIC", "body_parts": {"right": {
                "type": "OSC_POSE", "input_max": 1, "input_min": -1,
                "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
                "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
                "kp": 150, "damping": 1, "impedance_mode": "fixed", "kp_limits": [0, 300],
                "damping_limits": [0, 10], "position_limits": None, "orientation_limits": None,
                "uncouple_pos_ori": True, "control_delta": True, "interpolation": None,
                "ramp_ratio": 0.2, "input_ref_frame": "world", "gripper": {"type": "GRIP"}}}},
            "robots": ["Panda"], "camera_depths": False, "camera_heights": 84,
            "camera_widths": 84, "lite_physics": False, "reward_shaping": False}}


def publish(path: Path, domain: str, success: bool = True) -> Path:
    """Write a file as robomimic publishes ``low_dim_v15.hdf5``."""
    generator = np.random.default_rng(7)
    sizes = {**dict(ROBOMIMIC_TASKS[domain].layout.parts), **EXTRA_PARTS}
    names = [f"demo_{number}" for number in LENGTHS]
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        for name, length in zip(names, LENGTHS.values(), strict=True):
            demo = data.create_group(name)
            demo.attrs["model_file"] = "<mujoco model=\"base\"/>"
            demo.attrs["num_samples"] = length
            actions = generator.uniform(-0.8, 0.8, (length, 7))
            actions[:, 6] = np.sign(actions[:, 6])
            demo.create_dataset("actions", data=actions)
            demo.create_dataset("states", data=generator.normal(size=(length, STATES[domain])))
            rewards = np.zeros(length)
            if success:
                rewards[-AFTER - 1:] = 1.0
            demo.create_dataset("rewards", data=rewards)
            dones = rewards.astype(np.int64)
            dones[-1] = 1
            demo.create_dataset("dones", data=dones)
            for part, size in sizes.items():
                values = generator.normal(size=(length + 1, size))
                demo.create_dataset(f"obs/{part}", data=values[:-1])
                demo.create_dataset(f"next_obs/{part}", data=values[1:])
        data.attrs["total"] = sum(LENGTHS.values())
        data.attrs["env_args"] = json.dumps(env_args(domain), indent=4)
        for mask, members in (("better", names[:2]), ("worse", names[2:]), ("train", names[1:]),
                              ("valid", names[:1])):
            file.create_dataset(f"mask/{mask}", data=np.array(members, "S"))
    return path


def edited(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    """Return what opens a file and changes it."""

    def damage(path: Path) -> None:
        with h5py.File(path, "a") as file:
            change(file)
    return damage


def with_env_args(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return what changes the ``env_args`` of a file."""

    def change_all(file: h5py.File) -> None:
        said = json.loads(file["data"].attrs["env_args"])
        change(said)
        file["data"].attrs["env_args"] = json.dumps(said)
    return edited(change_all)


def instead(key: str, value: np.ndarray) -> Callable[[Path], None]:
    """Return what replaces one data set of a file."""

    def change(file: h5py.File) -> None:
        del file[key]
        file[key] = value
    return edited(change)
