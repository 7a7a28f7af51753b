"""A graph's processes: kept alive, heard, and stopped so that nothing is lost or left behind."""

from __future__ import annotations

import errno
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poco_ros import processes
from poco_ros.processes import AUTOGROUP

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 20.0

SUPERVISE = """
import json, sys
from poco_ros.cli.keep_alive import ProcessSpec, Supervisor
from poco_ros.processes import kept_environment
settings, processes = json.loads(sys.argv[1])
specs = [ProcessSpec(environment=kept_environment(one.pop("nice", 0)), **one)
         for one in processes]
sys.exit(Supervisor(specs, **settings).run())
"""

# Programs that stand for nodes: real processes with a node's manners, quick to start.
SAVES = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.2)
    with open(sys.argv[1], "a") as stream:
        stream.write("saved\\n")
    sys.exit(0)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
while True:
    time.sleep(0.05)  # not pause: a signal just before it would wake nobody
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
DEAF_TO_SIGINT = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
WITH_WORKER = """
import subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("worker", worker.pid, flush=True)
time.sleep(600)
"""


TYPED = """
import time
from poco_ros.processes import keeper
from poco_ros.robot.keypad import Keypad, KeypadConfig
config = KeypadConfig(source="terminal", device="/dev/tty", reconnect_period=0.05)
keypad = Keypad(config, lambda press: print("pressed", press.meaning.value), keeper())
keypad.start()
told = None
try:
    while True:
        if keypad.trouble != told:
            told = keypad.trouble
            print("keypad:", told or "is there")
        time.sleep(0.01)
except KeyboardInterrupt:
    keypad.stop()
"""


class Launcher:
    """A supervisor in a process of its own, and what it has printed so far."""

    def __init__(self, processes: list[dict], **settings: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, json.dumps([settings, processes])],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.output: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, text: str, times: int = 1) -> str:
        """Return the line that shows ``text`` for the ``times``-th time from now on."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                line = self._lines.get(timeout=end - time.monotonic())
            except queue.Empty:
                break
            if line is None:
                break
            self.output.append(line)
            times -= text in line
            if times == 0:
                return line
        raise AssertionError(f"no line with {text!r} in\n" + "\n".join(self.output))

    def end(self) -> int:
        """Wait for the launcher's own end; return its exit code, its whole output read."""
        code = self.process.wait(DEADLINE)
        while (line := self._lines.get(timeout=DEADLINE)) is not None:
            self.output.append(line)
        return code

    def pid_of(self, name: str) -> int:
        """Return the process id with which ``name`` starts next."""
        return int(self.wait_for(f"{name} started (pid ").rsplit(" ", 1)[1].rstrip(")"))


@pytest.fixture
def launch() -> Iterator[Callable[..., Launcher]]:
    launchers: list[Launcher] = []

    def start(*processes: dict, **settings: float) -> Launcher:
        launchers.append(Launcher(list(processes), **{"respawn_delay": 0.05, **settings}))
        return launchers[-1]

    yield start
    for launcher in launchers:
        if launcher.process.poll() is None:
            launcher.process.send_signal(signal.SIGINT)
            launcher.process.send_signal(signal.SIGINT)
            launcher.process.send_signal(signal.SIGINT)
            launcher.process.wait(DEADLINE)


def program(name: str, code: str, *words: str, nice: int = 0, patience: float = DEADLINE,
            **kept: bool) -> dict:
    """Return the settings of a process that runs Python ``code`` and is kept as nodes are."""
    settled = f"from poco_ros.processes import settle; settle({patience})\n{code}"
    return {"name": name, "command": [sys.executable, "-c", settled, *words],
            "nice": nice, **kept}


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + DEADLINE
    while alive(pid):
        assert time.monotonic() < end, f"process {pid} still runs"
        time.sleep(0.02)


