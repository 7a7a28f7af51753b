"""Teaching: which actions a motion amounts to when a person leads the arm.

Between two measurements the arm went from one pose to the next; the action of the first is the one
that would have asked for just that. A leader arm's commands are what was asked for, so where they
are known they count; an arm that is led by hand knows only where it was. Of a motion that was not
measured nothing is made up: it ends the episode.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from poco_ros.core.joining import ExecutedAction, TickStatus
from poco_ros.robot.actions import ActionMapping
from poco_ros.robot.arm import ArmCommand, ArmState
from poco_ros.robot.config import TeachingConfig

_ROUNDING = 1e-3
"""An action reaches so far beyond its range before it counts as cut off."""
_GAP = 1.5
"""Measurements that are further apart than so many periods have a tick missing between them."""
_HOLE = 2.5
"""Between measurements that are further apart than so many periods, nobody knows the motion."""


@dataclass(frozen=True, eq=False)
class _Tick:
    stamp: int
    monotonic_ns: int
    measured: ArmCommand
    led: ArmCommand | None


class TaughtMotion:
    """Turns the measurements of an episode into actions, each known one tick later.

    Any thread may call; measurements come from one.
    """

    def __init__(self, mapping: ActionMapping, config: TeachingConfig, period: float) -> None:
        """Take the meaning of an action and the period of a tick [s]."""
        self._mapping, self._config, self._period = mapping, config, period
        self._lock = threading.Lock()
        self._episode = ""
        self._step = 0
        self._before: _Tick | None = None
        self.limited = 0
        """Motions that were more than an action can say."""

    @property
    def episode_id(self) -> str:
        """The open episode; empty when there is none."""
        return self._episode

    @property
    def step(self) -> int:
        """Actions of the open episode so far."""
        return self._step

    def begin(self, episode_id: str) -> None:
        """Open an episode: its first action begins at the next measurement."""
        with self._lock:
            self._episode, self._step, self._before = episode_id, 0, None

    def end(self) -> None:
        """Close the episode."""
        self.begin("")

    def observe(self, state: ArmState, leader: ArmCommand | None = None,
                stopped: str = "", fault: str = "") -> ExecutedAction | None:
        """Take the measurement of a tick; return the action of the tick before, if there is one.

        A stop, a fault and a hole in the measurements close the episode, with a last tick that
        says which.

        Args:
            state: the measurement.
            leader: what a leader commands at this moment; None when nobody does.
            stopped: why the stop is latched, if it is.
            fault: what is wrong with the arm, if something is.
        """
        with self._lock:
            if not self._episode:
                return None
            tick = _Tick(state.wall_ns, state.monotonic_ns, self._firmly(state.as_command()),
                         leader)
            if stopped:
                return self._last_word(tick, TickStatus.STOPPED, stopped)
            before, self._before = self._before, tick
            elapsed = 0.0 if before is None else (tick.monotonic_ns - before.monotonic_ns) * 1e-9
            if not fault and elapsed > _HOLE * self._period:
                fault = f"nothing was measured for {elapsed:.3f} s"
            if fault:
                return self._last_word(tick, TickStatus.FAULT, fault)
            return None if before is None else self._action(before, tick, elapsed)

    def _last_word(self, tick: _Tick, status: TickStatus, reason: str) -> ExecutedAction:
        still = self._mapping.action(tick.measured, tick.measured)
        word = ExecutedAction(tick.stamp, self._episode, self._step, still, still,
                              status=status, reason=reason)
        self._episode, self._before = "", None
        return word

    def _action(self, before: _Tick, now: _Tick, elapsed: float) -> ExecutedAction:
        # Commands lead the measurement by some ticks: the two are never mixed in one difference.
        led = before.led is not None and now.led is not None
        start, end = (before.led, now.led) if led else (before.measured, now.measured)
        assert start is not None and end is not None
        asked = self._mapping.unbounded(end, start)
        executed = np.clip(asked, -1.0, 1.0)
        reasons = []
        if elapsed > _GAP * self._period:
            reasons.append(f"{elapsed:.3f} s passed between two measurements")
        fastest = int(np.argmax(np.abs(asked[:-1])))
        if abs(asked[fastest]) > 1.0 + _ROUNDING:
            reasons.append(f"joint {fastest + 1} moved {abs(asked[fastest]):.2f} times as far as"
                           " an action can say")
        self.limited += bool(reasons)
        step, self._step = self._step, self._step + 1
        return ExecutedAction(
            before.stamp, self._episode, step, executed, asked,
            status=TickStatus.LIMITED if reasons else TickStatus.NOMINAL,
            reason="; ".join(reasons))

    def _firmly(self, measured: ArmCommand) -> ArmCommand:
        """Return the pose with the opening that would have to be commanded to grip as firmly.

        Fingers that hold something stand still at its width. Commanding that width would not
        press on it, so the opening is made the narrower the further it is closed.
        """
        closed = 1.0 - float(np.clip(measured.gripper / self._mapping.widest, 0.0, 1.0))
        return ArmCommand(measured.positions,
                          max(measured.gripper - closed * self._config.squeeze, 0.0))
