"""The whole update on the device, on a GPU as one captured graph a phase.

Drawing, gathering, normalising, critic, candidates, weights, clipped loss, backward, optimisers,
target networks and the sums of the metrics are some hundred kernels, most of them so short that
launching them one by one would take longer than they do. A CUDA graph launches all at once.

What a graph asks for: the same memory, shapes and kernels every time, and no word from the host
in between. So the replay lies on the device (:mod:`.device_replay`), agents have
``static_shapes``, optimisers are capturable, and metrics are summed in tensors that the host
reads now and then. Capturing needs a few real updates first, which make the optimisers' state and
what libraries allocate lazily; all that they changed is put back, so a captured run is the
uncaptured one.

The same object without graphs (``captured=False``) runs the same operations one by one, on any
device; that is how the tests hold it against the plain update.
"""

from __future__ import annotations

import gc
import warnings
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from poco_ros.core.errors import ConfigError
from poco_ros.learning.agents.base import Agent, Phase
from poco_ros.learning.config import TrainConfig
from poco_ros.learning.device_replay import DeviceReplay
from poco_ros.learning.experience import Experience, ReplayExperience
from poco_ros.learning.networks import ChunkCritic, ChunkField, Fuse
from poco_ros.learning.replay import Replay
from poco_ros.learning.side import SideStream
from poco_ros.learning.updater import DivergedError, HostUpdater, Updater, diverged

WARM_UPS = 3
"""Updates before a capture; torch's documentation does as many."""


class DeviceUpdater(Updater):
    """See the module."""

    def __init__(self, agent: Agent, replay: Replay, train: TrainConfig, captured: bool) -> None:
        """Take over ``agent``: its updates have static shapes from here on."""
        self.agent, self.captured = agent, captured
        self.replay = DeviceReplay(replay, agent.device)
        self._precision, self._read_every = train.precision, train.log_every
        self._sums = DeviceSums(agent.METRICS, agent.device)
        self._late = dict.fromkeys(agent.METRICS, 0.0)
        self._number = self._unread = 0  # of the last update; updates since sums were read
        self._failure: DivergedError | None = None
        self._graphs: dict[Phase, torch.cuda.CUDAGraph] = {}
        self._generation = 0  # of the replay, for which the graphs were captured
        self._stream = torch.cuda.Stream(agent.device) if captured else None
        make_static(agent, train.precision)
        if agent.device.type == "cuda":
            # Many short kernels: behind the long ones they would end last.
            agent.side = SideStream(agent.device, priority=-1)
        if captured:
            make_capturable(agent)
        if train.compiled:
            fuse(*parts_of(agent), agent, self.replay, self._sums)

    def update(self, phase: Phase, number: int) -> dict[str, float]:
        """Start update number ``number``; wait for it only when the sums are read after it."""
        self.replay.bring()
        if self.captured:
            self._graph_of(phase).replay()
        else:
            self._set_precision()
            self._step(phase)
        self._number, self._unread = number, self._unread + 1
        if self._unread >= self._read_every:
            self.check()
        return {}

    def late_metrics(self) -> dict[str, float]:
        """Read what has been summed, and return the sums since the last call."""
        self.check()
        found, self._late = self._late, dict.fromkeys(self.agent.METRICS, 0.0)
        return found

    def check(self) -> None:
        """Wait for all updates that were started, and read the sums."""
        if self._failure is None and self._unread:
            sums, strange = self._sums.take()
            if strange:
                first = min(strange.values())
                self._failure = diverged(self._number - self._unread + first,
                                         [name for name, at in strange.items() if at == first])
            for name, value in sums.items():
                self._late[name] += value
            self._unread = 0
        if self._failure is not None:
            raise self._failure

    def forget(self) -> None:
        """Capture anew before the next update of each phase."""
        if self._graphs:
            torch.cuda.synchronize(self.agent.device)  # one may still run
            self._graphs.clear()
        self._failure = None

    def _step(self, phase: Phase) -> None:
        """The update: nothing in here waits for the device or depends on what is in it."""
        config, generator = self.agent.config, self.agent.generator
        starts = self.replay.draw(generator, config.batch_size, config.offline_share)
        chunks = self.replay.chunks(starts, config.chunk_horizon, config.gamma)
        self._sums.add(self.agent.update(self.agent.tensors(chunks), phase))

    # -- capturing ----------------------------------------------------------------------------

    def _graph_of(self, phase: Phase) -> torch.cuda.CUDAGraph:
        if self._generation != self.replay.generation:
            self.forget()
            self._generation = self.replay.generation
        if phase not in self._graphs:
            self._graphs[phase] = self._capture(phase)
        return self._graphs[phase]

    def _capture(self, phase: Phase) -> torch.cuda.CUDAGraph:
        """Return the graph of one update; nothing has changed for having captured it."""
        self._set_precision()
        saved = Saved(self.agent, self._sums)
        current = torch.cuda.current_stream(self.agent.device)
        stream = cast(torch.cuda.Stream, self._stream)
        stream.wait_stream(current)
        with torch.cuda.stream(stream), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*capturable=True.*")  # soon it is captured
            for _ in range(WARM_UPS):
                self._step(phase)
        current.wait_stream(stream)
        saved.restore()
        # Where there are no gradients, backward makes them in the graph's own memory.
        clear_gradients(self.agent)
        gc.collect()  # nothing of another graph may be freed while this one is captured
        graph = torch.cuda.CUDAGraph()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # later releases do it by themselves
            graph.register_generator_state(self.agent.generator)
        try:
            with torch.cuda.graph(graph, stream=stream):
                self._step(phase)
        except RuntimeError as error:
            raise ConfigError(
                f"the {phase.value} update of {self.agent.config.algorithm} cannot be captured as"
                f" a CUDA graph ({error}); set train.captured to false to run it kernel by kernel,"
                " and please report this") from error
        clear_gradients(self.agent)
        self.agent.generator.set_state(saved.generator)
        return graph

    def _set_precision(self) -> None:
        """Say how float32 products are done; a captured graph keeps what held at its capture."""
        if self.agent.device.type == "cuda":
            torch.set_float32_matmul_precision(
                "highest" if self._precision == "fp32" else "high")


