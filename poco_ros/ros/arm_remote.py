"""A person's hand on the arm's node: look, power, go home, stop, release."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from poco_ros.core.errors import DataError
from poco_ros.core.task import ROBOT_JOINTS
from poco_ros.ros import convert, names
from poco_ros.ros.lifecycle import END_AUTOSTART
from poco_ros.ros.remote import LOOK, RefusedError, Remote, Report

ARM = "arm_controller"
SLOW = 20.0
"""How long it may take to open the bus or to power the motors [s]."""
MEASURED = 1.5
"""How long the first measurement is waited for [s]."""
_TRANSITIONS = {"configure": Transition.TRANSITION_CONFIGURE,
                "activate": Transition.TRANSITION_ACTIVATE,
                "deactivate": Transition.TRANSITION_DEACTIVATE}


@dataclass(frozen=True, eq=False)
class ArmView:
    """What the arm's node says of the arm."""

    joints: np.ndarray | None
    """(7,) six joints [rad], then the gripper's opening [m]; None when nothing is measured."""
    rate: float
    """Measurements a second, as heard here; 0 = none."""
    report: Report


class ArmRemote(Remote):
    """Asks the arm's node."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__(namespace)
        self._measured: deque[tuple[int, np.ndarray]] = deque(maxlen=30)
        self.loop.subscribe(JointState, names.JOINT_STATES, self._on_joints, names.TICK_QOS)

    def _on_joints(self, message: JointState) -> None:
        try:
            self._measured.append(convert.joints_of(message, ROBOT_JOINTS))
        except DataError:
            return  # of another robot

    def view(self) -> ArmView:
        """Return how the arm is, as of the next report of its node.

        Raises:
            NotThereError: there is no such node.
        """
        report = self.report(ARM)
        measures = report.figures.get("state") in ("inactive", "active")
        if not measures or not self.until(lambda: len(self._measured) > 1, MEASURED):
            return ArmView(None, 0.0, report)
        (first, _), (last, joints) = self._measured[0], self._measured[-1]
        rate = (len(self._measured) - 1) * 1e9 / max(last - first, 1)
        self._measured.clear()
        return ArmView(joints, rate, report)

    def configure(self) -> str:
        """Let the node open the bus and measure; return what came of it.

        Raises:
            NotThereError: no such node.
            RefusedError: it cannot; the message says why.
        """
        state = self._state()
        if state == "unconfigured":
            self._change("configure")
            return "it measures; the motors are as they were"
        return f"it is {state}, and measures already"

    def activate(self) -> str:
        """Power the motors and take control, also again after a stop or a fault.

        Raises:
            NotThereError: no such node.
            RefusedError: the stop is latched, or the arm refuses; the message says why.
        """
        state = self._state()
        if state == "active":
            figures = self.report(ARM).figures
            mode = figures.get("mode", "")
            if mode == "teach":
                return "it is active: it watches a person lead the arm, and powers nothing"
            if mode in ("active", "ramping"):
                return f"it is {mode} already"
            if mode == "stopped":
                raise RefusedError(f"the stop is latched ({figures.get('reason', '')}); release it"
                                   " first: poco arm release")
            self._change("deactivate")
        elif state == "unconfigured":
            self._change("configure")
        self._change("activate")
        return "the motors are on and hold the measured pose; nothing moves"

    def deactivate(self) -> str:
        """Let the node give control up; the arm holds under power. One that is still starting
        leaves the rest to people.

        Raises:
            NotThereError: no such node.
            RefusedError: it cannot; the message says why.
        """
        self.call(Trigger, f"{ARM}/{END_AUTOSTART}", ARM, Trigger.Request(), patience=SLOW)
        state = self._state()
        if state != "active":
            return f"it is {state}, and stays so until somebody asks for more"
        self._change("deactivate")
        return "it commands nothing any more; the motors keep their power and hold"

    def home(self) -> str:
        """Send the arm home; returns while it is on its way.

        Raises:
            NotThereError: no such node.
            RefusedError: it is stopped, holds or is inactive.
        """
        answer = self.call(Trigger, names.HOME, ARM, Trigger.Request())
        if not answer.success:
            raise RefusedError(f"{answer.message}; poco arm activate first, after a stop poco arm"
                               " release before it")
        return f"{answer.message}; stop it with: poco arm stop"

    def stop(self) -> str:
        """Latch the stop; return what the arm does now: an arm that others lead is not held.

        Raises:
            NotThereError: no such node. Then nobody has stopped the arm.
            RefusedError: it says no.
        """
        return f"{self._switch_stop(True)}; release it with: poco arm release"

    def release(self) -> str:
        """Lift the stop; nothing moves.

        Raises:
            NotThereError: no such node.
            RefusedError: it says no.
        """
        self._switch_stop(False)
        return "no stop is latched; the arm moves after poco arm activate, or when the operator" \
               " was ready"

    def _switch_stop(self, stop: bool) -> str:
        """Stop, asked for until it is answered; or release, once. Return the answer.

        A release that is heard late would lift a stop that somebody has asked for since.
        """
        answer = self.call(SetBool, names.STOP, ARM, SetBool.Request(data=stop), again=stop)
        if not answer.success:
            raise RefusedError(answer.message)
        return str(answer.message)

    def _state(self) -> str:
        """Return the state of the node's life cycle, when it is not on its way to another."""
        end = time.monotonic() + SLOW
        while True:
            state = self.call(GetState, f"{ARM}/get_state", ARM, GetState.Request(),
                              patience=SLOW).current_state
            if state.id <= State.PRIMARY_STATE_FINALIZED:
                return str(state.label)
            if time.monotonic() > end:
                raise RefusedError(f"it has been {state.label} for {SLOW:g} s; see what it says"
                                   " (poco arm state), and ask again")
            self.until(lambda: False, LOOK)

    def _change(self, name: str) -> None:
        """Ask for a transition of the node's life cycle."""
        request = ChangeState.Request(transition=Transition(id=_TRANSITIONS[name]))
        answer = self.call(ChangeState, f"{ARM}/change_state", ARM, request, patience=SLOW,
                           again=False)
        if not answer.success:
            raise RefusedError(f"{name} was refused: {self.report(ARM).message}")
