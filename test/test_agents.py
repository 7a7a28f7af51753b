"""Laws that hold for every algorithm: the contract of an agent."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learning_support import agent_for, drawn_for, random_episode, reached, signature

from poco_ros.core.config import from_dict
from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError, ConfigError
from poco_ros.learning.agents import AGENTS, Agent, Phase
from poco_ros.learning.agents.ppo import PPO
from poco_ros.learning.config import (
    ALGORITHMS,
    AgentConfig,
    TrainConfig,
    check_schedule,
    shared_settings,
)
from poco_ros.learning.policies import EXPLORE, RANDOM, policy_from_bytes
from poco_ros.learning.replay import Replay
from poco_ros.learning.trainer import Trainer
from poco_ros.preset import load_preset

SMALL = {"hidden_dim": 16, "num_layers": 2, "batch_size": 8, "flow_steps": 3, "num_candidates": 4,
         "noise_layers": 2, "distillation_steps": 2, "num_critics": 3,
         "random_steps": 12, "normalize_observations": True, "round_episodes": 2, "epochs": 3,
         "minibatch_size": 4, "warmup_rounds": 1, "noise_hidden_dim": 8}
EPISODES = 4
DEMONSTRATIONS = [random_episode(n, 10, terminated=True) for n in range(3)]

ON_POLICY = [name for name, cls in AGENTS.items() if issubclass(cls, PPO)]
every_algorithm = pytest.mark.parametrize("algorithm", list(ALGORITHMS))


def small(algorithm: str, **settings: object) -> AgentConfig:
    """Return small settings of an algorithm."""
    known = {field.name for field in dataclasses.fields(ALGORITHMS[algorithm])}
    values = {key: value for key, value in {**SMALL, **settings}.items() if key in known}
    return from_dict(AgentConfig, {"algorithm": algorithm, **values}, "test")


def agent(algorithm: str, **settings: object) -> Agent:
    return agent_for(small(algorithm, **settings), 3, 2, seed=3)


def update(subject: Agent, phase: Phase, times: int = 1) -> dict[str, torch.Tensor]:
    """Update on random chunks of the demonstrations, or on rounds of the agent's own episodes."""
    replay = Replay(3, 2, 100, DEMONSTRATIONS)
    generator, metrics = np.random.default_rng(1), {}
    for _ in range(times):
        drawn = drawn_for(subject, phase, replay, generator)
        metrics = subject.update(subject.tensors(drawn), phase)
    return metrics


def test_every_settings_class_has_an_agent_and_the_reverse() -> None:
    assert ALGORITHMS.keys() == AGENTS.keys()


@every_algorithm
def test_metrics_are_those_that_are_declared(algorithm: str) -> None:
    subject = agent(algorithm)
    seen = {name for phase in Phase for name in update(subject, phase)}
    assert seen == set(subject.METRICS)


@every_algorithm
def test_the_critic_phase_moves_no_network_that_acts_on_observations(algorithm: str) -> None:
    """The warm-up freezes the actor; a critic that chooses among samples may move."""
    subject = agent(algorithm)
    update(subject, Phase.CLONE)
    before = subject.policy(1).tensors
    update(subject, Phase.CRITIC, times=3)
    after = subject.policy(1).tensors
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert all(name.startswith("critic.") for name in moved)


@every_algorithm
def test_the_same_seed_gives_the_same_updates(algorithm: str) -> None:
    one, other = agent(algorithm), agent(algorithm)
    for phase in (Phase.CLONE, Phase.CRITIC, Phase.FULL):
        update(one, phase, 2)
        update(other, phase, 2)
    left, right = one.state(), other.state()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@every_algorithm
def test_state_restores_the_agent_to_the_bit(algorithm: str) -> None:
    subject, again = agent(algorithm), agent_for(small(algorithm), 3, 2, seed=9)
    update(subject, Phase.FULL, 2)
    again.load_state(subject.state(), "saved")
    update(subject, Phase.FULL, 2)
    update(again, Phase.FULL, 2)
    left, right = subject.state(), again.state()
    assert all(torch.equal(left[name], right[name]) for name in left)


