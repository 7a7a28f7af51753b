"""The way to the beginning of an episode: power, home, begin; answered when it is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from poco_msgs.srv import Reset

from poco_ros.core.errors import PocoError
from poco_ros.robot.control_status import Mode
from poco_ros.robot.controller import ArmController
from poco_ros.ros import convert
from poco_ros.ros.fast_loop import Reply
from poco_ros.ros.operator_word import GRACE, READY_AGE

WORD_COUNTS = READY_AGE + GRACE
"""A *ready* waits so long for its reset: whoever makes the episode may hear the press READY_AGE
late, and asks for the episode at once [s]."""


@dataclass
class _Request:
    episode_id: str
    reply: Reply
    expires: float
    """Until when the operator's word may come, monotonic clock [s]."""


class ResetDesk:
    """Takes requests for an episode and answers the newest when the arm is home.

    The operator's *ready* is his word that all is clear, for the one request that comes with it:
    that lets an arm go on that holds because of a fault, and powers one that was stopped and
    released. Without one since the arm was brought up, held or stopped a request is refused:
    whoever sends it may not know what has happened to the arm.
    """

    def __init__(self, controller: ArmController, power: Callable[[], Future[None]],
                 refused: Callable[[str], None]) -> None:
        """Take what begins to power the arm elsewhere, and who is told of refusals."""
        self._controller, self._begin_to_power, self._refused = controller, power, refused
        self._request: _Request | None = None
        self._word_until = 0.0
        self._power: Future[None] | None = None
        self._powered = self._homing = False

    @property
    def pending(self) -> bool:
        """Whether a request waits for its answer."""
        return self._request is not None

    def ready(self) -> None:
        """Take the operator's word; it is forgotten when no request comes with it."""
        self._controller.all_clear = True
        self._word_until = time.monotonic() + WORD_COUNTS

    def _forget_old_word(self) -> None:
        if time.monotonic() > self._word_until:
            self._controller.all_clear = False

    def ask(self, episode_id: str, reply: Reply) -> None:
        """Take a request; one that still waits is forgotten, the way that it has gone counts."""
        if self._request is None:
            self._forget_old_word()
            self._powered = self._homing = False
        self._request = _Request(episode_id, reply, time.monotonic() + GRACE)
        self.update()

    def update(self) -> None:
        """Take the next step when it is time; call it often."""
        if self._request is None:
            self._forget_old_word()
            return
        if self._power is not None:
            if not self._power.done():
                return
            power, self._power = self._power, None
            try:
                power.result()
            except PocoError as error:
                self.refuse(str(error))
                return
        self._go_on(self._request, self._controller.mode)

    def _go_on(self, request: _Request, mode: Mode) -> None:
        controller = self._controller
        if mode is Mode.RAMPING and controller.all_clear:
            self._homing = True
        elif mode is Mode.STOPPED:
            self.refuse(f"the stop is latched ({controller.reason}); release it first: service"
                        " stop, data false")
        elif mode is not Mode.ACTIVE and (self._powered or self._homing):
            self.refuse(f"the arm is {mode.value}: {controller.reason}")
        elif not controller.all_clear:
            if time.monotonic() > request.expires:
                self.refuse("no ready of the operator came with it, and none counts from before"
                            " the arm was brought up, held or stopped: press ready")
        elif mode is not Mode.ACTIVE:
            self._powered = True
            self._power = self._begin_to_power()
        elif self._homing or controller.at_home():
            self._begin()
        else:
            try:
                controller.home()
            except PocoError as error:
                self.refuse(str(error))

    def _begin(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        self._controller.all_clear = False  # the next one has a word of its own
        self._controller.begin_episode(request.episode_id)
        request.reply(Reset.Response(success=True, begins=convert.stamp_to_msg(time.time_ns())))

    def refuse(self, message: str) -> None:
        """Answer that it cannot be, if somebody asks; the next request needs a *ready* again."""
        request, self._request = self._request, None
        if request is not None:
            self._controller.all_clear = False
            self._refused(f"{request.episode_id}: {message}")
            request.reply(Reset.Response(success=False, message=message))
