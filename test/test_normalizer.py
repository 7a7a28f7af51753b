"""What networks see of an observation: scaled, and of its long parts the principal components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learning_support import agent_for, random_episode

from poco_ros.core.episode import Episode
from poco_ros.core.errors import CheckpointError
from poco_ros.core.observation import ObservationLayout
from poco_ros.learning.agents import make_agent
from poco_ros.learning.config import BCConfig, PocoConfig, TrainConfig
from poco_ros.learning.normalizer import Normalizer, principal_components
from poco_ros.learning.policies import Signature, policy_from_bytes
from poco_ros.learning.trainer import Trainer

LAYOUT = ObservationLayout((("front", 20), ("wrist", 9), ("joint_states", 3)))
SIZES = {"hidden_dim": 16, "num_layers": 2, "batch_size": 8, "flow_steps": 3}


def rows(count: int = 400) -> np.ndarray:
    """Return observations; the front camera varies along two directions, and a little else."""
    numbers = np.random.default_rng(3)
    mixing = numbers.standard_normal((2, 20)) * np.array([[3.0], [1.0]])
    front = numbers.standard_normal((count, 2)) @ mixing + 5.0
    front += 0.001 * numbers.standard_normal(front.shape)
    rest = numbers.standard_normal((count, 12)) * numbers.uniform(0.5, 4.0, 12) - 2.0
    return np.concatenate([front, rest], axis=1).astype(np.float32)


def learned(components: int, scale: bool = True) -> Normalizer:
    found = Normalizer(LAYOUT, components)
    found.learn(rows(), scale)
    return found


def test_components_are_those_of_numpys_singular_values_and_have_a_mean_variance_of_1() -> None:
    centred = rows()[:, :20].astype(np.float64) - rows()[:, :20].mean(axis=0)
    found = principal_components(centred, 3)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    deviations = singular[:3] / np.sqrt(len(centred))
    scale = np.sqrt((deviations**2).mean())
    np.testing.assert_allclose(np.abs(found.T @ directions[:3].T), np.eye(3) / scale, atol=1e-6)
    variances = (centred @ found).var(axis=0)
    assert variances.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(variances, (deviations / scale)**2, rtol=1e-6)
    assert variances[2] < 1e-5, "noise stays as small as it is"


def test_long_parts_are_reduced_and_short_ones_scaled() -> None:
    normalizer = learned(4)
    seen = normalizer(torch.from_numpy(rows())).numpy()
    assert seen.shape == (400, 4 + 4 + 3)
    np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=1e-3)
    assert seen[:, :4].var(axis=0).mean() == pytest.approx(1.0, rel=1e-3)
    joints = rows()[:, 29:]
    np.testing.assert_allclose(seen[:, 8:], (joints - joints.mean(axis=0)) / joints.std(axis=0),
                               atol=1e-4)


def test_two_components_of_a_part_that_varies_along_two_directions_keep_all_of_it() -> None:
    seen = learned(2)(torch.from_numpy(rows())).numpy()[:, :2]
    known, *_ = np.linalg.lstsq(np.c_[seen, np.ones(len(seen))], rows()[:, :20], rcond=None)
    assert seen.var(axis=0).mean() == pytest.approx(1.0, rel=1e-3)
    left = rows()[:, :20] - np.c_[seen, np.ones(len(seen))] @ known
    assert left.std() < 0.0015, "the noise alone is lost"


def test_without_scaling_short_parts_stay_as_they_are() -> None:
    seen = learned(4, scale=False)(torch.from_numpy(rows())).numpy()
    np.testing.assert_allclose(seen[:, 8:], rows()[:, 29:], rtol=1e-6)


def test_a_direction_without_variance_stays_finite() -> None:
    still = rows()
    still[:, :20] = 7.0
    normalizer = Normalizer(LAYOUT, 4)
    normalizer.learn(still, scale=True)
    seen = normalizer(torch.from_numpy(still)).numpy()
    assert np.isfinite(seen).all() and np.abs(seen[:, :4]).max() < 1e-5


def test_no_components_is_what_it_was() -> None:
    normalizer = learned(0)
    assert normalizer.components is None and "normalizer.components" not in normalizer.tensors()
    mean, std = rows().mean(axis=0, dtype=np.float64), rows().std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(normalizer(torch.from_numpy(rows())).numpy(),
                               (rows() - mean) / std, atol=1e-4)


def episodes() -> list[Episode]:
    return [random_episode(number, 12, LAYOUT.size, 2, terminated=True) for number in range(4)]


def trainer(components: int, demonstrations: list[Episode] | None = None) -> Trainer:
    agent = PocoConfig(**SIZES, num_candidates=3, observation_components=components,
                       normalize_observations=True)
    train = TrainConfig(offline_steps=6, critic_warmup=4, warmup_utd=1.0, utd=0.5, online_steps=30)
    return Trainer(agent, train, Signature("reach", LAYOUT, 2), 1, demonstrations or episodes())


def test_a_policy_takes_its_components_along_and_acts_as_torch_does() -> None:
    subject = trainer(4)
    while subject.work_due():
        subject.work()
    agent = subject.agent
    policy = policy_from_bytes(subject.policy().to_bytes())
    assert policy.spec.inputs == agent.inputs == 11
    assert agent.actor.layers[0].weight.shape[1] == 11 + agent.chunk_size + 1
    observation = episodes()[0].observations[3]
    np.testing.assert_allclose(policy.normalised(observation),
                               agent.normalizer(torch.from_numpy(observation)).numpy(), atol=1e-5)
    noise = np.random.default_rng(2).standard_normal((5, 2)).astype(np.float32)
    expected = agent.actor.carry(agent.normalizer(torch.from_numpy(observation))[None],
                                 torch.from_numpy(noise).reshape(1, 1, -1))
    np.testing.assert_allclose(policy.act_from_noise(observation, noise).reshape(-1),
                               expected.detach().numpy().reshape(-1), atol=2e-6)


def test_a_run_with_components_resumes_to_the_bit(tmp_path) -> None:  # type: ignore[no-untyped-def]
    whole, stopped = trainer(4), trainer(4)
    for subject in (whole, stopped):
        for number in range(3):
            subject.add_episode(random_episode(50 + number, 10, LAYOUT.size, 2))
    while whole.work_due():
        whole.work()
    for _ in range(9):
        assert stopped.work_due()
        stopped.work()
    stopped.save(tmp_path)
    again = trainer(4)
    again.resume(tmp_path, [random_episode(50 + n, 10, LAYOUT.size, 2) for n in range(3)])
    while again.work_due():
        again.work()
    assert again.policy().to_bytes() == whole.policy().to_bytes()


def test_a_policy_with_other_components_is_refused_by_name() -> None:
    signature = Signature("reach", LAYOUT, 2)
    plain = make_agent(BCConfig(**SIZES), signature, 0)
    reduced = make_agent(BCConfig(**SIZES, observation_components=4), signature, 0)
    for ours, theirs in ((plain, reduced), (reduced, plain)):
        with pytest.raises(CheckpointError, match="observation_components"):
            ours.load_policy(theirs.policy(1), "here")
    assert "observation_components" not in plain.policy_spec().to_json(), "as in older files"


def test_every_value_of_a_short_observation_is_kept() -> None:
    agent = agent_for(BCConfig(**SIZES, observation_components=16), observation=3)
    assert agent.inputs == 3
    np.testing.assert_array_equal(agent.normalizer(torch.tensor([[1.0, 2.0, 3.0]])).numpy(),
                                  [[1.0, 2.0, 3.0]])
