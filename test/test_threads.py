"""Processes that act do their small products in one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from poco_ros.core.threads import VARIABLES, one_thread

ROOT = Path(__file__).resolve().parent.parent


def test_what_the_user_says_stays() -> None:
    environment = {"OMP_NUM_THREADS": "4"}
    one_thread(environment)
    assert environment == {**dict.fromkeys(VARIABLES, "1"), "OMP_NUM_THREADS": "4"}


def test_a_node_says_so_before_numpy_is_imported() -> None:
    """BLAS reads it when it is loaded, so nothing on the way to a node may have loaded it."""
    program = ("import os, sys; from poco_ros.cli import node\n"
               "assert 'numpy' not in sys.modules\n"
               "class Module:\n"
               "    main = staticmethod(lambda: print(os.environ['OPENBLAS_NUM_THREADS']) or 0)\n"
               "node.importlib.import_module = lambda name: Module\n"
               "sys.exit(node.start('policy_server'))\n")
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          text=True, env={**environment, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
