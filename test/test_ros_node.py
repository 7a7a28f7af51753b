"""What every node shares: parameters that are checked, health that is told, a loop that wakes."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import rclpy
from graph_support import ros
from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import SetBool

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError, DataError
from poco_ros.ros import lifecycle, names
from poco_ros.ros.convert import reward_to_msg
from poco_ros.ros.diagnostics import Health
from poco_ros.ros.fast_loop import FastLoop
from poco_ros.ros.lifecycle import HardwareNode
from poco_ros.ros.logs import forwarded
from poco_ros.ros.node import PocoNode
from poco_ros.ros.parameters import declare_settings

pytestmark = pytest.mark.graph


@dataclass(frozen=True)
class Settings:
    rate: float = setting(15.0, "ticks a second", unit="Hz", minimum=1.0, maximum=100.0)
    depth: int = setting(3, "how many", minimum=1)
    pace: str = setting("slow", "how fast", choices=("slow", "fast"))


@pytest.fixture(scope="module")
def node() -> Iterator[PocoNode]:
    with ros():
        made = PocoNode("shared")
        yield made
        made.destroy_node()


def declared(node: PocoNode, **given: object) -> Settings:
    for name in ("rate", "depth", "pace"):
        if node.has_parameter(name):
            node._parameters.pop(name)  # read-only ones cannot be undeclared
    for name, value in given.items():
        node.declare_parameter(name, value)
    return declare_settings(node, Settings, given)


def test_a_parameter_is_described_by_its_setting(node: PocoNode) -> None:
    assert declared(node, rate=20) == Settings(rate=20.0)
    rate, depth, pace = node.describe_parameters(["rate", "depth", "pace"])
    assert rate.description == "ticks a second [Hz] (1 to 100)" and rate.read_only
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == \
        (1.0, 100.0)
    assert depth.integer_range[0].from_value == 1
    assert pace.additional_constraints == "one of slow, fast"
    assert node.get_parameter("rate").value == 20.0


@pytest.mark.parametrize(("given", "why"), [
    ({"rates": 3.0}, "unknown key 'rates'; did you mean 'rate'"),
    ({"rate": 0.5}, "rate: 0.5 is below the minimum 1"),
    ({"depth": 2.5}, "depth: expected int, got 2.5"),
    ({"pace": "warp"}, "pace: 'warp' is not one of 'slow', 'fast'"),
])
def test_a_wrong_parameter_is_refused_with_its_remedy(
        node: PocoNode, given: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=f"parameters of /shared: {why}"):
        declare_settings(node, Settings, given)


def test_a_parameter_cannot_be_changed_while_the_node_runs(node: PocoNode) -> None:
    declared(node)
    result = node.set_parameters([Parameter("depth", value=5)])[0]
    assert not result.successful and "read-only" in result.reason


def test_a_long_wait_is_a_warning_that_names_it(node: PocoNode) -> None:
    health = Health(node, patience=0.0)
    assert health.summary() == (b"\x00", "ok")
    health.wait_for("infer_chunk (policy_server)", "no weights yet")
    health.wait_for("infer_chunk (policy_server)")
    level, message = health.summary()
    assert level == b"\x01"
    assert message.startswith("waiting for infer_chunk (policy_server): no weights yet (for 0 s)")
    health.got("infer_chunk (policy_server)")
    assert health.summary() == (b"\x00", "ok")


class Gripper(HardwareNode):
    """Hardware that is plugged in, or not."""

    def __init__(self) -> None:
        super().__init__("gripper")
        self.plugged = False

    def connect(self) -> None:
        if not self.plugged:
            raise DataError("no gripper at /dev/gripper")


def test_hardware_that_comes_while_its_node_starts_is_no_error(
        node: PocoNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RETRY", 0.0)
    soon, late = Gripper(), Gripper()
    try:
        soon.autostart()
        soon.bring_up()
        assert soon.health.summary() == (b"\x00", "waiting for the hardware")
        soon.plugged = True
        soon.bring_up()
        assert soon.state == "active" and soon.health.summary() == (b"\x00", "ok")

        late.autostart()
        late.bring_up()
        monkeypatch.setattr(lifecycle, "START", 0.0)
        late.bring_up()
        assert late.health.summary() == (b"\x02", "configure: no gripper at /dev/gripper")
        late.plugged = True
        late.bring_up()
        assert late.state == "active" and late.health.summary() == (b"\x00", "ok")
    finally:
        soon.destroy_node()
        late.destroy_node()


def test_what_autostart_has_not_done_when_a_person_ends_it_is_left_to_him(
        node: PocoNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RETRY", 0.0)
    gripper = Gripper()
    try:
        gripper.autostart()
        gripper.bring_up()
        assert gripper.health.summary() == (b"\x00", "waiting for the hardware")
        gripper.end_autostart()
        gripper.plugged = True
        assert gripper.bring_up_due, "to say that nobody waits any more"
        gripper.bring_up()
        assert gripper.state == "unconfigured" and gripper.health.summary() == (b"\x00", "ok")
        assert not gripper.bring_up_due
        gripper.trigger_configure()
        assert gripper.state == "inactive"
    finally:
        gripper.destroy_node()


def test_a_person_may_end_autostart_while_it_connects(
        node: PocoNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RETRY", 0.0)
    gripper = Gripper()
    gripper.plugged = True
    monkeypatch.setattr(gripper, "connect", gripper.end_autostart)
    try:
        gripper.autostart()
        gripper.bring_up()
        gripper.bring_up()
        assert gripper.state == "inactive" and gripper.health.summary() == (b"\x00", "ok")
    finally:
        gripper.destroy_node()


def test_a_fault_is_an_error_until_it_is_healed_and_events_are_counted(node: PocoNode) -> None:
    health = Health(node)
    health.event("refused chunk", "chunk 3 is for task 'x'")
    health.event("refused chunk", "chunk 4 is for task 'x'")
    level, message = health.summary()
    assert level == b"\x01" and message == "refused chunk: chunk 4 is for task 'x'"
    assert health.count("refused chunk") == 2
    health.fault("save", "no space left")
    assert health.summary()[0] == b"\x02" and "no space left" in health.summary()[1]
    health.healed("save")
    assert health.summary()[0] == b"\x01"


def test_health_is_told_and_reported_from_many_threads(node: PocoNode) -> None:
    health = Health(node)
    ending, failures = threading.Event(), []

    def again(tell: Callable[[int], None]) -> None:
        number = 0
        while not ending.is_set():
            try:
                tell(number := number + 1)
            except Exception as error:  # what ends the thread would end the node
                failures.append(error)
                return

    def wait(_: int) -> None:
        health.wait_for("a chunk")
        health.got("a chunk")

    threads = [threading.Thread(target=again, args=(tell,)) for tell in (
        wait, wait, lambda number: health.event(f"event {number}", ""),
        lambda _: health.report(), lambda _: health.report())]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        ending.wait(0.5)
        ending.set()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures


def test_what_lasts_and_does_no_harm_is_a_warning_until_it_is_over(node: PocoNode) -> None:
    health = Health(node)
    health.warn("camera", "frames are missing")
    assert health.summary() == (b"\x01", "frames are missing")
    health.fault("save", "no space left")
    assert health.summary() == (b"\x02", "no space left; frames are missing")
    health.healed("save")
    health.healed("camera")
    assert health.summary() == (b"\x00", "ok")


def test_what_a_library_logs_is_on_rosout(
        node: PocoNode, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[int, str, str]] = []
    node.create_subscription(
        Log, "/rosout", lambda log: heard.append((ord(log.level) if isinstance(log.level, bytes)
                                                  else log.level, log.name, log.msg)),
        QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    library = logging.getLogger("poco_ros.robot.camera")
    with forwarded(node.get_logger()):
        library.debug("of no interest")
        library.info("camera %s: %d frames", "front", 3)
        library.warning("camera front: closed")
        library.error("camera front: broken")
    library.info("said to nobody")
    wanted = [(20, "shared", "camera front: 3 frames"), (30, "shared", "camera front: closed"),
              (40, "shared", "camera front: broken")]
    end = time.monotonic() + 20.0
    while not set(wanted) <= set(heard):
        assert time.monotonic() < end, heard
        rclpy.spin_once(node, timeout_sec=0.1)
    assert not [text for _, _, text in heard if "interest" in text or "nobody" in text]
    assert capfd.readouterr().err.count("camera front: closed") == 1
    assert library.getEffectiveLevel() == logging.WARNING


def test_the_fast_loop_wakes_for_a_service_and_calls_back_in_its_thread(node: PocoNode) -> None:
    served: list[int] = []

    def serve(request: SetBool.Request, reply: object) -> None:
        served.append(threading.get_ident())
        reply(SetBool.Response(success=request.data, message="done"))  # type: ignore[operator]

    loop = FastLoop(node)
    loop.serve(SetBool, "set", serve)
    client = loop.client(SetBool, "set")
    answers: list[SetBool.Response] = []
    end = time.monotonic() + 20.0
    while not client.is_ready():
        assert time.monotonic() < end
    client.call(SetBool.Request(data=True), answers.append)
    while not answers:
        loop.wait(1.0)
        assert time.monotonic() < end
    assert answers[0].success and answers[0].message == "done"
    assert served == [threading.get_ident()]


def test_an_answer_that_was_forgotten_is_not_heard(node: PocoNode) -> None:
    loop = FastLoop(node)
    waiting: list[object] = []
    loop.serve(SetBool, "later", lambda request, reply: waiting.append(reply))
    client = loop.client(SetBool, "later")
    answers: list[SetBool.Response] = []
    end = time.monotonic() + 20.0
    while not client.is_ready():
        assert time.monotonic() < end
    client.call(SetBool.Request(), answers.append)
    while len(waiting) < 1:
        loop.wait(0.1)
    client.forget()
    client.call(SetBool.Request(), lambda response: answers.append(response))
    while len(waiting) < 2:
        loop.wait(0.1)
    for number, reply in enumerate(waiting):
        reply(SetBool.Response(message=str(number)))  # type: ignore[operator]
    while not answers:
        loop.wait(0.1)
        assert time.monotonic() < end
    assert [answer.message for answer in answers] == ["1"]


def test_a_topic_that_does_not_wake_is_read_with_the_next_that_does(node: PocoNode) -> None:
    from poco_msgs.msg import Reward

    from poco_ros.core.joining import RewardSample

    loop = FastLoop(node)
    heard: list[str] = []
    loop.subscribe(Reward, "quiet", lambda m: heard.append("quiet"), names.TICK_QOS, wakes=False)
    loop.subscribe(Reward, "loud", lambda m: heard.append("loud"), names.TICK_QOS)
    quiet = node.create_publisher(Reward, "quiet", names.TICK_QOS)
    loud = node.create_publisher(Reward, "loud", names.TICK_QOS)
    end = time.monotonic() + 20.0
    while not (quiet.get_subscription_count() and loud.get_subscription_count()):
        assert time.monotonic() < end
    message = reward_to_msg(RewardSample(0, "", 0.0))
    quiet.publish(message)
    loud.publish(message)
    while len(heard) < 2:
        loop.wait(5.0)
        assert time.monotonic() < end
    assert sorted(heard) == ["loud", "quiet"]
