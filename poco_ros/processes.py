"""How the process of a node is kept, whoever keeps it: ``launch_ros`` or ``poco launch``."""

from __future__ import annotations

import shutil

REFUSED = 2
"""Exit code of a node that refuses its settings: starting it again would not help."""
STOP_PATIENCE = 60.0
"""How long a node may take to save after SIGINT before stronger means [s]."""
RESPAWN_DELAY = 1.0
"""Pause before a node that died is started again [s]."""
LEARNER_NICENESS = 10
"""Keeps ticks and chunks on time beside a learner that uses every core it finds."""


def process_prefix(nice: int = 0) -> list[str]:
    """Return the command that comes before a node's: its niceness, and how it is tied to us.

    ``setpriv`` asks the kernel to send SIGINT to the node when whoever started it dies, even by
    SIGKILL; the node then saves and exits instead of being left behind. Neither changes the
    process id: each replaces itself by what follows.
    """
    prefix = []
    if shutil.which("setpriv"):
        prefix += ["setpriv", "--pdeathsig", "INT"]
    if nice:
        prefix += ["nice", "-n", str(nice)]
    return prefix