def test_every_line_of_output_says_which_process_wrote_it(launch: Callable[..., Launcher]) -> None:
    launcher = launch(
        program("talker", "print('one'); print('two')"),
        program("grumbler", "import sys; sys.stderr.write('no newline at the end')"))
    assert launcher.end() == 0
    said = [line.split(" ", 1)[1] for line in launcher.output]
    assert "talker   | one" in said
    assert "talker   | two" in said
    assert "grumbler | no newline at the end" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_every_process_save_and_exits_with_0(
        launch: Callable[..., Launcher], tmp_path: Path, number: int) -> None:
    launcher = launch(program("learner", SAVES, str(tmp_path / "a"), nice=10),
                      program("rollout", SAVES, str(tmp_path / "b")))
    launcher.wait_for("ready", times=2)
    launcher.process.send_signal(number)
    assert launcher.end() == 0
    assert (tmp_path / "a").read_text() == "saved\n", "SIGINT must arrive exactly once"
    assert (tmp_path / "b").read_text() == "saved\n"


def test_ctrl_c_in_a_terminal_reaches_each_process_once(tmp_path: Path) -> None:
    """A terminal signals the whole foreground group; the launcher alone must be in it."""
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(ROOT)
        specs = [program("learner", SAVES, str(tmp_path / "saved"))]
        os.execve(sys.executable, [sys.executable, "-c", SUPERVISE, json.dumps([{}, specs])],
                  {**os.environ, "PYTHONPATH": str(ROOT)})
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 4096)
    os.write(terminal, b"\x03")
    status = os.waitpid(pid, 0)[1]
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "saved").read_text() == "saved\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell with job control")
def test_keys_of_the_terminal_reach_a_node_while_the_launcher_is_in_the_foreground(
        tmp_path: Path) -> None:
    """What is typed for the shell stays the shell's, and it gets the terminal back as it was."""
    (tmp_path / "launcher.py").write_text(SUPERVISE)
    (tmp_path / "node.json").write_text(json.dumps([{}, [program("keypad_reward", TYPED)]]))
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"],
                   {**os.environ, "PYTHONPATH": str(ROOT), "PS1": "shell> "})
    shown = b""

    def answer(typed: str, *words: str) -> None:
        """Type, and wait until all words are shown that were not there before."""
        nonlocal shown
        since, end = len(shown), time.monotonic() + DEADLINE
        os.write(terminal, typed.encode())
        while not all(word.encode() in shown[since:] for word in words):
            assert time.monotonic() < end, f"{words} after {typed!r}\n{shown.decode()}"
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 4096)

    try:
        answer(f'{sys.executable} launcher.py "$(< node.json)"\n', "keypad: is there")
        answer("1", "pressed success")
        answer("\x1a", "Stopped", "shell> ")
        time.sleep(0.3)  # a reader that had not noticed would be in the way of the next line
        answer("echo be''tween ..1111....\n", "between ..1111....", "shell> ")
        answer("fg\n", "not in its foreground", "keypad: is there")
        answer("0", "pressed failure")
        answer("\x03", "stopping", "shell> ")
        answer("stty -a; echo do''ne\n", "done")
        assert b" icanon " in shown[-2000:] and b" echo " in shown[-2000:]
        assert shown.count(b"pressed") == 2
    finally:
        os.write(terminal, b"exit\n")
        os.close(terminal)
        os.waitpid(pid, 0)


def test_a_process_that_dies_is_started_again(launch: Callable[..., Launcher],
                                              tmp_path: Path) -> None:
    launcher = launch(program("bridge", SAVES, str(tmp_path / "saved")))
    first = launcher.pid_of("bridge")
    launcher.wait_for("ready")
    os.kill(first, signal.SIGKILL)
    launcher.wait_for("bridge died from SIGKILL")
    second = launcher.pid_of("bridge")
    launcher.wait_for("ready")
    assert second != first
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.end() == 0


