"""Floating-point operations of one POCO update, counted from its settings.

A product of (rows, inputs) with (inputs, outputs) is 2 * rows * inputs * outputs. Everything else
(activations, LayerNorm, noise, optimisers) is a thousandth of that and left out, as it is in the
rate of the card to which the figure is held.
"""

from __future__ import annotations

from dataclasses import dataclass

from poco_ros.learning.config import PocoConfig


@dataclass(frozen=True)
class Mlp:
    """An MLP whose first layer sees a state (once a state) and something else (every row)."""

    state: int
    other: int
    width: int
    layers: int
    outputs: int

    @property
    def behind(self) -> int:
        """Multiplications a row in all layers but the first: (L - 1) H^2 + H * outputs."""
        return (self.layers - 1) * self.width ** 2 + self.width * self.outputs

    def sample(self, states: int, rows: int, times: int = 1) -> int:
        """Without gradient: the state's part once a state, the rest ``times`` times a row."""
        once = 2 * states * self.state * self.width
        return once + 2 * rows * times * (self.other * self.width + self.behind)

    def train(self, rows: int, extra: int = 0) -> int:
        """Forward, gradients of the weights (as much), and those of all inputs but the first's.

        ``extra`` inputs enter beside state and other, such as the flow time.
        """
        first = (self.state + self.other + extra) * self.width
        return 2 * rows * (2 * (first + self.behind) + self.behind)


@dataclass(frozen=True)
class UpdateFlops:
    """One whole update (critic and actor), the part of the policy apart from the critics'."""

    policy: int
    critic: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.policy + self.critic


def poco_update_flops(config: PocoConfig, observation: int, action_dim: int) -> UpdateFlops:
    """Count an update with the sum over all candidates, as it is done on a GPU."""
    chunk = config.chunk_horizon * action_dim
    flow = Mlp(observation, chunk, config.hidden_dim, config.num_layers, chunk)
    critic = Mlp(observation, chunk, config.hidden_dim, config.num_layers, 1)
    members, batch = config.num_critics, config.batch_size
    states = config.posterior_batch or batch
    candidates = states * config.num_candidates
    weighted = states if config.posterior == "draw" else candidates
    policy = (
        flow.sample(batch, batch, config.steps_for_targets)  # a' of the TD target
        + flow.train(batch, extra=1)  # behaviour cloning
        + flow.sample(states, candidates, config.steps_for_candidates)  # E-step: draw
        + flow.train(weighted, extra=1))  # M-step: the clipped loss
    critics = members * (
        critic.sample(batch, batch)  # Q' of the TD target
        + critic.train(batch)  # the TD step
        + critic.sample(states, candidates))  # E-step: weigh
    return UpdateFlops(policy, critics)
