"""Settings of the agent and of the trainer; defaults are the paper's (arXiv 2604.01860)."""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError


@dataclass(frozen=True)
class AgentConfig:
    """Networks, objectives and optimisers of an agent. See ``docs/algorithm.md``."""

    algorithm: str = setting("poco", "learning algorithm", choices=("poco", "bc"))
    chunk_horizon: int = setting(5, "actions in a chunk, T", minimum=1, maximum=1000)
    hidden_dim: int = setting(512, "width of every hidden layer", minimum=1)
    num_layers: int = setting(4, "hidden layers of actor and critic", minimum=1, maximum=32)
    activation: str = setting(
        "silu", "activation; the paper names SiLU, its released code uses GELU",
        choices=("silu", "gelu", "relu"))
    flow_steps: int = setting(10, "Euler steps from noise to action when acting", minimum=1,
                              maximum=1000)
    normalize_observations: bool = setting(
        False, "scale observations by mean and deviation of the demonstrations")

    batch_size: int = setting(256, "transitions in an update, B", minimum=1)
    lr: float = setting(3e-4, "learning rate of Adam, actor and critic", minimum=0.0)
    gamma: float = setting(0.99, "discount a step", minimum=0.0, maximum=1.0)
    tau: float = setting(0.005, "share of the critic that enters its target each update",
                         minimum=0.0, maximum=1.0)
    num_critics: int = setting(2, "members of the critic ensemble", minimum=1, maximum=64)

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
        0, "Euler steps for candidates; 0 = flow_steps", minimum=0, maximum=1000)
    target_flow_steps: int = setting(
        0, "Euler steps for the next action of the TD target; 0 = flow_steps", minimum=0,
        maximum=1000)
    posterior_batch: int = setting(
        0, "states of the batch for which candidates are drawn; 0 = all", minimum=0)

    def __post_init__(self) -> None:
        if self.posterior_batch > self.batch_size:
            raise ConfigError(f"posterior_batch {self.posterior_batch} is larger than batch_size"
                              f" {self.batch_size}; lower it, or 0 for all states")

    @property
    def steps_for_candidates(self) -> int:
        """Euler steps used when candidates are drawn."""
        return self.candidate_flow_steps or self.flow_steps

    @property
    def steps_for_targets(self) -> int:
        """Euler steps used for the next action in the TD target."""
        return self.target_flow_steps or self.flow_steps


@dataclass(frozen=True)
class TrainConfig:
    """The stages of a run and how much of each."""

    offline_steps: int = setting(500_000, "updates on the demonstrations before the first episode",
                                 minimum=0)
    offline_objective: str = setting(
        "poco", "poco: the whole objective, critic included; bc: clone only, the critic starts in "
        "the warm-up", choices=("poco", "bc"))
    critic_warmup: int = setting(
        5_000, "updates of the critic alone, actor frozen, when the online stage begins",
        minimum=0)
    warmup_utd: float = setting(1.0, "updates a step during the warm-up", minimum=1e-6)
    utd: float = setting(1.0, "updates a step of the environment (update-to-data ratio)",
                         minimum=0.0)
    online_steps: int = setting(500_000, "steps of the environment in the online stage", minimum=0)
    replay_capacity: int = setting(
        2_000_000, "steps kept for learning, demonstrations included (they are never evicted)",
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
    threads: int = setting(1, "threads of torch; more than one hurts on a busy machine",
                           minimum=1)
    device: str = setting("cpu", "torch device: cpu, cuda, cuda:1, ...")