def test_an_error_is_a_death_and_a_good_end_is_not(launch: Callable[..., Launcher]) -> None:
    launcher = launch(program("done", "print('worked')"),
                      program("failing", "print('failing'); raise SystemExit(3)"))
    launcher.wait_for("failing ended with exit code 3", times=3)
    launcher.process.send_signal(signal.SIGINT)
    launcher.end()
    assert sum("done started" in line for line in launcher.output) == 1


def test_the_graph_ends_with_the_run(launch: Callable[..., Launcher], tmp_path: Path) -> None:
    launcher = launch(program("rollout", SAVES, str(tmp_path / "saved")),
                      program("learner", "import time; time.sleep(0.5)", ends_all=True))
    assert launcher.end() == 0
    assert any("learner has finished the run" in line for line in launcher.output)


def test_refused_settings_end_the_graph_instead_of_being_tried_forever(
        launch: Callable[..., Launcher], tmp_path: Path) -> None:
    launcher = launch(program("rollout", SAVES, str(tmp_path / "saved")),
                      program("learner", "print('preset.yaml: unknown key'); raise SystemExit(2)"))
    assert launcher.end() == 2
    assert sum("learner started" in line for line in launcher.output) == 1


def test_a_program_that_does_not_exist_ends_the_graph(launch: Callable[..., Launcher]) -> None:
    launcher = launch({"name": "ghost", "command": ["/nowhere/ghost"]})
    assert launcher.end() == 1
    assert any("ghost did not start" in line for line in launcher.output)


@pytest.mark.parametrize(("code", "last"), [(DEAF_TO_SIGINT, "SIGTERM"), (STUBBORN, "SIGKILL")])
def test_stronger_means_come_only_after_patience(
        launch: Callable[..., Launcher], code: str, last: str) -> None:
    launcher = launch(program("learner", code), patience=0.3)
    pid = launcher.pid_of("learner")
    launcher.wait_for("ready")
    begin = time.monotonic()
    launcher.process.send_signal(signal.SIGINT)
    if last == "SIGKILL":
        launcher.wait_for("still runs after SIGINT")
        launcher.process.send_signal(signal.SIGINT)  # a second Ctrl-C does not wait for SIGTERM
    assert launcher.end() == 1, "an end by force is no clean end"
    assert time.monotonic() - begin >= 0.3
    assert any(f"died from {last}" in line for line in launcher.output)
    assert not alive(pid)


def test_workers_of_a_killed_process_go_with_it(launch: Callable[..., Launcher]) -> None:
    launcher = launch(program("learner", WITH_WORKER, respawn=False))
    pid = launcher.pid_of("learner")
    worker = int(launcher.wait_for("worker").rsplit(" ", 1)[1])
    os.kill(pid, signal.SIGKILL)
    launcher.wait_for("learner died from SIGKILL")
    launcher.end()
    wait_until_gone(worker)


def test_nothing_outlives_a_launcher_that_is_killed(launch: Callable[..., Launcher],
                                                    tmp_path: Path) -> None:
    """``kill -9`` of the launcher: every process saves first, and is interrupted only once."""
    launcher = launch(program("learner", SAVES, str(tmp_path / "a"), nice=10),
                      program("rollout", SAVES, str(tmp_path / "b")))
    pids = [launcher.pid_of("learner"), launcher.pid_of("rollout")]
    launcher.wait_for("ready", times=2)
    launcher.process.kill()
    launcher.process.wait(DEADLINE)
    for pid in pids:
        wait_until_gone(pid)
    assert (tmp_path / "a").read_text() == "saved\n"
    assert (tmp_path / "b").read_text() == "saved\n"


def test_what_hangs_does_not_outlive_a_killed_launcher_either(
        launch: Callable[..., Launcher]) -> None:
    launcher = launch(program("learner", STUBBORN, patience=0.2))
    pid = launcher.pid_of("learner")
    launcher.wait_for("ready")
    launcher.process.kill()
    launcher.process.wait(DEADLINE)
    wait_until_gone(pid)


