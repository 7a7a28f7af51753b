"""What can be asked of a running cell over HTTP: truth, keys, faults, the scene, the leader."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from poco_ros.core.errors import PocoError
from poco_ros.core.seeding import derive_seed

if TYPE_CHECKING:
    from poco_ros.cell.cell import Cell

log = logging.getLogger("poco.cell")
Command = Callable[[str, Mapping[str, str]], Any]


class RequestError(PocoError):
    """A request that makes no sense; the message says what would."""


class Errands:
    """Questions that other threads have for the cell's own thread."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def ask(self, question: Callable[[], Any], timeout: float = 5.0) -> Any:
        """Let the cell's thread answer; wait for it [s]."""
        answer: Future[Any] = Future()
        self._waiting.put((question, answer))
        try:
            return answer.result(timeout)
        except NoAnswer as error:
            raise RequestError(f"the cell did not answer within {timeout:g} s; does it run?"
                               ) from error

    def answer(self) -> None:
        """Answer all that are waiting; for the cell's thread."""
        while True:
            try:
                question, answer = self._waiting.get_nowait()
            except Empty:
                return
            try:
                answer.set_result(question())
            except Exception as error:  # it belongs to the thread that asked
                answer.set_exception(error)


class Requests:
    """The commands of one cell; each takes the path below its name, and the query."""

    def __init__(self, cell: Cell, errands: Errands) -> None:
        self._cell, self._ask = cell, errands.ask
        self._scattered = 0

    def commands(self) -> dict[str, Command]:
        """Return the commands by the first part of their path."""
        return {"truth": self.truth, "key": self.key, "fault": self.fault, "scene": self.scene,
                "operator": self.operator, "leader": self.leader}

    def truth(self, path: str, query: Mapping[str, str]) -> Any:
        """/truth: what is really going on."""
        return self._ask(self._cell.truth)

    def key(self, name: str, query: Mapping[str, str]) -> Any:
        """/key/NAME: type a key."""
        keys = self._cell.keys()
        if name not in keys:
            raise RequestError(f"no key {name!r}; there are {', '.join(keys)}")
        return {"key": name, "heard": self._ask(lambda: self._cell.press(keys[name]))}

    def fault(self, name: str, query: Mapping[str, str]) -> Any:
        """/fault, /fault/NAME?seconds=3, /fault/clear."""
        faults = self._cell.faults
        if not name:
            return faults.describe()
        if name == "clear":
            self._ask(faults.clear)
            return {"faults": []}
        until = self._ask(lambda: faults.start(name, self._cell.scene.time, query))
        log.info("fault %s %s", name, " ".join(f"{k}={v}" for k, v in query.items()))
        return {"fault": name, "until": until if math.isfinite(until) else "cleared"}

    def scene(self, name: str, query: Mapping[str, str]) -> Any:
        """/scene/scatter?seed=1: put the cube somewhere else."""
        if name != "scatter":
            raise RequestError(f"no /scene/{name}; there is /scene/scatter?seed=<number>")
        seed = _count(query, "seed", self._scattered)
        self._scattered += 1
        rng = np.random.default_rng(derive_seed(self._cell.config.seed, 5, seed))
        self._ask(lambda: self._cell.scene.scatter_cube(rng))
        return self._ask(self._cell.truth)["cube"]

    def operator(self, name: str, query: Mapping[str, str]) -> Any:
        """/operator/on, /operator/off."""
        if name not in ("on", "off"):
            raise RequestError(f"no /operator/{name}; there are /operator/on and /operator/off")
        self._cell.operator.enabled = name == "on"
        return {"operator": name}

    def leader(self, name: str, query: Mapping[str, str]) -> Any:
        """/leader/start?count=10: give demonstrations."""
        if name != "start":
            raise RequestError(f"no /leader/{name}; there is /leader/start?count=<number>, 0 ends")
        count = _count(query, "count", 1)
        self._ask(lambda: self._cell.leader.start(count))
        return {"demonstrations": count}


def _count(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise RequestError(f"{name}={text!r}: expected a whole number, 0 or more")
    return int(text)