@every_algorithm
@pytest.mark.parametrize("mode", ["evaluate", "explore", "random"])
def test_its_policy_acts_from_bytes_alone(algorithm: str, mode: str) -> None:
    subject = agent(algorithm)
    update(subject, Phase.CLONE)
    update(subject, Phase.FULL)
    policy = subject.policy(7, mode)
    again = policy_from_bytes(policy.to_bytes(), "message")
    assert (again.version, again.mode, again.spec) == (7, mode, policy.spec)
    observation = np.array([0.3, -1.0, 2.0], np.float32)
    chunk = again.act(observation, 5)
    assert chunk.shape == (subject.config.chunk_horizon, 2) and np.abs(chunk).max() <= 1.0
    assert np.array_equal(chunk, policy.act(observation, 5))
    drawn = np.stack([again.act(observation, seed) for seed in range(20)])
    if mode != "evaluate":
        assert drawn.std(axis=0).min() > 1e-4, "it explores"


@every_algorithm
def test_a_trainer_resumes_it_to_the_bit(algorithm: str, tmp_path: object) -> None:
    lag = 0 if algorithm in ON_POLICY else 1
    train = TrainConfig(offline_steps=3, offline_objective="bc", critic_warmup=8, utd=0.3,
                        online_steps=30, replay_capacity=200, sync_lag=lag)

    def fresh() -> Trainer:
        return Trainer(small(algorithm), train, signature(3, 2, "task"), 4, DEMONSTRATIONS)

    def run(trainer: Trainer, updates: int) -> None:
        """Let it act and learn in turn, until so many updates are done or all episodes are."""
        while trainer.updates < updates:
            number = trainer.episodes_added
            if trainer.work_due():
                trainer.work()
            elif number < EPISODES:
                policy = trainer.acting_policy(number)
                assert policy is not None
                made[number] = reached(policy, 4, number, 2)
                trainer.add_episode(made[number])
            else:
                return

    made: dict[int, Episode] = {}
    whole, part, again = fresh(), fresh(), fresh()
    run(whole, 1000)
    run(part, 11)
    part.save(str(tmp_path))
    again.resume(str(tmp_path), [made[n] for n in range(part.episodes_added)])
    run(again, 1000)
    left, right = whole.agent.state(), again.agent.state()
    assert whole.updates == again.updates > 12
    assert all(torch.equal(left[name], right[name]) for name in left)
    ours, theirs = whole.acting_policy(4), again.acting_policy(4)
    assert ours is not None and theirs is not None and ours.to_bytes() == theirs.to_bytes()


@pytest.mark.parametrize("algorithm", ["poco", "bc", "qc", "dsrl", "dppo", "reinflow"])
def test_an_algorithm_on_a_flow_starts_from_a_cloned_one(algorithm: str) -> None:
    source, subject = agent("bc").policy(1), agent(algorithm)
    subject.load_policy(source, "x.safetensors")
    for name, tensor in source.tensors.items():
        assert np.array_equal(subject.policy(1).tensors[name], tensor)


def test_who_brings_critics_brings_their_target_too() -> None:
    """A target of its first, random, weights would spoil what the critics know."""
    source, subject = agent("qc"), agent("qc")
    with torch.no_grad():
        for parameter in source.modules()["critic"].parameters():
            parameter.add_(0.1)
    subject.load_policy(source.policy(1), "x.safetensors")
    networks = subject.modules()
    target = networks["target_critic"].state_dict()
    assert all(torch.equal(value, target[name])
               for name, value in networks["critic"].state_dict().items())


def test_where_a_policy_of_its_own_is_not_enough_the_run_can_go_on() -> None:
    with pytest.raises(CheckpointError, match=r"no actor, which qc_fql starts from; go on with its"
                                              r" run \(--resume\)"):
        agent("qc_fql").load_policy(agent("qc_fql").policy(1), "x.safetensors")


@pytest.mark.parametrize("algorithm, settings, missing", [
    ("qc_fql", {}, "no one_step"), ("rlpd_ac", {"activation": "silu"}, "shape")])
def test_an_algorithm_that_cannot_start_from_a_flow_says_so(
        algorithm: str, settings: dict[str, object], missing: str) -> None:
    subject = agent(algorithm, **settings)
    with pytest.raises(CheckpointError, match=rf"x\.safetensors.*{missing}"):
        subject.load_policy(agent("bc").policy(1), "x.safetensors")


