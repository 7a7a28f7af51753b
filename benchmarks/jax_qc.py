"""Q-chunking (arXiv 2507.07969) in plain JAX: what the public implementation does in an update.

Written from the publication and its published settings: two critics with LayerNorm, a cloned flow,
10 Euler steps, the best of 32 candidates by the online critics for the TD target, one Adam over
the sum of both losses. The whole of an update is one jitted function, and ``utd`` updates are
scanned in one call, so that nothing of Python stands between them.

As a program it serves :mod:`benchmarks.update_jax`: it reads a number of updates a line and
answers with the milliseconds that each took.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = Any
EPS = 1e-5


class Sizes(NamedTuple):
    """What is given by the task and the publication."""

    observation: int = 40
    chunk: int = 25
    width: int = 512
    layers: int = 4
    members: int = 2
    candidates: int = 32
    flow_steps: int = 10
    batch: int = 256
    horizon: int = 5
    lr: float = 3e-4
    gamma: float = 0.99
    tau: float = 0.005


class State(NamedTuple):
    """What an update changes."""

    params: Params
    target_critic: Params
    first: Params
    second: Params
    count: jax.Array
    key: jax.Array


def init_mlp(key: jax.Array, inputs: int, sizes: Sizes, outputs: int) -> Params:
    """Return weight and bias of every layer."""
    widths = [inputs, *[sizes.width] * sizes.layers, outputs]
    keys = jax.random.split(key, len(widths) - 1)
    return [{"w": jax.random.uniform(k, (i, o), minval=-1.0, maxval=1.0) / jnp.sqrt(i),
             "b": jnp.zeros(o)} for k, i, o in zip(keys, widths[:-1], widths[1:], strict=True)]


def init(seed: int, sizes: Sizes) -> State:
    """Return fresh networks and optimiser."""
    key, for_actor, *for_critics = jax.random.split(jax.random.PRNGKey(seed), 2 + sizes.members)
    inputs = sizes.observation + sizes.chunk

    def critic(k: jax.Array) -> Params:
        norm = {"scale": jnp.ones(sizes.width), "shift": jnp.zeros(sizes.width)}
        return {"layers": init_mlp(k, inputs, sizes, 1), "norms": [norm] * sizes.layers}

    critics = jax.vmap(critic)(jnp.stack(for_critics))
    params = {"actor": init_mlp(for_actor, inputs + 1, sizes, sizes.chunk), "critic": critics}
    zeros = jax.tree.map(jnp.zeros_like, params)
    return State(params, jax.tree.map(jnp.copy, critics), zeros,
                 jax.tree.map(jnp.zeros_like, params), jnp.zeros(()), key)


def velocity(actor: Params, observations: jax.Array, chunks: jax.Array,
             times: jax.Array) -> jax.Array:
    """Return the flow's velocities (B, C)."""
    x = jnp.concatenate([observations, chunks, times], axis=-1)
    for layer in actor[:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
    return x @ actor[-1]["w"] + actor[-1]["b"]


def q_of_member(critic: Params, observations: jax.Array, chunks: jax.Array) -> jax.Array:
    """Return one critic's Q (B,)."""
    x = jnp.concatenate([observations, chunks], axis=-1)
    for layer, norm in zip(critic["layers"][:-1], critic["norms"], strict=True):
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        x = centred * jax.lax.rsqrt(variance + EPS) * norm["scale"] + norm["shift"]
    return (x @ critic["layers"][-1]["w"] + critic["layers"][-1]["b"])[..., 0]


q_of_all = jax.vmap(q_of_member, in_axes=(0, None, None))


def carry(actor: Params, observations: jax.Array, noise: jax.Array, steps: int) -> jax.Array:
    """Return chunks (B, C) in [-1, 1] after ``steps`` Euler steps from noise (B, C)."""
    chunks = noise
    for step in range(steps):
        times = jnp.full((len(noise), 1), step / steps)
        chunks = chunks + velocity(actor, observations, chunks, times) / steps
    return jnp.clip(chunks, -1.0, 1.0)


def best_of_n(params: Params, observations: jax.Array, key: jax.Array,
              sizes: Sizes) -> jax.Array:
    """Return the candidate (B, C) with the highest mean Q of the online critics."""
    count = sizes.candidates
    rows = jnp.repeat(observations, count, axis=0)
    noise = jax.random.normal(key, (len(rows), sizes.chunk))
    chunks = carry(params["actor"], rows, noise, sizes.flow_steps)
    q = q_of_all(params["critic"], rows, chunks).mean(axis=0).reshape(-1, count)
    chunks = chunks.reshape(-1, count, sizes.chunk)
    return jnp.take_along_axis(chunks, q.argmax(axis=1)[:, None, None], axis=1)[:, 0]


def losses(params: Params, batch: dict[str, jax.Array], targets: jax.Array, key: jax.Array,
           sizes: Sizes) -> jax.Array:
    """Return the critics' TD loss plus the flow's loss on the batch's chunks."""
    q = q_of_all(params["critic"], batch["observations"], batch["chunks"])
    critic_loss = (jnp.square(q - targets) * batch["valid"]).mean()
    for_noise, for_times = jax.random.split(key)
    noise = jax.random.normal(for_noise, batch["chunks"].shape)
    times = jax.random.uniform(for_times, (sizes.batch, 1))
    along = (1.0 - times) * noise + times * batch["chunks"]
    found = velocity(params["actor"], batch["observations"], along, times)
    squared = jnp.square(found - (batch["chunks"] - noise)).mean(axis=-1)
    return critic_loss + (squared * batch["valid"]).mean()


def update(sizes: Sizes, state: State, batch: dict[str, jax.Array]) -> tuple[State, jax.Array]:
    """One update of critics, actor and target critics."""
    key, for_candidates, for_loss = jax.random.split(state.key, 3)
    following = best_of_n(state.params, batch["next_observations"], for_candidates, sizes)
    next_q = q_of_all(state.target_critic, batch["next_observations"], following).mean(axis=0)
    discount = sizes.gamma ** sizes.horizon
    targets = jax.lax.stop_gradient(batch["rewards"] + discount * batch["masks"] * next_q)
    loss, gradients = jax.value_and_grad(losses)(state.params, batch, targets, for_loss, sizes)
    count = state.count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state.second, gradients)
    rate = sizes.lr * jnp.sqrt(1.0 - 0.999 ** count) / (1.0 - 0.9 ** count)
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), state.params,
                          first, second)
    target = jax.tree.map(lambda t, p: t + sizes.tau * (p - t), state.target_critic,
                          params["critic"])
    return State(params, target, first, second, count, key), loss


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def updates(sizes: Sizes, state: State, batches: dict[str, jax.Array]) -> tuple[State, jax.Array]:
    """As many updates as ``batches`` has on its first axis, in one call; return their losses."""
    return jax.lax.scan(partial(update, sizes), state, batches)


