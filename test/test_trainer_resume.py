"""The trainer: its schedule, and a run that stops anywhere and goes on as if it had not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from disk_support import files_up_to
from learning_support import random_episode, signature

from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError, DataError
from poco_ros.learning import checkpoint as checkpoint_module
from poco_ros.learning.config import AgentConfig, PocoConfig, TrainConfig
from poco_ros.learning.trainer import DivergedError, Trainer

AGENT = PocoConfig(hidden_dim=16, num_layers=2, num_candidates=4, batch_size=8, flow_steps=3,
                   normalize_observations=True, zeta=1.0)
TRAIN = TrainConfig(offline_steps=5, offline_objective="bc", critic_warmup=12, warmup_utd=1.0,
                    utd=0.5, online_steps=60, replay_capacity=40)
DEMONSTRATIONS = [random_episode(100 + n, 9, terminated=n % 2 == 0) for n in range(3)]
EPISODES = [random_episode(n, 8 + n % 3, terminated=n % 3 == 0) for n in range(7)]


def trainer(train: TrainConfig = TRAIN, agent: AgentConfig = AGENT, seed: int = 4) -> Trainer:
    return Trainer(agent, train, signature(3, 2, "task"), seed, DEMONSTRATIONS)


def run(subject: Trainer, episodes: list[Episode]) -> list[bytes]:
    """Add all episodes and work until nothing is due; return the weights after each update."""
    for episode in episodes[subject.episodes_added:]:
        subject.add_episode(episode)
    weights = []
    while subject.work_due():
        subject.work()
        weights.append(subject.policy().to_bytes())
    return weights


def states_equal(a: Trainer, b: Trainer) -> bool:
    left, right = a.agent.state(), b.agent.state()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def acting(subject: Trainer) -> dict[int, bytes]:
    """Return the policies with which the next episodes act."""
    return {number: policy.to_bytes() for number in range(len(EPISODES) + 2)
            if (policy := subject.acting_policy(number)) is not None}


def test_schedule_offline_then_warmup_then_online_then_finished() -> None:
    subject = trainer()
    stages = [subject.stage]
    actor_moved: dict[str, bool] = {}
    for episode in EPISODES:
        subject.add_episode(episode)
    while subject.work_due():
        stage, before = subject.stage, subject.agent.actor.layers[0].weight.detach().clone()
        subject.work()
        actor_moved[stage] = not torch.equal(before, subject.agent.actor.layers[0].weight)
        if subject.stage != stages[-1]:
            stages.append(subject.stage)
    assert stages == ["offline", "warmup", "online", "finished"]
    assert actor_moved == {"offline": True, "warmup": False, "online": True}
    steps = sum(map(len, EPISODES))
    assert subject.environment_steps == steps and subject.episodes_trained == len(EPISODES)
    assert subject.updates == 5 + 12 + int(0.5 * (steps - 12))


def test_a_larger_lag_than_policies_were_kept_for_is_refused(tmp_path: Path) -> None:
    """The next episode could never act: the run would end there, or the graph wait for ever."""
    subject = trainer()
    run(subject, EPISODES[:5])
    subject.save(tmp_path)
    fresh = trainer(replace(TRAIN, sync_lag=2))
    before = fresh.agent.state()
    with pytest.raises(CheckpointError, match=r"sync_lag is 2, .* learned from 3 episodes"):
        fresh.resume(tmp_path, EPISODES[:5])
    assert all(torch.equal(before[name], now) for name, now in fresh.agent.state().items())
    smaller = trainer(replace(TRAIN, sync_lag=0))
    smaller.resume(tmp_path, EPISODES[:5])
    assert smaller.acting_policy(5) is not None


def test_updates_due_counts_warmup_and_ratio_without_rounding_away() -> None:
    subject = trainer()
    due = [subject.experience.updates_due(n) for n in (0, 5, 12, 13, 14, 20)]
    assert due == [0, 5, 12, 12, 13, 16]


def test_result_does_not_depend_on_when_episodes_arrive() -> None:
    """All at once, or one by one with all work done in between: the same weights, bit for bit."""
    at_once, one_by_one = trainer(), trainer()
    run(at_once, EPISODES)
    for count in range(len(EPISODES) + 1):
        run(one_by_one, EPISODES[:count])
    assert states_equal(at_once, one_by_one)
    assert at_once.policy().to_bytes() == one_by_one.policy().to_bytes()


@pytest.mark.parametrize("stop", [2, 5, 9, 17, 25, 30])
def test_resume_equals_uninterrupted_bit_for_bit(stop: int, tmp_path: Path) -> None:
    """Stopped in each stage, also amid an episode's updates, with a ring that wraps."""
    whole = trainer()
    weights = run(whole, EPISODES)

    stopped = trainer()
    for episode in EPISODES[:5]:
        stopped.add_episode(episode)
    for _ in range(stop):
        if stopped.work_due():
            stopped.work()
    stopped.save(tmp_path)
    again = trainer()
    again.resume(tmp_path, EPISODES)
    assert states_equal(stopped, again)
    assert run(again, EPISODES) == weights[stopped.updates:]
    assert states_equal(again, whole)
    assert acting(again) == acting(whole)
    assert again.generator.bit_generator.state == whole.generator.bit_generator.state
    assert (again.episodes_trained, again.updates) == (whole.episodes_trained, whole.updates)


