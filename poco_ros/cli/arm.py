"""``poco arm``: a person's hand on the arm, through its node; and without it, its power."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from poco_ros.core.errors import PocoError

if TYPE_CHECKING:
    from poco_ros.robot.piper import Piper
    from poco_ros.ros.arm_remote import ArmView

REFUSED = 1
"""Exit code when the arm's node says no, and of ``state`` when it reports an error."""
ERROR = 2
"""Level of an error on ``/diagnostics``."""
DROP = "drop"
"""What a person types before the motors lose their power."""
REPORTED = 0.3
"""Within this time every motor has said several times whether it has power [s]."""
SETTLED = 2.0
"""How long the arm may take to report that its power is off [s]."""

_DESCRIPTION = """\
Ask arm_controller, wherever it runs in this ROS domain; off and reset do without it. Exit code 0:
done, 1: it says no and why, 2: it is not there.

None of this is an emergency stop: keep a hand on the arm's own one. To find the node alone takes
up to five seconds; the keypad's stop key takes some milliseconds.
"""
_POWER = """\
Support the arm first: without power nothing holds it. arm_controller must not run. You are asked
to type the word 'drop'.
"""
ASKED = {
    "configure": "open the bus and measure; no motor is powered",
    "activate": "power the motors and hold the measured pose; also again after a stop or a fault",
    "deactivate": "command nothing any more; the motors keep their power and hold",
    "home": "go to homing.pose",
    "stop": "hold the measured pose, until release; an arm that others lead is not held",
    "release": "lift the stop; nothing moves",
}
CUT = {
    "off": "cut the power of the motors: THE ARM DROPS",
    "reset": "reset the arm's own controller, which lifts its emergency stop and its errors: THE"
             " ARM DROPS",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``poco arm`` and its actions."""
    parser = subparsers.add_parser(
        "arm", help="look at the arm, power it, send it home, stop it, switch it off",
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    state = actions.add_parser("state", help="joints, gripper, what it does and what is wrong",
                               description="Print joints, gripper, mode, rate and faults."
                               " Exit code 1: arm_controller reports an error.")
    state.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    add_namespace(state)
    state.set_defaults(do=show_state)
    for name, summary in ASKED.items():
        action = actions.add_parser(name, help=summary, description=f"Ask it to {summary}.")
        add_namespace(action)
        action.set_defaults(do=ask)
    for name, summary in CUT.items():
        action = actions.add_parser(name, help=summary, description=f"{summary}.\n\n{_POWER}",
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
        action.add_argument("--robot", default="robot/piper.yaml", metavar="YAML",
                            help="settings of the arm: a path, or a name in config/"
                            " [default: robot/piper.yaml]")
        action.set_defaults(do=cut_power)


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """Declare the flag of the graph's namespace."""
    parser.add_argument("--namespace", default="", metavar="NAME",
                        help="namespace of the graph [default: none]")


def run(args: argparse.Namespace) -> int:
    """Do the action that was asked for."""
    action: Callable[[argparse.Namespace], int] = args.do
    return action(args)


def ask(args: argparse.Namespace) -> int:
    """Ask the arm's node for something and print what it says."""
    from poco_ros.ros.arm_remote import ArmRemote

    with ArmRemote(args.namespace) as remote:
        return answered(f"arm {args.action}", getattr(remote, args.action))


def answered(what: str, asked: Callable[[], str]) -> int:
    """Print what a node answers; return the exit code."""
    from poco_ros.ros.remote import RefusedError

    try:
        print(f"{what}: {asked()}")
    except RefusedError as refusal:
        print(f"{what}: REFUSED: {refusal}", file=sys.stderr)
        return REFUSED
    return 0


def show_state(args: argparse.Namespace) -> int:
    """Print how the arm is."""
    from poco_ros.ros.arm_remote import ArmRemote

    with ArmRemote(args.namespace) as remote:
        view = remote.view()
        print(in_words(view), flush=True)
        while args.watch:
            view = remote.view()
            print(f"\n{in_words(view)}", flush=True)
    return REFUSED if view.report.level >= ERROR else 0


def in_words(view: ArmView) -> str:
    """Return how the arm is, a line each."""
    from poco_ros.core.task import ROBOT_JOINTS

    figures, report = view.report.figures, view.report
    mode, reason = figures.get("mode", ""), figures.get("reason", "")
    lines = [f"arm_controller is {figures.get('state', 'unknown')}, mode {mode}"
             f"{f' ({reason})' if reason else ''}"]
    if view.joints is None:
        lines.append("no joint_states: poco arm configure opens the bus")
    else:
        lines += [f"{name:<8} {np.rad2deg(angle):8.2f} deg {angle:9.4f} rad"
                  for name, angle in zip(ROBOT_JOINTS[:-1], view.joints[:-1], strict=True)]
        lines.append(f"{ROBOT_JOINTS[-1]:<8} {1e3 * view.joints[-1]:8.1f} mm")
        lines.append(f"rate     {view.rate:8.2f} /s measured, {figures.get('missed_ticks', '?')}"
                     " ticks missed so far")
    lines.append(f"faults   {report.message if report.level else 'none'}")
    return "\n".join(lines)


def cut_power(args: argparse.Namespace) -> int:
    """Take the power from the motors, after a typed word."""
    from poco_ros.core.config import load
    from poco_ros.preset import find_settings
    from poco_ros.robot.config import RobotConfig
    from poco_ros.robot.piper import CONFIRMATION, Piper

    arm = Piper(load(RobotConfig, find_settings(args.robot)).arm)
    arm.open()  # takes the bus: refused while arm_controller has it
    try:
        _confirm(args.action, f"{arm.config.interface} {arm.config.channel}")
        (arm.power_off if args.action == "off" else arm.reset)(CONFIRMATION)
        left = _settled(arm, errors=args.action == "reset")
    finally:
        arm.close()
    if left:
        print(f"arm {args.action}: sent, but {left}", file=sys.stderr)
        return REFUSED
    print(f"arm {args.action}: done, the motors are off")
    return 0


def _confirm(action: str, bus: str) -> None:
    """Let a person type the word; whatever else he does, nothing is sent."""
    if not sys.stdin.isatty():
        raise PocoError(f"arm {action} wants a person at a terminal, who supports the arm and"
                        f" types the word {DROP!r}; nothing was sent")
    print(f"The arm on {bus}: its motors lose their power, and THE ARM DROPS. Support it now.")
    try:
        typed = input(f"Type the word {DROP} to go on, anything else to leave it: ")
    except EOFError:
        typed = ""
    if typed.strip() != DROP:
        raise PocoError(f"{typed.strip()!r} is not {DROP!r}; nothing was sent")


def _settled(arm: Piper, errors: bool) -> str:
    """Wait until no motor has power and, with ``errors``, none is reported; return what is left.
    """
    end = time.monotonic() + SETTLED
    time.sleep(REPORTED)  # a motor that has not reported yet counts as one without power
    while True:
        faults = {fault.code: fault for fault in arm.read().faults}
        off = faults.get("not_enabled")
        powered = [name for name in arm.joint_names if off is None or name not in off.detail]
        left = [str(faults[code]) for code in ("arm_status", "motor") if errors and code in faults]
        if not powered and not left:
            return ""
        if time.monotonic() > end:
            return "; ".join([*(f"{name} still has power" for name in powered), *left])
        time.sleep(0.05)
