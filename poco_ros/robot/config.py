"""Settings of the arm's side; ``config/robot/piper.yaml`` fills them. SI units throughout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.robot.kinematics import GRIPPER_STROKE, JOINT_LOWER, JOINT_NAMES, JOINT_UPPER


def _each(value: float) -> dict[str, float]:
    return dict.fromkeys(JOINT_NAMES, value)


def arm_limits() -> dict[str, tuple[float, float]]:
    """Return the arm's own joint limits by name [rad]: it refuses a pose beyond them."""
    return {name: (float(low), float(high))
            for name, low, high in zip(JOINT_NAMES, JOINT_LOWER, JOINT_UPPER, strict=True)}


@dataclass(frozen=True)
class PiperConfig:
    """How the Piper is reached and driven."""

    interface: str = setting("socketcan", "python-can interface: socketcan, slcan, or a plug-in")
    channel: str = setting("can0", "channel of that interface: can0, /dev/ttyACM0, a socket")
    bitrate: int = setting(1_000_000, "bit rate of the bus; the Piper's is fixed", unit="1/s",
                           minimum=10_000)
    bus_options: dict[str, Any] = setting(
        dict, "further options of the interface, such as {sleep_after_open: 0.5} for slcan")
    speed_percent: int = setting(60, "speed that the arm's own controller allows", unit="%",
                                 minimum=1, maximum=100)
    gripper_torque: float = setting(1.0, "torque of the gripper", unit="N m", minimum=0.0,
                                    maximum=5.0)
    silence_timeout: float = setting(
        0.12, "the bus counts as silent when no measurement came for so long", unit="s",
        minimum=0.02, maximum=1.0)
    report_timeout: float = setting(
        0.5, "gripper, status and drivers of the arm, which report less often than the joints,"
        " count as missing when one of them did not for so long", unit="s", minimum=0.1,
        maximum=5.0)
    snapshot_spread: float = setting(
        0.004, "the three joint frames of one measurement lie closer together than this",
        unit="s", minimum=0.0005, maximum=0.05)
    reconnect_period: float = setting(0.5, "pause between attempts to open a lost bus again",
                                      unit="s", minimum=0.05)
    open_timeout: float = setting(6.0, "how long the first measurement may take", unit="s",
                                  minimum=0.2)
    enable_timeout: float = setting(5.0, "how long the motors may take to come on", unit="s",
                                    minimum=0.2)
    listen_time: float = setting(
        0.3, "listen so long for another controller before the first command", unit="s",
        minimum=0.05)
    other_controllers: str = setting(
        "refuse", "commands of somebody else on the bus: refuse = a fault; leader = they are a "
        "leader arm's, read for teaching, and this program sends none but the emergency stop of "
        "stop_mode",
        choices=("refuse", "leader"))
    stop_mode: str = setting(
        "hold", "a stop holds the measured pose under power, but not of an arm that others lead; "
        "emergency also sends the arm's own emergency stop, in which it sinks slowly and which "
        "only 'poco arm reset' lifts, and a reset lets the arm fall",
        choices=("hold", "emergency"))
    lock_folder: Path = setting(Path("/tmp/poco_ros"), "where the bus is locked against a second "
                                "controller on this machine, and where a latched stop is kept")


@dataclass(frozen=True)
class ActionConfig:
    """What an action means: changes of six joints, and the opening of the gripper."""

    joint_delta: dict[str, float] = setting(
        lambda: _each(0.06), "change that action 1 asks of each joint in one tick", unit="rad")
    gripper_closed: float = setting(0.0, "opening at action -1", unit="m", minimum=0.0)
    gripper_open: float = setting(GRIPPER_STROKE, "opening at action 1", unit="m", minimum=0.0)

    def __post_init__(self) -> None:
        if self.gripper_open - self.gripper_closed < 1e-3:
            raise ConfigError(f"gripper_open {self.gripper_open} must exceed gripper_closed"
                              f" {self.gripper_closed} by 1 mm at least")
        for name, delta in self.joint_delta.items():
            if not 0.0 < delta < 1.0:
                raise ConfigError(f"joint_delta: {name} is {delta}, expected 0 to 1 rad")


