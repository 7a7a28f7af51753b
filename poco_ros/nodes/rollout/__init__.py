"""The node that owns the episode: it begins it, asks for its chunks, joins it and hands it over.

In lock-step, episode e acts with exactly the weights that have learned from all episodes before
e - ``sync_lag``, and its reset and all of its noise derive from the run's seed and e. With a lag
of 1 the learner trains on episode e - 1 while episode e runs, and what is learned is still a
function of the seed. An attempt that a fault interrupts is dropped and made again under the same
number, so faults do not change it either. Free running (lag -1) takes the newest weights at every
chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

from poco_ros.nodes.rollout.node import Rollout
from poco_ros.ros.node import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; return its exit code."""
    return run(Rollout, arguments)