def random_batches(sizes: Sizes, count: int) -> dict[str, jax.Array]:
    """Return ``count`` random batches on the device."""
    keys = jax.random.split(jax.random.PRNGKey(1), 4)
    shape = (count, sizes.batch)
    ones = jnp.ones(shape)
    return {
        "observations": jax.random.normal(keys[0], (*shape, sizes.observation)),
        "chunks": jax.random.uniform(keys[1], (*shape, sizes.chunk), minval=-1.0, maxval=1.0),
        "next_observations": jax.random.normal(keys[2], (*shape, sizes.observation)),
        "rewards": jax.random.bernoulli(keys[3], 0.02, shape).astype(jnp.float32),
        "masks": ones, "valid": ones}


def serve(utd: int, sizes: Sizes, clock: str) -> None:
    """Compile, say on what; then, for each number of updates that comes in, how long one took.

    ``clock`` is a function of the module ``time``.
    """
    now = getattr(time, clock)
    state, batches = init(0, sizes), random_batches(sizes, utd)
    state, found = updates(sizes, state, batches)
    jax.block_until_ready(found)
    device = jax.devices()[0]
    print(json.dumps({"jax": jax.__version__, "platform": device.platform,
                      "device": device.device_kind}), flush=True)
    for line in sys.stdin:
        calls = max(1, int(line) // utd)
        begun = now()
        for _ in range(calls):
            state, found = updates(sizes, state, batches)
        jax.block_until_ready((state, found))
        print(1e3 * (now() - begun) / (calls * utd), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Sizes(**json.loads(sys.argv[2])), sys.argv[3])
