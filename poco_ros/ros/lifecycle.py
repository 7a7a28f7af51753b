"""Nodes that own hardware: lifecycle nodes that bring themselves up, and wait for their plugs.

``configure`` connects to the hardware, ``activate`` lets the node do its work, ``deactivate`` and
``cleanup`` undo them, whoever asks (``ros2 lifecycle set``, a lifecycle manager). With
``autostart`` the node asks itself when it starts, again and again while the hardware is not
there; what a person has deactivated since stays so. While there is nothing to deactivate yet he
says so with the service ``~/end_autostart``.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable

from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin
from std_srvs.srv import Trigger

from poco_ros.core.errors import PocoError
from poco_ros.ros.node import PocoNode

LOOK = 0.2
"""Pause before a node that waits for another looks again [s]."""
RETRY = 1.0
"""Pause before hardware that was not there is tried again [s]."""
START = 3.0
"""Hardware that is not there when a node starts is no error for so long: it may be switched on, or
an emulated one be started, at the same time [s]."""
HARDWARE = "the hardware"
END_AUTOSTART = "end_autostart"
"""Service of a node (``std_srvs/Trigger``): autostart leaves it to people from now on."""
RCLError: type[Exception] = _rclpy.RCLError
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class HardwareNode(LifecycleNodeMixin, PocoNode):
    """A lifecycle node. Subclasses say what :meth:`connect` and its like mean for their hardware.

    Transitions come from the executor's thread or, with autostart, from the one that calls
    :meth:`bring_up`, one at a time. A PocoError that one of them raises leaves the state as it
    was, and is a fault on ``/diagnostics`` until the transition succeeds; while the node starts it
    is what it waits for.
    """

    def __init__(self, name: str) -> None:
        PocoNode.__init__(self, name)
        LifecycleNodeMixin.__init__(self)
        self._transition = threading.RLock()
        self._state = "unconfigured"
        self._bring_up = self._ended = False
        self._try_at = self._started = 0.0
        self._awaited = ""
        self.create_service(Trigger, f"~/{END_AUTOSTART}", self._on_end_autostart)

    # -- what a subclass does -----------------------------------------------------------------

    def connect(self) -> None:
        """Configure: open the hardware. Raises PocoError when it is not there."""

    def awaited(self) -> str:
        """Return for what of other nodes autostart waits before it activates; empty: nothing."""
        return ""

    def engage(self) -> None:
        """Activate: begin to work. Raises PocoError when the hardware refuses."""

    def disengage(self) -> None:
        """Deactivate: end the work, the hardware stays open."""

    def disconnect(self) -> None:
        """Clean up: close the hardware. Also called, once, when the node ends."""

    # -- state --------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``unconfigured``, ``inactive``, ``active`` or ``finalized``."""
        return self._state

    def autostart(self) -> None:
        """Configure and activate at the next :meth:`bring_up`, until it has succeeded once."""
        self._bring_up, self._started = True, time.monotonic()

    def end_autostart(self) -> None:
        """Leave to people what autostart has not begun by now; any thread may call."""
        if self._bring_up:
            self._bring_up, self._ended = False, True

    def _on_end_autostart(self, _: Trigger.Request, response: Trigger.Response
                          ) -> Trigger.Response:
        self.end_autostart()
        response.success = True
        response.message = "autostart has ended; a transition that has begun goes on"
        return response

    @property
    def bring_up_due(self) -> bool:
        """Whether :meth:`bring_up` has something to do now."""
        return (self._bring_up or self._ended) and time.monotonic() >= self._try_at

    def bring_up(self) -> None:
        """Do what autostart still has to; call it often, in one thread."""
        if not self.bring_up_due:
            return
        with self._transition:
            try:
                if self._bring_up and self._state == "unconfigured":
                    self.trigger_configure()
                if self._bring_up and self._state == "inactive" \
                        and not self._await(self.awaited()):
                    self.trigger_activate()
            except RCLError:  # the executor has begun a transition: somebody else decides first
                self.get_logger().info("somebody asks for a transition; autostart waits for it")
            if self._state not in ("unconfigured", "inactive"):
                self._bring_up = False
            if self._ended:
                self._ended = False
                self._await("")
                self.health.give_up(HARDWARE)
        self._try_at = time.monotonic() + (LOOK if self._awaited else RETRY)

    def _await(self, what: str) -> bool:
        """Say that it waits for ``what`` and for nothing else; return whether that is anything."""
        if self._awaited and self._awaited != what:
            self.health.got(self._awaited)
        if what:
            self.health.wait_for(what)
        self._awaited = what
        return bool(what)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Connect."""
        return self._move("configure", self.connect, "inactive")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Engage."""
        return self._move("activate", self.engage, "active")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Disengage."""
        return self._move("deactivate", self.disengage, "inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Disconnect."""
        return self._move("cleanup", self.disconnect, "unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Disengage and disconnect; the process ends."""
        result = self._move("shutdown", self._end, "finalized")
        self.stopping.set()
        return result

    def _move(self, name: str, do: Callable[[], None], then: str) -> TransitionCallbackReturn:
        with self._transition:
            if name in ("deactivate", "cleanup", "shutdown"):
                self._bring_up = False  # a person's wish counts for more than autostart
            try:
                do()
            except PocoError as error:
                starting = self._bring_up and time.monotonic() - self._started < START
                if name == "configure" and starting:
                    self.health.wait_for(HARDWARE, str(error))
                else:
                    self.health.give_up(HARDWARE)
                    self.health.fault(name, f"{name}: {error}")
                return FAILURE
            except Exception:  # rclpy would swallow it, and the node go on half dead
                traceback.print_exc()
                self.failed = True
                self.stopping.set()
                raise
            self._state = then
            self._await("")
            self.health.got(HARDWARE)
        self.health.healed(name)
        return SUCCESS

    def _end(self) -> None:
        if self._state == "active":
            self.disengage()
        if self._state in ("active", "inactive"):
            self.disconnect()

    def close(self) -> None:
        """Leave the hardware as a clean shutdown does."""
        with self._transition:
            self._end()
            self._state = "finalized"
