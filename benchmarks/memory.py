"""Memory of the whole ``sim_scene`` graph: the launcher and every node, while it learns.

The figure is the peak of the sum of resident memory over all processes of the graph; pages that
they share count once for each, so it is an upper bound.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.graph import isolate

PAGE = 4096


def family(root: int) -> list[int]:
    """Return ``root`` and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(entry.name)] = int(words[1])
    found = [root]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def resident(processes: list[int]) -> int:
    """Return the sum of resident memory [bytes]."""
    total = 0
    for process in processes:
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
        except OSError:
            continue
    return total


def main() -> int:
    """Print the peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cpu_cube_single")
    parser.add_argument("--episodes", type=int, default=25, help="measure until so many are made")
    args = parser.parse_args()
    isolate()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        graph = subprocess.Popen(
            [sys.executable, "-m", "poco_ros.cli.main", "launch", "sim_scene", "--manager", "poco",
             f"preset:={args.preset}", f"run_dir:={run_dir}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        peak, end = 0, time.monotonic() + 400.0
        try:
            while len(list((run_dir / "episodes").glob("*.safetensors"))) < args.episodes:
                if graph.poll() is not None or time.monotonic() > end:
                    print("the graph made no episodes", file=sys.stderr)
                    return 1
                peak = max(peak, resident(family(graph.pid)))
                time.sleep(0.1)
        finally:
            graph.send_signal(signal.SIGINT)
            graph.wait(timeout=75)
    print(f"RESULT graph_rss_gib={peak / 2**30:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
