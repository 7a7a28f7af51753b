"""Settings of the algorithms and of the trainer; defaults are those of the publications, but for
the departures that ``docs/algorithms.md`` lists.

Every algorithm has a settings class, chosen by ``agent.algorithm``. What all of them share stands
in :class:`AgentConfig`, what those with a generative policy share in :class:`GenerativeConfig`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from poco_ros.core.config import setting, settings_of
from poco_ros.core.errors import ConfigError

FLOW, DIFFUSION, CONSISTENCY = "flow", "diffusion", "consistency"
GENERATIVE = (FLOW, DIFFUSION, CONSISTENCY)
"""Generative models of chunks; a policy of that kind acts with one sample of it."""

INITIAL_TEMPERATURE = 0.01
TEMPERATURE_DOC = ("SAC's alpha at the beginning; the published 1, for rewards of -1 and 0, is a"
                   " hundred times as large")


@dataclass(frozen=True)
class AgentConfig:
    """Networks and optimisers of any agent. See ``docs/algorithms.md``."""

    CLONED_FIRST: ClassVar[bool] = False
    """Whether only cloning trains the policy that the whole objective improves."""

    algorithm: str = setting("", "learning algorithm, such as poco, bc or qc")
    chunk_horizon: int = setting(5, "actions in a chunk, T", minimum=1, maximum=1000)
    hidden_dim: int = setting(512, "width of every hidden layer", minimum=1)
    num_layers: int = setting(4, "hidden layers of actor and critic", minimum=1, maximum=32)
    activation: str = setting(
        "silu", "activation; the paper names SiLU, its released code uses GELU",
        choices=("silu", "gelu", "relu"))
    normalize_observations: bool = setting(
        False, "scale observations by mean and deviation of the demonstrations")
    observation_components: int = setting(
        0, "of each part of the observation that has more values, such as a camera's features,"
        " networks see so many principal components, as the demonstrations vary; 0 = all values",
        minimum=0, neutral=0)

    batch_size: int = setting(256, "transitions in an update, B", minimum=1)
    offline_share: float = setting(
        -1.0, "share of a batch that is drawn from the demonstrations; -1 = uniform over all data",
        minimum=-1.0, maximum=1.0)
    lr: float = setting(3e-4, "learning rate of Adam, actor and critic", minimum=0.0)
    gamma: float = setting(0.99, "discount a step", minimum=0.0, maximum=1.0)
    tau: float = setting(0.005, "share of the critic that enters its target each update",
                         minimum=0.0, maximum=1.0)
    num_critics: int = setting(2, "members of the critic ensemble", minimum=1, maximum=64)

    @classmethod
    def choose(cls, values: Mapping[str, Any], source: str) -> type[AgentConfig]:
        """Return the settings class of the algorithm that ``values`` name.

        Raises:
            ConfigError: there is no such algorithm.
        """
        if cls is not AgentConfig:
            return cls
        name = values.get("algorithm", DEFAULT_ALGORITHM)
        if not isinstance(name, str) or name not in ALGORITHMS:
            near = difflib.get_close_matches(str(name), ALGORITHMS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{source}: algorithm {name!r} is not one of"
                              f" {', '.join(ALGORITHMS)}{hint}")
        return ALGORITHMS[name]


@dataclass(frozen=True)
class GenerativeConfig(AgentConfig):
    """An agent whose actor is a generative policy with a supervised loss a sample."""

    NEEDS_FLOW: ClassVar[bool] = False
    """Whether the algorithm works on the map from noise to chunk that a flow alone has."""

    policy: str = setting(
        FLOW, "the actor's model: a flow, a diffusion model, or a consistency model that is"
        " distilled from a flow in the same run", choices=GENERATIVE)
    flow_steps: int = setting(
        10, "steps from noise to action when acting: Euler's of a flow, the sampler's of a"
        " diffusion model, the teacher's of a consistency model", minimum=1, maximum=1000)
    target_flow_steps: int = setting(
        0, "such steps for the next action of the TD target, and for the noise critic of dsrl;"
        " 0 = flow_steps", minimum=0, maximum=1000)
    diffusion_steps: int = setting(100, "diffusion: steps of the noise schedule", minimum=1,
                                   maximum=10_000)
    diffusion_sampler: str = setting(
        "ddim", "diffusion: ddim adds no noise on the way back, ddpm does",
        choices=("ddim", "ddpm"))
    consistency_steps: int = setting(3, "consistency: jumps from noise to action", minimum=1,
                                     maximum=100)

    def __post_init__(self) -> None:
        if self.NEEDS_FLOW and self.policy != FLOW:
            raise ConfigError(f"policy: {self.algorithm} works on the map from noise to chunk,"
                              f" which only a flow has, not {self.policy!r}; set policy to"
                              f" {FLOW}, or choose poco, qc or bc")

    @property
    def steps_for_targets(self) -> int:
        """Sampling steps used for the next action in the TD target."""
        return self.target_flow_steps or self.flow_steps


@dataclass(frozen=True)
class BCConfig(GenerativeConfig):
    """Behaviour cloning."""

    algorithm: str = setting("bc", "learning algorithm")


@dataclass(frozen=True)
class PocoConfig(GenerativeConfig):
    """Posterior optimisation with a clipped objective (arXiv 2604.01860)."""

    algorithm: str = setting("poco", "learning algorithm")
    num_candidates: int = setting(32, "candidate chunks drawn a state, N", minimum=1)
    eta: float = setting(0.001, "temperature of the posterior weights softmax(Q / eta)",
                         minimum=1e-9)
    beta: float = setting(1.0, "weight of the clipped posterior loss beside behaviour cloning",
                          minimum=0.0)
    zeta: float = setting(0.15, "clip of a candidate's flow loss; 0 = no clip", minimum=0.0)
    weight_critic: str = setting(
        "online", "critic whose Q makes the weights; the released code takes the target",
        choices=("online", "target"))
    posterior: str = setting(
        "sum", "sum: weigh the loss of all candidates; draw: one candidate a state, drawn from "
        "the weights (the same gradient in expectation, a fraction of the time)",
        choices=("sum", "draw"))
    weight_floor: float = setting(
        0.0, "leave candidates out of the weighted loss when their weight is below this",
        minimum=0.0, maximum=1.0)
    candidate_flow_steps: int = setting(
        0, "sampling steps for candidates; 0 = flow_steps", minimum=0, maximum=1000)
    posterior_batch: int = setting(
        0, "states of the batch for which candidates are drawn; 0 = all", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.posterior_batch > self.batch_size:
            raise ConfigError(f"posterior_batch {self.posterior_batch} is larger than batch_size"
                              f" {self.batch_size}; lower it, or 0 for all states")

    @property
    def steps_for_candidates(self) -> int:
        """Sampling steps used when candidates are drawn."""
        return self.candidate_flow_steps or self.flow_steps


@dataclass(frozen=True)
class QCConfig(GenerativeConfig):
    """Q-chunking: the best of N candidates of a cloned flow (arXiv 2507.07969)."""

    algorithm: str = setting("qc", "learning algorithm")
    num_candidates: int = setting(32, "candidates of which the best acts, N", minimum=1)


@dataclass(frozen=True)
class QCFQLConfig(GenerativeConfig):
    """Flow Q-learning over chunks: a one-step actor distilled from the flow (arXiv 2502.02538)."""

    NEEDS_FLOW = True

    algorithm: str = setting("qc_fql", "learning algorithm")
    alpha: float = setting(
        3.0, "weight of the distillation beside the mean Q; those published, for rewards of -1"
        " and 0, are a hundred times as large", minimum=0.0)


@dataclass(frozen=True)
class FQLConfig(QCFQLConfig):
    """Flow Q-learning as published: single actions."""

    algorithm: str = setting("fql", "learning algorithm")
    chunk_horizon: int = setting(1, "actions in a chunk, T", minimum=1, maximum=1000)


@dataclass(frozen=True)
class RLPDACConfig(AgentConfig):
    """RLPD over chunks: SAC on half demonstrations, half online data (arXiv 2302.02948)."""

    algorithm: str = setting("rlpd_ac", "learning algorithm")
    activation: str = setting("relu", "activation", choices=("silu", "gelu", "relu"))
    offline_share: float = setting(
        0.5, "share of a batch that is drawn from the demonstrations; -1 = uniform over all data",
        minimum=-1.0, maximum=1.0)
    num_critics: int = setting(10, "members of the critic ensemble", minimum=1, maximum=64)
    target_members: int = setting(
        0, "random members whose least Q makes the TD target, 2 in the original; 0 = the mean of"
        " all, as the re-implementation over chunks", minimum=0, maximum=64)
    target_entropy_scale: float = setting(
        0.5, "target entropy is minus this for every dimension of a chunk", minimum=0.0)
    entropy_backup: bool = setting(False, "subtract the entropy's price in the TD target")
    initial_temperature: float = setting(INITIAL_TEMPERATURE, TEMPERATURE_DOC, minimum=1e-9)
    random_steps: int = setting(5_000, "first steps of the environment, acted at random",
                                minimum=0)

    def __post_init__(self) -> None:
        if self.target_members > self.num_critics:
            raise ConfigError(f"target_members {self.target_members} is larger than num_critics"
                              f" {self.num_critics}; lower it, or 0 for the mean of all")


@dataclass(frozen=True)
class RLPDConfig(RLPDACConfig):
    """RLPD as published: single actions."""

    algorithm: str = setting("rlpd", "learning algorithm")
    chunk_horizon: int = setting(1, "actions in a chunk, T", minimum=1, maximum=1000)


@dataclass(frozen=True)
class DSRLConfig(GenerativeConfig):
    """Diffusion steering, noise-aliased: SAC on the flow's initial noise (arXiv 2506.15799)."""

    NEEDS_FLOW = CLONED_FIRST = True

    algorithm: str = setting("dsrl", "learning algorithm")
    noise_hidden_dim: int = setting(2048, "width of the noise actor and of both critics",
                                    minimum=1)
    noise_layers: int = setting(3, "hidden layers of the noise actor and of both critics",
                                minimum=1, maximum=32)
    noise_bound: float = setting(1.5, "noise is kept within minus and plus this", minimum=1e-3)
    distillation_steps: int = setting(
        1, "updates of the noise critic an update of the action critic", minimum=1)
    critic_aggregate: str = setting(
        "min", "what the members' Q stand for, in the TD target and to the actor",
        choices=("min", "mean"))
    entropy_backup: bool = setting(True, "subtract the entropy's price in the TD target")
    target_entropy_scale: float = setting(
        0.0, "target entropy is minus this for every dimension of the noise", minimum=0.0)
    initial_temperature: float = setting(INITIAL_TEMPERATURE, TEMPERATURE_DOC, minimum=1e-9)


