"""Benchmarks; ``python -m benchmarks`` runs them."""

from poco_ros.core.threads import one_thread

one_thread()  # as the processes that are measured; torch is told its threads where it matters