@every_algorithm
def test_the_offline_stage_does_what_the_algorithms_source_does(algorithm: str) -> None:
    """It clones; QC and FQL learn from rewards already then; RLPD does nothing."""
    subject = agent(algorithm)
    wanted = {"actor"} | ({"one_step"} if "fql" in algorithm else set())
    if algorithm in ("qc", "qc_fql", "fql"):
        wanted |= {"critic", "target_critic"}
    lag = 0 if algorithm in ON_POLICY else 1
    trainer = Trainer(small(algorithm), TrainConfig(offline_steps=2, sync_lag=lag),
                      signature(3, 2), 3, DEMONSTRATIONS)
    before = trainer.agent.state()
    while trainer.work_due():
        trainer.work()
    after = trainer.agent.state()
    moved = {name.split(".")[0] for name in subject.state() if name.split(".")[0] not in (
        "generator", "normalizer", "optimizer", "choice")
        and not torch.equal(before[name], after[name])}
    assert moved == (set() if algorithm.startswith("rlpd") else wanted)


@pytest.mark.parametrize("algorithm", ["dsrl", *ON_POLICY])
def test_what_can_only_clone_offline_says_so(algorithm: str) -> None:
    lag = 0 if algorithm in ON_POLICY else 1
    train = TrainConfig(offline_steps=2, offline_objective="full", sync_lag=lag)
    with pytest.raises(ConfigError, match=f"offline_objective is full: {algorithm} can only"
                                          " clone .* set offline_objective to published or bc"):
        check_schedule(small(algorithm), train)


@pytest.mark.parametrize("algorithm", ON_POLICY)
@pytest.mark.parametrize(("name", "value", "plain"), [("precision", "tf32", "fp32"),
                                                      ("compiled", True, "False")])
def test_what_an_update_does_not_have_is_not_accepted_in_silence(algorithm: str, name: str,
                                                                 value: object,
                                                                 plain: str) -> None:
    train = from_dict(TrainConfig, {"device": "cuda", "sync_lag": 0, name: value}, "test")
    with pytest.raises(ConfigError, match=f"{name} is {value}, which updates of {algorithm} do"
                                          f" not have; set {name} to {plain}"):
        check_schedule(small(algorithm), train)


def test_a_random_policy_covers_the_box_and_ends_with_its_steps() -> None:
    subject = agent("rlpd")
    assert subject.exploring_policy(1, 11).mode == RANDOM
    assert subject.exploring_policy(1, 12).mode == EXPLORE
    observation = np.zeros(3, np.float32)
    drawn = np.stack([subject.policy(1, RANDOM).act(observation, seed) for seed in range(400)])
    assert drawn.min() < -0.95 and drawn.max() > 0.95 and abs(drawn.mean()) < 0.06


def test_settings_of_another_algorithm_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown key 'zeta'"):
        from_dict(AgentConfig, {"algorithm": "qc", "zeta": 0.1}, "preset.yaml")
    with pytest.raises(ConfigError, match=r"preset\.yaml.*'q_c' is not one of.*did you mean 'qc'"):
        from_dict(AgentConfig, {"algorithm": "q_c"}, "preset.yaml")


def test_a_preset_gives_another_algorithm_what_both_know() -> None:
    poco = load_preset("cpu_cube_single")
    qc = load_preset("cpu_cube_single", {"agent": {"algorithm": "qc", "num_candidates": 8}})
    assert type(qc.agent) is ALGORITHMS["qc"] and qc.agent.num_candidates == 8  # type: ignore
    assert qc.agent.hidden_dim == poco.agent.hidden_dim and qc.train == poco.train
    assert shared_settings({"eta": 1.0, "lr": 1e-3}, "fql") == {"lr": 1e-3}
    assert shared_settings({"eta": 1.0, "typo": 2}, "bc") == {"typo": 2}, "a typo stays one"
    assert shared_settings({"chunk_horizon": 3}, "qc") == {"chunk_horizon": 3}
    for single in ("fql", "rlpd"):  # else they were qc_fql and rlpd_ac under another name
        assert not shared_settings({"chunk_horizon": 3}, single)
    assert load_preset("cpu_pick_cube", {"agent": {"algorithm": "fql"}}).agent.chunk_horizon == 1
    assert shared_settings({"gamma": 0.9}, "qc") and not shared_settings({"gamma": 0.9}, "dppo")
