"""The node's parameters, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.preset import load_preset
from poco_ros.robot.config import RobotConfig
from poco_ros.robot.controller import ArmController
from poco_ros.robot.piper import Piper

ACT, TEACH = "act", "teach"


@dataclass(frozen=True)
class ArmControllerSettings:
    """Parameters of the node."""

    preset: str = setting("", "preset of the task; chunks of other tasks are refused; empty: any"
                          " task")
    config: str = setting("", "YAML file of the arm's side, such as config/robot/piper.yaml;"
                          " empty: the defaults")
    interface: str = setting("", "python-can interface in place of the one in config; empty: that"
                             " one")
    channel: str = setting("", "channel in place of the one in config; empty: that one")
    mode: str = setting(ACT, "act: chunks move the arm; teach: a person leads it, with a leader"
                        " arm (arm.other_controllers: leader) or by hand, and nothing but a stop"
                        " is sent", choices=(ACT, TEACH))
    autostart: bool = setting(True, "configure and activate by itself")


def robot_config(settings: ArmControllerSettings) -> RobotConfig:
    """Return the settings of the arm's side.

    Raises:
        ConfigError: a wrong file, key or value; or a leader where chunks shall move the arm.
    """
    robot = config.load(RobotConfig, settings.config) if settings.config else RobotConfig()
    arm = replace(robot.arm, interface=settings.interface or robot.arm.interface,
                  channel=settings.channel or robot.arm.channel)
    where = settings.config or "parameters of arm_controller"
    if settings.mode == ACT and arm.other_controllers == "leader":
        raise ConfigError(f"{where}: arm.other_controllers is leader: then this program sends no"
                          " command; use mode:=teach, or set it to refuse")
    robot = replace(robot, arm=arm)
    try:  # what is said by joint is looked at when it is first used: here
        ArmController(Piper(robot.arm), robot)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return robot


def task_of(settings: ArmControllerSettings) -> str:
    """Return the task whose chunks are let in; empty: any.

    Raises:
        ConfigError: no such preset, or one of a simulated task.
    """
    if not settings.preset:
        return ""
    task = load_preset(settings.preset).task
    if task.simulated:
        raise ConfigError(f"preset {settings.preset} is for the simulated task {task.name}, which"
                          " needs no arm")
    return task.name