def test_an_episode_acts_with_what_was_learned_from_the_episodes_before_its_lag() -> None:
    """sync_lag 1: episode e acts with the weights after e - 1 episodes; older are dropped."""
    subject = trainer()
    assert subject.acting_policy(0) is None, "nothing may act before the offline stage is done"
    after = {}
    for count in range(len(EPISODES) + 1):
        run(subject, EPISODES[:count])
        after[count] = subject.agent.exploring_policy(subject.updates + 1, 0).to_bytes()
        found = subject.acting_policy(count + 1)
        assert found is not None and found.to_bytes() == after[count]
        assert subject.acting_policy(count + 2) is None
        if count:
            before = subject.acting_policy(count)
            assert before is not None and before.to_bytes() == after[count - 1]
    assert subject.acting_policy(len(EPISODES) - 1) is None, "older weights are not kept"


def test_same_seed_same_run_and_another_seed_another_run() -> None:
    first, second, other = trainer(), trainer(), trainer(seed=5)
    assert run(first, EPISODES) == run(second, EPISODES)
    assert run(other, EPISODES)[-1] != first.policy().to_bytes()


def test_an_episode_that_is_not_trainable_owes_nothing() -> None:
    subject = trainer()
    bad = random_episode(9, 10, trainable=False)
    run(subject, [EPISODES[0], bad, EPISODES[1]])
    assert subject.steps_ingested == len(EPISODES[0]) + len(EPISODES[1])
    assert subject.episodes_trained == 3


def test_episode_of_another_robot_is_refused() -> None:
    subject = trainer()
    with pytest.raises(DataError, match=r"sizes \(4, 2\).*has \(3, 2\)"):
        subject.add_episode(random_episode(1, 5, observation=4))
    assert subject.episodes_added == 0


def test_an_offline_stage_without_demonstrations_is_refused() -> None:
    with pytest.raises(DataError, match="no demonstrations"):
        Trainer(AGENT, TRAIN, signature(3, 2), 0, [])


