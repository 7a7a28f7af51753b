"""Which actions a motion amounts to, and what is said of motions that are more than that."""

from __future__ import annotations

import numpy as np
import pytest

from poco_ros.core.joining import EpisodeBuilder, ExecutedAction, TickStatus
from poco_ros.robot.actions import ActionMapping
from poco_ros.robot.arm import ArmCommand, ArmState
from poco_ros.robot.config import ActionConfig, TeachingConfig
from poco_ros.robot.kinematics import JOINT_NAMES
from poco_ros.robot.teaching import TaughtMotion

PERIOD = 1.0 / 15.0
MAPPING = ActionMapping(ActionConfig(), JOINT_NAMES)
HOME = np.array([0.0, 1.2, -1.0, 0.0, 0.9, 0.0])


def taught(squeeze: float = 0.0) -> TaughtMotion:
    motion = TaughtMotion(MAPPING, TeachingConfig(squeeze=squeeze), PERIOD)
    motion.begin("ep")
    return motion


def state(tick: float, positions: np.ndarray, gripper: float = 0.07) -> ArmState:
    at = round(tick * PERIOD * 1e9)
    return ArmState(JOINT_NAMES, positions, gripper, 10**9 + at, 10**18 + at, True)


def show(motion: TaughtMotion, poses: list[ArmCommand]) -> list[ExecutedAction]:
    found = [motion.observe(state(tick, pose.positions, pose.gripper))
             for tick, pose in enumerate(poses)]
    assert found[0] is None
    return [action for action in found if action is not None]


def test_the_actions_lead_back_through_the_poses_that_were_shown() -> None:
    rng = np.random.default_rng(0)
    poses = [ArmCommand(HOME, 0.07)]
    for _ in range(40):
        poses.append(MAPPING.pose(rng.uniform(-1.0, 1.0, 7), poses[-1]))
    pose = poses[0]
    for action, expected in zip(show(taught(), poses), poses[1:], strict=True):
        pose = MAPPING.pose(action.executed, pose)
        assert action.status == TickStatus.NOMINAL
        np.testing.assert_allclose(pose.vector(), expected.vector(), atol=1e-5)


def test_an_action_has_the_stamp_of_the_measurement_before_its_motion() -> None:
    poses = [ArmCommand(HOME + 0.01 * k, 0.07) for k in range(4)]
    actions = show(taught(), poses)
    assert [action.step for action in actions] == [0, 1, 2]
    assert [action.stamp for action in actions] == [state(k, HOME).wall_ns for k in range(3)]
    assert {action.episode_id for action in actions} == {"ep"}


def test_a_motion_faster_than_an_action_is_cut_off_and_says_so() -> None:
    fast = HOME + np.array([0.0, 0.0, 0.12, 0.0, 0.0, 0.0])
    action, = show(taught(), [ArmCommand(HOME, 0.07), ArmCommand(fast, 0.07)])
    assert action.status == TickStatus.LIMITED and "joint 3 moved 2.00 times" in action.reason
    assert action.executed[2] == 1.0 and action.requested[2] == pytest.approx(2.0)


def test_a_missing_tick_is_told() -> None:
    motion = taught()
    motion.observe(state(0, HOME))
    action = motion.observe(state(2, HOME))
    assert action is not None and action.status == TickStatus.LIMITED
    assert "0.133 s passed" in action.reason


@pytest.mark.parametrize(("tick", "fault", "words"), [
    (4.6, "", "nothing was measured for 0.173 s"),
    (3, "motor: joint3: driver error", "joint3")])
def test_a_hole_in_the_measurements_or_a_fault_of_the_arm_ends_the_episode_untrained(
        tick: float, fault: str, words: str) -> None:
    motion = taught()
    builder = EpisodeBuilder("ep", "pick-cube", 0, step_reward=0.0)
    for at in (0, 1, 2, tick, tick + 1):
        seen = state(at, HOME)
        action = motion.observe(seen, fault=fault if at == tick else "")
        builder.add_observation(seen.wall_ns, np.zeros(3, np.float32))
        if action is not None:
            builder.add_executed(action)
    assert action is None and motion.episode_id == "", "nothing is made up of what comes after"
    episode = builder.build()
    assert builder.closed and not episode.trainable and len(episode) == 2
    assert "fault at step 2" in episode.notes[0] and words in episode.notes[0]


def test_a_leaders_commands_count_where_they_are_known_and_are_never_mixed_with_measurements(
        ) -> None:
    motion = taught()
    led = [ArmCommand(HOME + 0.2 + 0.03 * k, 0.02) for k in range(3)]
    assert motion.observe(state(0, HOME), led[0]) is None
    first = motion.observe(state(1, HOME + 0.01), led[1])
    second = motion.observe(state(2, HOME + 0.02), None)
    third = motion.observe(state(3, HOME + 0.03), led[2])
    assert first is not None and second is not None and third is not None
    np.testing.assert_allclose(first.executed[:6], 0.5, atol=1e-5)
    assert first.executed[6] == pytest.approx(2 * 0.02 / 0.07 - 1, abs=1e-5)
    for action in (second, third):
        np.testing.assert_allclose(action.executed[:6], 0.01 / 0.06, atol=1e-5)


def test_led_by_hand_what_is_gripped_is_pressed_on_and_an_open_gripper_stays_open() -> None:
    gripping, = show(taught(0.02), [ArmCommand(HOME, 0.04), ArmCommand(HOME, 0.04)])
    opened, = show(taught(0.02), [ArmCommand(HOME, 0.07), ArmCommand(HOME, 0.07)])
    closed, = show(taught(0.02), [ArmCommand(HOME, 0.0), ArmCommand(HOME, 0.0)])
    assert MAPPING.pose(gripping.executed, ArmCommand(HOME, 0.0)).gripper < 0.035
    assert opened.executed[6] == pytest.approx(1.0) and closed.executed[6] == pytest.approx(-1.0)


def test_between_episodes_nothing_is_made() -> None:
    motion = taught()
    motion.observe(state(0, HOME))
    motion.end()
    assert motion.observe(state(1, HOME)) is None
    motion.begin("next")
    assert motion.observe(state(2, HOME)) is None, "the motion since the last episode is of none"
    action = motion.observe(state(3, HOME))
    assert action is not None and (action.episode_id, action.step) == ("next", 0)


def test_a_stop_is_the_last_word_of_an_episode() -> None:
    motion = taught()
    motion.observe(state(0, HOME))
    word = motion.observe(state(1, HOME), stopped="key *")
    assert word is not None and word.status == TickStatus.STOPPED and word.reason == "key *"
    assert motion.observe(state(2, HOME)) is None and motion.episode_id == ""
