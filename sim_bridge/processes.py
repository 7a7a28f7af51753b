"""A small pool of processes that answer bytes with bytes, in the order of the questions.

A worker is a fresh interpreter that speaks over its standard input and output. That is less than
``multiprocessing`` and more dependable here: nothing is pickled, the caller's main module is not
run again, no helper process stays behind, and a worker whose parent was killed sees its input
hang up and goes. Every worker computes on one thread and ignores Ctrl-C: that is for the parent.

A frame is an eight-byte length and so many bytes. A question may come with a ``shared`` part (the
weights of a policy): it is sent to a worker only when it differs from what that worker holds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import selectors
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from poco_ros.core.errors import PocoError
from poco_ros.core.threads import VARIABLES

READY, RESULT, ERROR = b"ready", b"result", b"error"
SAME, NEW = b"=", b"+"
_LENGTH = struct.Struct("<Q")


class WorkerError(PocoError):
    """A worker process died, or what it was asked to do raised an error."""


class Handler(Protocol):
    """What a worker runs: ``shared`` is the same object until another one arrives."""

    def __call__(self, payload: bytes, shared: bytes) -> bytes:
        """Answer one question."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    number: int
    job: int | None = None
    shared: bytes | None = None

    @property
    def questions(self) -> IO[bytes]:
        return cast(IO[bytes], self.process.stdin)

    @property
    def answers(self) -> IO[bytes]:
        return cast(IO[bytes], self.process.stdout)


class ProcessPool:
    """Workers that each run the handler ``target(**arguments)``; use it as a context manager.

    Questions are queued by :meth:`submit` and answered one at a time by whichever worker is free;
    :meth:`next_result` returns the answers in the order of the questions. Call it from one thread.
    """

    def __init__(self, target: str, arguments: Mapping[str, Any], workers: int) -> None:
        """Start ``workers`` processes; they get ready while the caller goes on.

        ``target`` is ``module:function``; ``arguments`` are JSON values.

        Raises:
            ValueError: fewer than one worker.
        """
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers}")
        self._queue: deque[tuple[int, bytes, bytes]] = deque()
        self._results: dict[int, bytes] = {}
        self._submitted = self._returned = 0
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        try:
            for number in range(workers):
                self._start(number, target, arguments)
        except BaseException:
            self.close()
            raise

    def _start(self, number: int, target: str, arguments: Mapping[str, Any]) -> None:
        environment = dict(os.environ, **dict.fromkeys(VARIABLES, "1"))
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        worker = _Worker(process, number, job=-1)  # busy until it says that it is ready
        self._workers.append(worker)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        self._send(worker, json.dumps({"target": target, "arguments": arguments}).encode())

    @property
    def waiting(self) -> int:
        """Questions whose answers :meth:`next_result` has not returned yet."""
        return self._submitted - self._returned

    def submit(self, payload: bytes, shared: bytes = b"") -> None:
        """Queue a question, and hand it out at once where a worker is free.

        Raises:
            WorkerError: a worker has died or failed meanwhile; the pool is closed then.
        """
        self._check_open()
        self._queue.append((self._submitted, payload, shared))
        self._submitted += 1
        self._poll(0.0)

    def next_result(self) -> bytes:
        """Wait for the answer to the oldest unanswered question, and return it.

        Raises:
            WorkerError: a worker died (its exit code or signal is named), or the handler raised
                (its traceback is in the message); the pool is closed then.
            IndexError: no question is waiting.
        """
        self._check_open()
        if not self.waiting:
            raise IndexError("no question is waiting for an answer")
        while self._returned not in self._results:
            self._poll(None)
        self._returned += 1
        return self._results.pop(self._returned - 1)

    def ready(self, timeout: float = 0.0) -> bool:
        """Return whether :meth:`next_result` would return at once; wait up to ``timeout`` [s].

        Raises:
            WorkerError: as :meth:`next_result`.
        """
        self._check_open()
        if self._returned not in self._results:
            self._poll(timeout)
        return self._returned in self._results

    def map(self, payloads: Iterable[bytes], shared: bytes = b"") -> Iterator[bytes]:
        """Yield the answers to ``payloads`` in their order; a few are in work ahead."""
        for payload in payloads:
            self.submit(payload, shared)
            while self.waiting >= 2 * len(self._workers):
                yield self.next_result()
        while self.waiting:
            yield self.next_result()

    def _check_open(self) -> None:
        if not self._workers:
            raise WorkerError("the pool of workers is closed")

    def _poll(self, timeout: float | None) -> None:
        """Hand out questions, then take in answers; wait for one unless ``timeout`` is 0."""
        self._hand_out()
        for key, _ in self._selector.select(timeout):
            worker: _Worker = key.data
            kind, content = _read(worker.answers), _read(worker.answers)
            if kind is None or content is None:
                self._fail(worker)
            elif kind == ERROR:
                self.close()
                raise WorkerError(f"worker {worker.number}: {content.decode()}")
            elif kind == RESULT:
                self._results[cast(int, worker.job)] = content
            worker.job = None
        self._hand_out()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if not self._queue:
                return
            if worker.job is None:
                worker.job, payload, shared = self._queue.popleft()
                if worker.shared == shared:
                    self._send(worker, SAME, payload)
                else:
                    self._send(worker, NEW, shared, payload)
                    worker.shared = shared

    def _send(self, worker: _Worker, *frames: bytes) -> None:
        try:
            for frame in frames:
                _write(worker.questions, frame)
            worker.questions.flush()
        except BrokenPipeError:
            self._fail(worker)

    def _fail(self, worker: _Worker) -> None:
        """Close the pool and raise the error that says how ``worker`` ended."""
        try:
            code = worker.process.wait(timeout=5.0)
            how = f"with exit code {code}"
            if code < 0:
                how = f"by signal {signal.Signals(-code).name}"
                how += ": out of memory?" if -code == signal.SIGKILL else ""
        except subprocess.TimeoutExpired:
            how = "its output and nothing more"
        self.close()
        raise WorkerError(f"worker {worker.number} (process {worker.process.pid}) ended {how}")

    def close(self) -> None:
        """End all workers and wait until they are gone; unanswered questions are dropped."""
        workers, self._workers = self._workers, []
        self._queue.clear()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.answers.close()
            try:
                worker.questions.close()
            except BrokenPipeError:
                pass  # a question was on its way to a worker that is gone
        self._selector.close()

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def resolve(target: str) -> Callable[..., Any]:
    """Return the object that ``module:name`` (or ``module:Class.method``) names."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return cast(Callable[..., Any], found)


def serve() -> None:
    """Be a worker: the main program of the processes that a pool starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # What a simulator prints must not get between the frames.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_leave_with_parent, args=(questions.fileno(),), daemon=True).start()
    try:
        _answer(questions, answers)
    except BrokenPipeError:
        sys.exit(0)  # the parent is gone


