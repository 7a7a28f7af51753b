"""Benchmarks; ``python -m benchmarks`` runs them."""

from poco_ros.core.threads import one_thread

SKIPPED = 77
"""Exit code of a benchmark that could not measure here, as of a skipped test of automake's."""

one_thread()  # as the processes that are measured; torch is told its threads where it matters