@dataclass(frozen=True)
class PPOConfig(GenerativeConfig):
    """What DPPO and ReinFlow share: rounds of episodes, PPO along the way from noise to a chunk.

    Rounds decide how much is learned: ``utd``, ``warmup_utd``, ``critic_warmup`` and
    ``replay_capacity`` of the schedule have no meaning here. ``sync_lag`` must be 0.
    """

    NEEDS_FLOW = CLONED_FIRST = True

    gamma: float = setting(0.999, "discount a chunk", minimum=0.0, maximum=1.0)
    round_episodes: int = setting(20, "whole episodes that act with one policy before it learns",
                                  minimum=1)
    epochs: int = setting(10, "passes over a round", minimum=1)
    minibatch_size: int = setting(750, "chunks in an update of a round", minimum=2)
    warmup_rounds: int = setting(2, "first rounds, of which only the value learns", minimum=0)
    gae_lambda: float = setting(0.95, "lambda of the generalised advantages", minimum=0.0,
                                maximum=1.0)
    actor_lr: float = setting(1e-5, "learning rate of the actor in the online stage",
                              minimum=0.0)
    value_lr: float = setting(1e-3, "learning rate of the value", minimum=0.0)
    clip: float = setting(0.01, "how far a ratio may go from 1", minimum=0.0)
    target_kl: float = setting(
        1.0, "a round ends when an update finds the policy farther than this from the one that"
        " acted; 0 = never", minimum=0.0)
    scale_rewards: bool = setting(
        True, "divide rewards by the running deviation of their discounted sum")
    noise_clip: float = setting(3.0, "noise of a step is kept within so many deviations",
                                minimum=0.0)


