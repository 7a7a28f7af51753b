"""One thread for the products of small matrices.

BLAS splits even the product of a vector with a 128 x 128 matrix over all cores. Its threads then
wait for each other by spinning: where another program has one of the cores, a chunk takes 4 ms in
place of 0.2. A process that acts has nothing to split.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What OpenMP, OpenBLAS, MKL and numba read when they are loaded."""


def one_thread(environment: MutableMapping[str, str] = os.environ) -> None:
    """Say so in ``environment``, unless it says something else; before numpy is imported."""
    for name in VARIABLES:
        environment.setdefault(name, "1")