def test_truncated_or_changed_checkpoint_is_refused_and_training_untouched(tmp_path: Path) -> None:
    saved = trainer()
    run(saved, EPISODES[:2])
    path = saved.save(tmp_path)
    tensors = path / checkpoint_module.TENSORS
    content = tensors.read_bytes()
    subject = trainer()
    before = subject.agent.state()
    for broken in (content[:len(content) // 2], content[:-1] + b"x", b""):
        tensors.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"training\.safetensors"):
            subject.resume(tmp_path, EPISODES)
    tensors.unlink()
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        subject.resume(tmp_path, EPISODES)
    assert all(torch.equal(v, before[k]) for k, v in subject.agent.state().items())
    assert subject.updates == 0 and subject.episodes_added == 0


def test_foreign_settings_seed_or_data_are_refused_by_name(tmp_path: Path) -> None:
    saved = trainer()
    run(saved, EPISODES[:3])
    saved.save(tmp_path)
    wider = PocoConfig(**{**vars(AGENT), "hidden_dim": 24})
    for subject, named in ((trainer(agent=wider), "spec"), (trainer(seed=9), "seed")):
        with pytest.raises(CheckpointError, match=named):
            subject.resume(tmp_path, EPISODES)
    with pytest.raises(CheckpointError, match="only 1"):
        trainer().resume(tmp_path, EPISODES[:1])
    other = Trainer(AGENT, TRAIN, signature(3, 2, "task"), 4, DEMONSTRATIONS[:2])
    with pytest.raises(CheckpointError, match="demonstrations"):
        other.resume(tmp_path, EPISODES)


def test_nan_in_saved_weights_is_refused(tmp_path: Path) -> None:
    """A checkpoint of somebody else's making: whole by its checksum, and not finite."""
    saved = trainer()
    tensors = saved.agent.state()
    tensors["actor.layers.1.bias"][3] = float("nan")
    words = {"spec": saved.agent.policy_spec().to_json(), "algorithm": "poco", "seed": 4,
             "demonstrations": saved.demonstrations_digest, "episodes_ingested": 0, "acting": {}}
    checkpoint_module.save_checkpoint(tmp_path, "000000000", tensors, words)
    with pytest.raises(CheckpointError, match=r"actor\.layers\.1\.bias.*not finite"):
        trainer().resume(tmp_path, [])


def test_weights_that_diverged_are_told_of_and_never_saved(tmp_path: Path) -> None:
    subject = trainer()
    subject.work()
    subject.save(tmp_path)
    with torch.no_grad():
        subject.agent.actor.layers[1].bias[3] = float("nan")
    with pytest.raises(DivergedError, match=r"not saved: actor\.layers\.1\.bias"):
        subject.save(tmp_path)
    with pytest.raises(DivergedError, match=r"actor/clone_loss is not finite.*lower lr"):
        subject.work()
    again = trainer()
    again.resume(tmp_path, [])
    assert again.updates == 1


def test_failing_disk_leaves_the_old_checkpoint_whole(tmp_path: Path) -> None:
    """The kernel refuses to write more than 2,000 bytes into a file, as a full disk would."""
    subject = trainer()
    run(subject, EPISODES[:1])
    subject.save(tmp_path)
    before = subject.agent.state()
    run(subject, EPISODES[:3])
    with files_up_to(2000):
        with pytest.raises(OSError, match="File too large"):
            subject.save(tmp_path)
    again = trainer()
    again.resume(tmp_path, EPISODES[:1])
    assert all(torch.equal(v, before[k]) for k, v in again.agent.state().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000013", "LATEST"]
    subject.save(tmp_path)  # room again: the next save goes through


def test_leftovers_of_a_killed_save_are_ignored_and_swept(tmp_path: Path) -> None:
    subject = trainer()
    run(subject, EPISODES[:1])
    subject.save(tmp_path)
    half = tmp_path / ".writing-killed"
    half.mkdir()
    (half / checkpoint_module.TENSORS).write_bytes(b"half")
    again = trainer()
    again.resume(tmp_path, EPISODES[:1])
    assert states_equal(subject, again)
    run(again, EPISODES[:2])
    again.save(tmp_path)
    assert not half.exists()
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


def test_starting_from_a_policy_skips_the_offline_stage_and_checks_the_architecture() -> None:
    source = trainer()
    run(source, [])
    policy = source.policy()
    subject = trainer()
    subject.start_from(policy, "cloned.safetensors")
    assert subject.stage == "warmup"
    observation = np.ones(3, np.float32)
    assert np.array_equal(subject.policy().act(observation, 1), policy.act(observation, 1))
    wider = trainer(agent=PocoConfig(**{**vars(AGENT), "hidden_dim": 24}))
    with pytest.raises(CheckpointError, match=r"cloned\.safetensors.*hidden_dim: 16"):
        wider.start_from(policy, "cloned.safetensors")