@dataclass(frozen=True)
class DPPOConfig(PPOConfig):
    """Diffusion policy policy optimisation, on a flow (arXiv 2409.00588)."""

    algorithm: str = setting("dppo", "learning algorithm")
    noise_std: float = setting(0.1, "deviation of the noise of each step", minimum=1e-6)
    clip_base: float = setting(0.001, "clip of the first step; that of the last is clip",
                               minimum=0.0)
    clip_rate: float = setting(3.0, "how sharply the clip grows along the way", minimum=1e-6)
    denoising_gamma: float = setting(
        0.99, "discount of the advantage a step, backwards from the chunk", minimum=0.0,
        maximum=1.0)


@dataclass(frozen=True)
class ReinFlowConfig(PPOConfig):
    """PPO on a flow with learned noise (arXiv 2505.22094)."""

    algorithm: str = setting("reinflow", "learning algorithm")
    actor_lr: float = setting(2e-5, "learning rate of the actor in the online stage",
                              minimum=0.0)
    value_lr: float = setting(6.5e-4, "learning rate of the value", minimum=0.0)
    target_kl: float = setting(
        0.01, "a round ends when an update finds the policy farther than this from the one that"
        " acted; 0 = never", minimum=0.0)
    noise_min: float = setting(0.08, "least deviation of the noise of a step", minimum=1e-6)
    noise_max: float = setting(0.14, "largest deviation of the noise of a step", minimum=1e-6)
    noise_hidden_dim: int = setting(256, "width of the noise's network", minimum=1)
    noise_layers: int = setting(3, "hidden layers of the noise's network", minimum=1, maximum=32)
    entropy_weight: float = setting(0.01, "weight of the entropy bonus", minimum=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_min > self.noise_max:
            raise ConfigError(f"noise_min {self.noise_min:g} is larger than noise_max"
                              f" {self.noise_max:g}; swap them")


ALGORITHMS: dict[str, type[AgentConfig]] = {
    cls().algorithm: cls for cls in (PocoConfig, BCConfig, QCConfig, QCFQLConfig, FQLConfig,
                                     RLPDACConfig, RLPDConfig, DSRLConfig, DPPOConfig,
                                     ReinFlowConfig)}
"""Name of an algorithm -> its settings class; ``learning.agents`` has the agent of each."""
OFF_POLICY = tuple(name for name, cls in ALGORITHMS.items() if not issubclass(cls, PPOConfig))
"""The algorithms that learn from a replay; the others learn in rounds."""
DEFAULT_ALGORITHM = "poco"


OF_THE_ALGORITHM = ("chunk_horizon", "gamma")
"""Settings that all have and that mean something else where their defaults differ."""


def shared_settings(section: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    """Return what another algorithm can take over of an ``agent`` section: the settings it knows.

    A preset that was written for one algorithm gives another its networks, batch and so on; what
    only the first one knows (a clip, a temperature) has no meaning there, nor has a chunk length
    where single actions make the algorithm, or a discount a step where it is one a chunk. A
    section of the same algorithm, and an algorithm that does not exist, leave all as it is.
    """
    first = section.get("algorithm", DEFAULT_ALGORITHM)
    if algorithm == first or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return dict(section)
    known = settings_of(ALGORITHMS[algorithm])
    others = {name for cls in ALGORITHMS.values() for name in settings_of(cls)} - set(known)
    if first in ALGORITHMS:
        others |= {name for name in OF_THE_ALGORITHM if
                   known[name][0].default != settings_of(ALGORITHMS[first])[name][0].default}
    return {key: value for key, value in section.items() if key not in others}


OF_CAPTURED_UPDATES = (("precision", "fp32"), ("compiled", False))
"""Settings of updates that are captured on a GPU, and their values where nothing is asked for."""
PUBLISHED, FULL, CLONE = "published", "full", "bc"
"""What the offline stage optimises."""


@dataclass(frozen=True)
class TrainConfig:
    """The stages of a run and how much of each."""

    offline_steps: int = setting(500_000, "updates on the demonstrations before the first episode",
                                 minimum=0)
    offline_objective: str = setting(
        PUBLISHED, "published: as the algorithm's source, which is to clone, for QC and FQL the"
        " whole objective, for RLPD nothing; full: the whole objective, critic included; bc: clone"
        " only, the critic starts in the warm-up", choices=(PUBLISHED, FULL, CLONE))
    critic_warmup: int = setting(
        5_000, "updates of the critic alone, actor frozen, when the online stage begins",
        minimum=0)
    warmup_utd: float = setting(1.0, "updates a step during the warm-up", minimum=1e-6)
    utd: float = setting(1.0, "updates a step of the environment (update-to-data ratio)",
                         minimum=0.0)
    online_steps: int = setting(500_000, "steps of the environment in the online stage", minimum=0)
    replay_capacity: int = setting(
        2_000_000, "steps of the online stage kept for learning; demonstrations, which are never"
        " evicted, are kept besides",
        minimum=1)
    sync_lag: int = setting(
        1, "lock-step: episode e acts with the weights that have learned from all episodes before "
        "e - lag; 0 = strictly in turn, 1 = acting and learning overlap; either is reproducible",
        minimum=0, maximum=8)
    eval_every: int = setting(10_000, "steps of the environment between evaluations; 0 = never",
                              minimum=0)
    eval_episodes: int = setting(50, "episodes of an evaluation", minimum=1)
    checkpoint_every: int = setting(10_000, "updates between checkpoints", minimum=1)
    log_every: int = setting(100, "updates averaged into a row of metrics.csv", minimum=1)
    actors: int = setting(
        1, "poco train: episodes that run at the same time, as far as the algorithm lets them"
        " (sync_lag + 1, or those of a round); the result is the same with any number",
        minimum=1, maximum=256)
    threads: int = setting(1, "threads of torch; more than one hurts on a busy machine",
                           minimum=1)
    device: str = setting("cpu", "torch device: cpu, cuda, cuda:1, ...")
    precision: str = setting(
        "fp32", "products on a GPU: fp32; tf32: float32 with 10 bits of mantissa; bf16: the "
        "policy in bfloat16, the critics in tf32", choices=("fp32", "tf32", "bf16"))
    captured: bool = setting(
        True, "on a GPU, run an update as one captured CUDA graph; false: kernel by kernel")
    compiled: bool = setting(
        False, "on a GPU, fuse the element-wise work with torch.compile; the first updates take a "
        "minute longer")

    def __post_init__(self) -> None:
        if self.device.split(":")[0] == "cuda":
            return
        for name, plain in OF_CAPTURED_UPDATES:
            if getattr(self, name) != plain:
                raise ConfigError(f"{name} is {getattr(self, name)}, which is for a GPU, and"
                                  f" device is {self.device}; set device to cuda, or {name} to"
                                  f" {plain}")


def check_schedule(agent: AgentConfig, train: TrainConfig) -> None:
    """Raise ConfigError when the schedule asks for what the algorithm cannot do."""
    if isinstance(agent, PPOConfig) and train.sync_lag:
        raise ConfigError(f"sync_lag is {train.sync_lag}: {agent.algorithm} learns from episodes"
                          " of the newest policy alone; set sync_lag to 0 (episodes of a round"
                          " may still run at the same time, see actors)")
    if isinstance(agent, PPOConfig):
        for name, plain in OF_CAPTURED_UPDATES:
            if getattr(train, name) != plain:
                raise ConfigError(f"{name} is {getattr(train, name)}, which updates of"
                                  f" {agent.algorithm} do not have; set {name} to {plain}")
    if agent.CLONED_FIRST and train.offline_objective == FULL and train.offline_steps:
        raise ConfigError(f"offline_objective is {FULL}: {agent.algorithm} can only clone the"
                          f" demonstrations; set offline_objective to {PUBLISHED} or {CLONE}")
