"""Settings of the emulated cell; ``config/cell/*.yaml`` and ``poco cell`` fill them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poco_ros.core.config import setting


@dataclass(frozen=True)
class SceneConfig:
    """Arm, table and cube."""

    timestep: float = setting(0.0025, "physics step", unit="s", minimum=0.0005, maximum=0.005)
    home: tuple[float, ...] = setting(
        (0.0, 1.2, -1.0, 0.0, 0.9, 0.0), "joints at rest above the table", unit="rad")
    folded: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0, 0.0, 0.35, 0.0), "joints when the cell starts, the motors off",
        unit="rad")
    cube_size: float = setting(0.04, "edge of the cube", unit="m", minimum=0.02, maximum=0.06)
    cube_x: tuple[float, float] = setting((0.25, 0.37), "where the cube is put", unit="m")
    cube_y: tuple[float, float] = setting((-0.10, 0.10), "where the cube is put", unit="m")
    cube_yaw: tuple[float, float] = setting((-0.6, 0.6), "how the cube is turned", unit="rad")
    joint_speed: float = setting(3.0, "joint speed at 100 %", unit="rad/s", minimum=0.1)
    joint_acceleration: float = setting(12.0, "joint acceleration", unit="rad/s^2", minimum=0.5)
    gripper_speed: float = setting(0.16, "opening speed of the gripper", unit="m/s", minimum=0.01)
    gripper_force: float = setting(30.0, "grip force at 1 N m of commanded torque", unit="N",
                                   minimum=1.0)


@dataclass(frozen=True)
class CameraConfig:
    """One camera."""

    name: str = setting("front", "name, which the URL carries")
    width: int = setting(128, "width of the picture", unit="px", minimum=16, maximum=1920)
    height: int = setting(128, "height of the picture", unit="px", minimum=16, maximum=1080)
    rate: float = setting(20.0, "pictures a second while somebody watches", unit="1/s",
                          minimum=1.0, maximum=120.0)
    noise: float = setting(2.0, "standard deviation of the sensor noise, of 255", minimum=0.0,
                           maximum=50.0)
    quality: int = setting(92, "JPEG quality", minimum=10, maximum=100)


@dataclass(frozen=True)
class CanConfig:
    """How often the arm reports. A real Piper sends about 3,040 frames a second: 200 of every
    kind but 40 of ``driver``; the defaults keep what is controlled from at 200 Hz."""

    joint_rate: float = setting(200.0, "joints and gripper, 0x2A5-0x2A8", unit="1/s",
                                minimum=1.0, maximum=200.0)
    status_rate: float = setting(50.0, "status of the arm, 0x2A1", unit="1/s", minimum=1.0,
                                 maximum=200.0)
    pose_rate: float = setting(20.0, "pose of the flange, 0x2A2-0x2A4", unit="1/s", minimum=1.0,
                               maximum=200.0)
    motor_rate: float = setting(40.0, "speed and current of the motors, 0x251-0x256",
                                unit="1/s", minimum=1.0, maximum=200.0)
    driver_rate: float = setting(20.0, "state of the drivers, 0x261-0x266", unit="1/s",
                                 minimum=1.0, maximum=200.0)
    enable_time: float = setting(0.04, "from the command until a motor is on", unit="s",
                                 minimum=0.0)
    firmware: str = setting("S-V1.8-2", "firmware version that the arm names; the SDK reads 8 "
                            "characters from S-V on")
    slcan: bool = setting(False, "also offer the bus as an slcan serial adapter on a pty")


@dataclass(frozen=True)
class OperatorConfig:
    """The person at the keypad. The keys are those of a serial numeric keypad."""

    enabled: bool = setting(True, "let the emulated operator press keys by himself")
    success_key: str = setting("1", "typed when the cube is lifted")
    failure_key: str = setting("0", "typed when the time is over")
    discard_key: str = setting(".", "typed on request only")
    ready_key: str = setting("\r", "typed when the scene is reset")
    stop_key: str = setting("*", "typed on request only")
    lift_height: float = setting(0.08, "lifted: the cube's centre is higher above the table",
                                 unit="m", minimum=0.03)
    hold_time: float = setting(0.4, "lifted: for so long", unit="s", minimum=0.0)
    trial_time: float = setting(5.0, "failure is typed after so long", unit="s", minimum=1.0)
    reaction_time: float = setting(0.25, "mean delay before a key", unit="s", minimum=0.0)
    reset_time: float = setting(1.0, "what it takes to put the cube back", unit="s", minimum=0.0)
    patience: float = setting(12.0, "an arm that rests away from home for so long comes no nearer",
                              unit="s", minimum=1.0)
    ready_again: float = setting(
        4.0, "ready is typed again when the arm has not moved for so long after it", unit="s",
        minimum=1.0)


@dataclass(frozen=True)
class LeaderConfig:
    """The leader arm that a scripted hand moves, for demonstrations by teleoperation."""

    demonstrations: int = setting(0, "demonstrations to give, then the leader falls silent",
                                  minimum=0)
    rate: float = setting(50.0, "commands a second on the bus", unit="1/s", minimum=15.0,
                          maximum=200.0)
    speed_percent: int = setting(60, "speed that the leader asks of the arm", unit="%",
                                 minimum=1, maximum=100)


@dataclass(frozen=True)
class ScriptConfig:
    """The scripted Pick Cube motion, one action a tick."""

    period: float = setting(1 / 15, "time of one action", unit="s", minimum=0.01)
    joint_step: float = setting(0.06, "change of a joint that action 1 asks for", unit="rad",
                                minimum=0.001)
    gripper_step: float = setting(0.03, "change of the gripper's opening in one tick", unit="m",
                                  minimum=0.0005)
    speed: float = setting(0.16, "speed of the tool", unit="m/s", minimum=0.01)
    tilt: float = setting(0.30, "how far the approach leans outwards", unit="rad")
    approach_height: float = setting(0.11, "height of the tool before the descent", unit="m")
    lift_height: float = setting(0.15, "height of the tool after the lift", unit="m")
    position_noise: float = setting(
        0.018, "standard deviation of the misjudged place of the cube, each axis", unit="m",
        minimum=0.0)
    yaw_noise: float = setting(0.15, "standard deviation of the misjudged yaw", unit="rad",
                               minimum=0.0)
    action_noise: float = setting(0.08, "standard deviation of the tremor, of the action range",
                                  minimum=0.0)
    noise_smoothing: float = setting(0.7, "how much of the tremor stays from tick to tick",
                                     minimum=0.0, maximum=0.99)


@dataclass(frozen=True)
class CellConfig:
    """The whole emulated cell."""

    folder: Path = setting(Path("/tmp/poco_cell"), "where sockets, serial ports and cell.json "
                           "are made")
    host: str = setting("127.0.0.1", "address of cameras and control; keep it on loopback")
    port: int = setting(8090, "port of cameras and control; 0 picks a free one", minimum=0,
                        maximum=65535)
    seed: int = setting(0, "of the cube's places, of noise and of reaction times", minimum=0)
    speed: float = setting(1.0, "real-time factor", minimum=0.1, maximum=20.0)
    renderer: str = setting("fast", "fast: this package's; mujoco: MuJoCo's own (needs MUJOCO_GL)",
                            choices=("fast", "mujoco"))
    scene: SceneConfig = setting(SceneConfig, "arm, table and cube")
    cameras: tuple[CameraConfig, ...] = setting(
        lambda: (CameraConfig("front"), CameraConfig("wrist")), "cameras; front and wrist exist")
    can: CanConfig = setting(CanConfig, "the arm's bus")
    operator: OperatorConfig = setting(OperatorConfig, "the person at the keypad")
    leader: LeaderConfig = setting(LeaderConfig, "the leader arm")
    script: ScriptConfig = setting(ScriptConfig, "the scripted motion")