class DeviceSums:
    """Sums of metrics on the device, and which update first made each of them not finite."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.names = names
        self.tensors = (torch.zeros(len(names), dtype=torch.float64, device=device),
                        torch.zeros(len(names), dtype=torch.float64, device=device),
                        torch.zeros((), dtype=torch.float64, device=device))
        """Sums; numbers of the first update that was not finite, 0 = none; updates so far."""
        self._zero = torch.zeros((), device=device)

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Take the metrics of one update; those that it does not report count as 0."""
        unknown = set(metrics) - set(self.names)
        if unknown:
            raise KeyError(f"metrics {sorted(unknown)} are not among the agent's METRICS")
        self._add(*self.tensors, [metrics.get(name, self._zero) for name in self.names])

    def fuse(self, compiled: Fuse) -> None:
        """Have the sums compiled."""
        self._add = compiled(self._add)  # type: ignore[method-assign]

    @staticmethod
    def _add(sums: Tensor, first: Tensor, count: Tensor, metrics: list[Tensor]) -> None:
        values = torch.stack([metric.reshape(()).float() for metric in metrics])
        count.add_(1.0)
        sums.add_(values)
        strange = ~torch.isfinite(values) & (first == 0.0)
        first.add_(strange * count)

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """Return the sums, and what was not finite with the number of the update; start anew."""
        host = torch.cat([self.tensors[0], self.tensors[1]]).tolist()
        for tensor in self.tensors:
            tensor.zero_()
        count = len(self.names)
        strange = {name: int(at) for name, at in zip(self.names, host[count:], strict=True) if at}
        return dict(zip(self.names, host[:count], strict=True)), strange


class Saved:
    """All that an update changes, kept aside, to be put back in place."""

    def __init__(self, agent: Agent, sums: DeviceSums) -> None:
        self._agent = agent
        tensors = [*sums.tensors]
        for module in agent.modules().values():
            tensors += [*module.parameters(), *module.buffers()]
        tensors += optimizer_tensors(agent)
        self._kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self.generator = agent.generator.get_state()

    @torch.no_grad()
    def restore(self) -> None:
        """Put all back. What an optimiser has made since begins at zero, as when it is made."""
        known = {id(tensor) for tensor, _ in self._kept}
        for tensor in optimizer_tensors(self._agent):
            if id(tensor) not in known:
                tensor.zero_()
        for tensor, value in self._kept:
            tensor.copy_(value)
        self._agent.generator.set_state(self.generator)


def optimizer_tensors(agent: Agent) -> list[Tensor]:
    """Return the tensors of all optimisers' states."""
    return [value for optimizer in agent.optimizers().values()
            for slots in optimizer.state.values() for value in slots.values()
            if isinstance(value, Tensor)]


def clear_gradients(agent: Agent) -> None:
    """Drop all gradients."""
    for module in agent.modules().values():
        module.zero_grad(set_to_none=True)


def parts_of(agent: Agent) -> list[torch.nn.Module]:
    """Return all networks, and those that they are made of."""
    return [part for module in agent.modules().values() for part in module.modules()]


def make_static(agent: Agent, precision: str) -> None:
    """Give ``agent`` static shapes, big batches, and with ``bf16`` a policy in bfloat16.

    The critics stay in float32: their Q is divided by a temperature of a thousandth, and bfloat16
    has three digits.
    """
    agent.static_shapes = True
    for part in parts_of(agent):
        if isinstance(part, (ChunkField, ChunkCritic)):
            part.whole = True
        if isinstance(part, ChunkField):
            part.product_dtype = torch.bfloat16 if precision == "bf16" else None


def make_capturable(agent: Agent) -> None:
    """Let the optimisers keep their step counts on the GPU only."""
    for optimizer in agent.optimizers().values():
        for group in optimizer.param_groups:
            group["capturable"] = True


def fuse(*parts: object) -> None:
    """Compile what ``parts`` offer for it."""
    compiled = cast(Fuse, partial(torch.compile, fullgraph=True, dynamic=False))
    for part in parts:
        offered = getattr(part, "fuse", None)
        if offered is not None:
            offered(compiled)


def make_updater(agent: Agent, experience: Experience, train: TrainConfig,
                 generator: np.random.Generator) -> Updater:
    """Return what carries out the updates: on a GPU all of it there, if there is a replay."""
    if agent.device.type == "cuda" and isinstance(experience, ReplayExperience):
        return DeviceUpdater(agent, experience.replay, train, train.captured)
    return HostUpdater(agent, experience, generator)