@dataclass(frozen=True)
class WorkspaceConfig:
    """Where the arm may be; every bound is optional, and 0.0 is a bound."""

    table_height: float | None = setting(
        None, "height of the table above the arm's base; tool, flange, wrist and elbow stay above",
        unit="m")
    clearance: float = setting(0.005, "distance that they keep from the table", unit="m",
                               minimum=0.0)
    box_lower: tuple[float, float, float] | None = setting(
        None, "lowest x, y, z of the tool in the arm's base frame", unit="m")
    box_upper: tuple[float, float, float] | None = setting(
        None, "highest x, y, z of the tool in the arm's base frame", unit="m")
    tool_length: float = setting(0.135, "from the flange to the finger tips", unit="m",
                                 minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        if self.box_lower is not None and self.box_upper is not None and any(
                low >= high for low, high in zip(self.box_lower, self.box_upper, strict=True)):
            raise ConfigError(f"box_lower {self.box_lower} is not below box_upper"
                              f" {self.box_upper}")


@dataclass(frozen=True)
class SafetyConfig:
    """What the safety filter allows, at the receiver, whoever asks."""

    joint_limits: dict[str, tuple[float, float]] = setting(
        arm_limits, "lowest and highest position of each joint; at most the arm's own", unit="rad")
    limit_margin: float = setting(0.01, "kept between those limits and any command", unit="rad",
                                  minimum=0.0, maximum=0.2)
    joint_step: dict[str, float] = setting(
        lambda: _each(0.07), "largest change of each joint in one tick", unit="rad")
    joint_velocity: dict[str, float] = setting(
        lambda: _each(1.2), "largest velocity of each joint", unit="rad/s")
    gripper_range: tuple[float, float] = setting(
        (0.0, GRIPPER_STROKE), "narrowest and widest opening", unit="m", minimum=0.0)
    gripper_step: float = setting(0.03, "largest change of the opening in one tick", unit="m",
                                  minimum=0.0005)
    chunk_age: float = setting(
        0.8, "an action is stale when the observation that it answers is older", unit="s",
        minimum=0.02, maximum=10.0)
    following_error: float = setting(
        0.35, "the arm is blocked when a joint is so far from where it was asked to be",
        unit="rad", minimum=0.02)
    entry_tolerance: float = setting(
        0.06, "on activation a joint may be so far outside its limits; with the first motion it is"
        " led back in", unit="rad", minimum=0.0, maximum=0.5)
    soft_start: float = setting(
        1.0, "after activation and recovery, steps grow to their full size within", unit="s",
        minimum=0.0, maximum=10.0)
    workspace: WorkspaceConfig = setting(WorkspaceConfig, "Cartesian bounds")

    def __post_init__(self) -> None:
        widest = arm_limits()
        for name, (low, high) in self.joint_limits.items():
            if name in widest and (low < widest[name][0] - 1e-6 or high > widest[name][1] + 1e-6):
                raise ConfigError(f"joint_limits: {name} [{low}, {high}] rad is wider than the"
                                  f" arm's own [{widest[name][0]:.4f}, {widest[name][1]:.4f}]")
            if high - low <= 2 * self.limit_margin:
                raise ConfigError(f"joint_limits: {name} [{low}, {high}] rad leaves no room beside"
                                  f" limit_margin {self.limit_margin}")
        for key, unit in (("joint_step", "rad"), ("joint_velocity", "rad/s")):
            for name, value in getattr(self, key).items():
                if not 0.0 < value < 20.0:
                    raise ConfigError(f"{key}: {name} is {value}, expected more than 0 and less"
                                      f" than 20 {unit}")
        low, high = self.gripper_range
        if low >= high or high > GRIPPER_STROKE + 1e-9:
            raise ConfigError(f"gripper_range {self.gripper_range} m: expected low < high <="
                              f" {GRIPPER_STROKE}")


@dataclass(frozen=True)
class HomingConfig:
    """The pose where episodes begin, and the way there."""

    pose: dict[str, float] = setting(
        lambda: dict(zip(JOINT_NAMES, (0.0, 1.2, -1.0, 0.0, 0.9, 0.0), strict=True)),
        "joints at home", unit="rad")
    gripper: float = setting(GRIPPER_STROKE, "opening at home", unit="m", minimum=0.0,
                             maximum=GRIPPER_STROKE)
    waypoints: tuple[dict[str, float], ...] = setting(
        (), "poses to pass on the way home, first one first", unit="rad")
    velocity: float = setting(0.5, "highest velocity of a joint on the way", unit="rad/s",
                              minimum=0.02, maximum=2.0)
    tolerance: float = setting(0.05, "home is reached when every joint is so near", unit="rad",
                               minimum=0.001)
    patience: float = setting(4.0, "fault when home is not reached so long after the way's end",
                              unit="s", minimum=0.1)


@dataclass(frozen=True)
class ControlConfig:
    """The control loop."""

    rate: float = setting(15.0, "ticks a second", unit="1/s", minimum=1.0, maximum=200.0)
    act_offset: float = setting(
        0.02, "from measuring to acting within a tick: time for the chunk to arrive", unit="s",
        minimum=0.0)
    realtime: bool = setting(
        True, "let the ticks go before ordinary programs, where root or the limit rtprio allows"
        " it; elsewhere they have ordinary priority, and the diagnostics say so")
    heartbeat_timeout: float = setting(
        1.0, "stop, latched, when the operator's heartbeat (keypad_reward sends 5 a second while a"
        " key would be heard) is missing for so long, and take no control without it; 0 = no"
        " heartbeat wanted", unit="s", minimum=0.0)

    def __post_init__(self) -> None:
        if self.act_offset >= 0.9 / self.rate:
            raise ConfigError(f"act_offset {self.act_offset} s leaves no room in a tick of"
                              f" {1 / self.rate:.4f} s; at most {0.9 / self.rate:.4f}")


@dataclass(frozen=True)
class TeachingConfig:
    """How motions that a person leads become actions."""

    leader_age: float = setting(
        0.15, "a leader's command counts for so long; older ones, and the measured pose is taken",
        unit="s", minimum=0.02, maximum=2.0)
    squeeze: float = setting(
        0.02, "led by hand, a closed gripper is taken to have been asked for an opening that is"
        " narrower by this, so that what it holds is pressed on", unit="m", minimum=0.0,
        maximum=0.05)


@dataclass(frozen=True)
class RobotConfig:
    """The arm's side as a whole."""

    arm: PiperConfig = setting(PiperConfig, "the arm and its bus")
    actions: ActionConfig = setting(ActionConfig, "what an action means")
    safety: SafetyConfig = setting(SafetyConfig, "what is allowed")
    homing: HomingConfig = setting(HomingConfig, "the pose where episodes begin")
    control: ControlConfig = setting(ControlConfig, "the control loop")
    teaching: TeachingConfig = setting(TeachingConfig, "motions that a person leads")
