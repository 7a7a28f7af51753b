"""Episodes in other processes: the same as here, in order, and no process is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from poco_ros.core.episode import Episode
from poco_ros.core.errors import PocoError
from poco_ros.core.rollout import run_episode
from poco_ros.core.seeding import chunk_noise
from poco_ros.core.task import TaskConfig
from sim_bridge.factory import make_environment
from sim_bridge.processes import Handler, ProcessPool, WorkerError
from sim_bridge.workers import EpisodeJob, EpisodeWorkers

TASK = TaskConfig(max_episode_steps=20)
LOADER = f"{__name__}:NoisePolicy"
SPEECH = f"{__name__}:speech"


class NoisePolicy:
    """Acts at random, as widely as its bytes say: a policy that needs no training."""

    def __init__(self, content: bytes, source: str) -> None:
        self.version = len(content)
        self.scale = json.loads(content)["scale"]

    def act(self, observation: np.ndarray, seed: int) -> np.ndarray:
        return np.clip(self.scale * chunk_noise(seed, 5, 5), -1.0, 1.0)


def speech(greeting: str) -> Handler:
    """A handler that answers, waits, fails or dies as it is told."""
    print("simulators print; this must not get between the answers")

    def handle(payload: bytes, shared: bytes) -> bytes:
        words = payload.decode()
        if words == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if words == "leave":
            os._exit(7)
        if words == "fail":
            raise ValueError("it was told to fail")
        if words == "who":
            return str(os.getpid()).encode()
        if words == "threads":
            return os.environ["OMP_NUM_THREADS"].encode()
        if words == "hang":
            signal.pause()
        time.sleep(0.02 * (int(words) % 3))  # later ones may be ready earlier
        return f"{greeting} {words} {shared.decode()}".encode()

    return handle


def job(number: int, scale: float = 0.5) -> EpisodeJob:
    return EpisodeJob(json.dumps({"scale": scale}).encode(), 100 + number, f"e{number}")


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(pid)


def same(one: Episode, other: Episode) -> bool:
    return one.to_bytes() == other.to_bytes()


def test_episodes_are_those_of_this_process_whatever_the_number_of_workers(
        tmp_path: Path) -> None:
    jobs = [job(number, 0.2 + 0.1 * (number % 2)) for number in range(5)]
    environment = make_environment(TASK)
    want = []
    for one in jobs:
        assert isinstance(one.policy, bytes)
        want.append(run_episode(environment, NoisePolicy(one.policy, ""), one.seed,
                                one.episode_id, one.source))
    for count in (1, 2):
        with EpisodeWorkers(TASK, count, LOADER) as workers:
            got = list(workers.run(jobs))
        assert [episode.id for episode in got] == [episode.id for episode in want]
        assert all(map(same, got, want)), f"{count} worker(s)"
    environment.close()


def test_a_policys_file_is_read_when_the_job_is_given(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with EpisodeWorkers(TASK, 1, LOADER) as workers:
        path.write_bytes(json.dumps({"scale": 0.1}).encode())
        workers.submit(EpisodeJob(path, 3, "small"))
        path.write_bytes(json.dumps({"scale": 1.0}).encode())
        workers.submit(EpisodeJob(path, 3, "large"))
        small, large = workers.next_episode(), workers.next_episode()
    assert np.abs(small.actions).max() < 0.6 < np.abs(large.actions).max()


def test_answers_come_in_the_order_of_the_questions_with_their_shared_part() -> None:
    with ProcessPool(SPEECH, {"greeting": "hello"}, 3) as pool:
        for number in range(12):
            pool.submit(str(number).encode(), b"AB"[number // 6:number // 6 + 1])
        assert pool.waiting == 12
        answers = [pool.next_result().decode() for _ in range(12)]
    assert answers == [f"hello {number} {'AB'[number // 6]}" for number in range(12)]


def test_a_worker_computes_on_one_thread() -> None:
    with ProcessPool(SPEECH, {"greeting": ""}, 1) as pool:
        assert list(pool.map([b"threads"])) == [b"1"]


@pytest.mark.parametrize(("order", "said"), [
    ("die", "SIGKILL"), ("leave", "exit code 7"), ("fail", "it was told to fail"),
])
def test_a_worker_that_ends_or_fails_is_noticed_and_all_are_gone(order: str, said: str) -> None:
    with ProcessPool(SPEECH, {"greeting": ""}, 2) as pool:
        pids = {int(answer) for answer in pool.map([b"who"] * 6)}
        with pytest.raises(WorkerError, match=said):
            pool.submit(order.encode())
            pool.next_result()
        assert all(map(wait_until_gone, pids))
        with pytest.raises(WorkerError, match="closed"):
            pool.submit(b"0")


def test_what_cannot_start_says_why() -> None:
    with pytest.raises(PocoError, match="no_such_module"), \
            ProcessPool("no_such_module:f", {}, 1) as pool:
        pool.submit(b"0")
        pool.next_result()


def test_closing_ends_workers_in_the_middle_of_their_work() -> None:
    pool = ProcessPool(SPEECH, {"greeting": ""}, 2)
    pids = [int(answer) for answer in pool.map([b"who"] * 2)]
    pool.submit(b"hang")
    pool.submit(b"hang")
    pool.close()
    assert not any(map(is_running, pids))
    pool.close()  # twice does no harm


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
from sim_bridge.processes import ProcessPool
with ProcessPool(sys.argv[1], {"greeting": ""}, 2) as pool:
    pids = {int(pid) for pid in pool.map([b"who"] * 8)}
    for _ in pids:
        pool.submit(b"hang")
    print(*pids, flush=True)
    pool.next_result()
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_go_with_their_parent(end: signal.Signals) -> None:
    """Ctrl-C reaches the whole group, SIGKILL the parent alone: nobody stays either way."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, SPEECH], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert pids and all(map(is_running, pids))
    if end == signal.SIGINT:
        os.killpg(parent.pid, end)
    else:
        parent.kill()
    assert parent.wait(timeout=20) != 0
    parent.stdout.close()
    hanging = [pid for pid in pids if not wait_until_gone(pid, 3.0)]
    for pid in hanging:
        os.kill(pid, signal.SIGKILL)
    assert not hanging
