"""The real piper_sdk, unpatched and in a process of its own, drives the emulated arm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cell_support import quick_config, running

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import json, math, statistics, sys, time
sys.path.insert(0, sys.argv[1])
import poco_ros.cell.can_bus
from piper_sdk import C_PiperInterface_V2

channel, interface = sys.argv[2:]
arm = C_PiperInterface_V2(can_name=channel, can_auto_init=False, judge_flag=False)
arm.CreateCanBus(channel, bustype=interface, expected_bitrate=1000000, judge_flag=False)
arm.ConnectPort()
found = {}

def wait(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.002)
    sys.exit(f"not within {seconds} s: {condition.__name__}")

def joints():
    state = arm.GetArmJointMsgs().joint_state
    return [math.radians(getattr(state, f"joint_{i}") / 1000) for i in range(1, 7)]

def go(target):
    arm.MotionCtrl_2(1, 1, 100, 0)
    arm.JointCtrl(*(round(math.degrees(angle) * 1000) for angle in target))

def near(target, tolerance=0.01):
    return max(abs(a - b) for a, b in zip(joints(), target)) < tolerance

def firmware_known():
    return isinstance(arm.GetPiperFirmwareVersion(), str)

def enabled():
    return arm.EnablePiper()

def arrived():
    return near(home)

def gripper_arrived():
    return abs(arm.GetArmGripperMsgs().gripper_state.grippers_angle - 30000) < 500

def at_full_rate():
    return abs(arm.GetArmJointMsgs().Hz - 200) < 20 and arm.isOk()

wait(firmware_known)
found["firmware"] = arm.GetPiperFirmwareVersion()
found["enabled_at_first"] = any(arm.GetArmEnableStatus())
wait(enabled)
home = [0.0, 1.2, -1.0, 0.0, 0.9, 0.0]
arm.GripperCtrl(70000, 1000, 1, 0)
go(home)
wait(arrived)
arm.GripperCtrl(30000, 1000, 1, 0)
wait(gripper_arrived)
wait(at_full_rate)
delays = []
for attempt in range(8):
    before = joints()[0]
    target = home.copy()
    target[0] = 0.05 if attempt % 2 == 0 else -0.05
    sent = time.perf_counter()
    go(target)
    def moved():
        return abs(joints()[0] - before) > 1e-4
    wait(moved)
    delays.append(time.perf_counter() - sent)
    def there():
        return near(target, 0.002)
    wait(there)
found["latency_ms"] = 1000 * statistics.median(delays)
found["ctrl_mode"] = int(arm.GetArmStatus().arm_status.ctrl_mode)
found["arm_status"] = int(arm.GetArmStatus().arm_status.arm_status)
print(json.dumps(found), flush=True)
"""


@pytest.mark.parametrize("interface", ["poco_cell", "slcan"])
def test_sdk_enables_moves_grips_and_reads(tmp_path: Path, interface: str,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAN_CONFIG", '{"sleep_after_open": 0.05}')  # a setting of slcan
    config = quick_config(tmp_path, cameras=[], can={"slcan": True})
    with running(config) as cell:
        assert cell.slcan is not None
        channel = str(cell.hub.path if interface == "poco_cell" else cell.slcan.port.link)
        program = subprocess.run([sys.executable, "-c", PROGRAM, str(ROOT), channel, interface],
                                 capture_output=True, text=True, timeout=90)
    assert program.returncode == 0, program.stderr
    found = json.loads(program.stdout.strip().splitlines()[-1])
    assert found["firmware"] == config.can.firmware
    assert not found["enabled_at_first"]
    assert (found["ctrl_mode"], found["arm_status"]) == (1, 0)
    assert found["latency_ms"] < 25