def _leave_with_parent(questions: int) -> None:
    """End this process when the other end of its input is gone, even in the middle of work."""
    watch = select.poll()
    watch.register(questions, 0)  # a hang-up is told without being asked for
    watch.poll()
    os._exit(0)


def _answer(questions: IO[bytes], answers: IO[bytes]) -> None:
    def reply(kind: bytes, content: bytes = b"") -> None:
        _write(answers, kind)
        _write(answers, content)
        answers.flush()

    try:
        order = json.loads(_read(questions) or b"{}")
        handler: Handler = resolve(order["target"])(**order["arguments"])
        gc.freeze()  # robosuite collects garbage at each reset: not in all that was imported
        reply(READY)
        shared = b""
        while (mark := _read(questions)) is not None:
            if mark == NEW:
                shared = _read(questions) or b""
            payload = _read(questions)
            if payload is None:
                return
            reply(RESULT, handler(payload, shared))
    except PocoError as error:
        reply(ERROR, str(error).encode())
    except BrokenPipeError:
        raise
    except Exception:  # told to the parent, which raises it there
        reply(ERROR, traceback.format_exc().encode())


def _write(stream: IO[bytes], frame: bytes) -> None:
    stream.write(_LENGTH.pack(len(frame)))
    stream.write(frame)


def _read(stream: IO[bytes]) -> bytes | None:
    """Return the next frame, or None when the stream ends."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    size = _LENGTH.unpack(header)[0]
    frame = stream.read(size)
    return frame if len(frame) == size else None