def test_a_nice_process_is_nice(launch: Callable[..., Launcher]) -> None:
    launcher = launch(program("learner", "import os; print('nice', os.nice(0))", nice=10))
    assert launcher.wait_for("nice").endswith(str(min(19, os.nice(0) + 10)))


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
def test_niceness_holds_between_sessions_too(launch: Callable[..., Launcher]) -> None:
    """Where the kernel shares the processor between sessions, the node's session is nice."""
    code = f"print('group', open('{AUTOGROUP}').read().split()[-1])"
    launcher = launch(program("learner", code, nice=10))
    assert launcher.wait_for("group").endswith(f"group {min(19, os.nice(0) + 10)}")
    assert launcher.end() == 0


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel has no autogroups")
def test_a_nice_launcher_has_nice_sessions() -> None:
    """Whoever starts it with ``nice`` wants all of it to be."""
    code = f"print('group', open('{AUTOGROUP}').read().split()[-1])"
    done = subprocess.run(
        ["nice", "-n", "5", sys.executable, "-c", SUPERVISE,
         json.dumps([{}, [program("rollout", code)]])],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=DEADLINE)
    assert f"group {min(19, os.nice(0) + 5)}\n" in done.stdout, done.stdout + done.stderr


def test_a_kernel_that_is_busy_is_told_the_niceness_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all users but root the kernel takes one such write a tenth of a second, and refuses more.

    All nodes of a nice launcher come with one at the same moment.
    """
    told: list[str] = []

    class Busy:
        refusals = 2

        def write_text(self, text: str) -> None:
            if self.refusals:
                self.refusals -= 1
                raise BlockingIOError(errno.EAGAIN, "write could not complete without blocking")
            told.append(text)

    monkeypatch.setattr(processes, "AUTOGROUP", Busy())
    monkeypatch.setattr(os, "nice", lambda more: 5 + more)
    processes.lower_priority(10)
    assert told == ["15"]


def test_a_launcher_in_the_background_still_interrupts_its_processes(tmp_path: Path) -> None:
    """A shell starts background jobs with SIGINT ignored, which processes would inherit."""
    default = "import signal; print('ready', flush=True); signal.pause()"
    code = ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SUPERVISE)
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps([{"patience": 5}, [program("node", default)]])],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    while "ready" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == 0, rest


TINY = """
task: {domain: cube-single, number: 1, max_episode_steps: 20}
demonstrations: {episodes: 2}
agent: {hidden_dim: 16, num_layers: 1, batch_size: 16, num_candidates: 2, flow_steps: 2}
train: {offline_steps: 5, critic_warmup: 5, online_steps: 100000, utd: 0.1, eval_every: 0}
"""


@pytest.mark.graph
def test_the_real_graph_starts_learns_and_saves_on_ctrl_c(tmp_path: Path) -> None:
    """`poco launch sim_scene`: four nodes, episodes of a real robot simulation, a checkpoint."""
    from graph_support import isolate

    isolate()
    (tmp_path / "tiny.yaml").write_text(TINY)
    process = subprocess.Popen(
        [sys.executable, "-m", "poco_ros.cli.main", "launch", "sim_scene", "--manager", "poco",
         f"preset:={tmp_path / 'tiny.yaml'}", f"run_dir:={tmp_path / 'run'}", "namespace:=lab"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        if "ep-0-000002" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=60)[0]
    told = "".join(output) + rest
    assert process.returncode == 0, told
    for shared in ("lockstep", "learner"):
        assert told.count(f"{shared} started") == 1, told
    for name in ("sim_bridge", "policy_server", "rollout", "learner"):
        assert f"[lab.{name}]" in told, "every node is in the namespace and says so"
    assert len(list((tmp_path / "run" / "episodes").glob("*.safetensors"))) >= 2
    assert any((tmp_path / "run" / "checkpoint").iterdir())
