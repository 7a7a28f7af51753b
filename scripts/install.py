"""Run pip with one line of progress in place of a thousand; its whole output goes to a log.

    python scripts/install.py LOG [arguments of `pip install` ...]

Runs before anything is installed: standard library only. What pip says is shown when it fails.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
BAR = 30
TELL_EVERY = 15.0
"""Seconds between two lines where the output is not a terminal."""
TAIL = 40
"""Lines of the log that are shown after a failure."""
UNITS = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}
SIZE = re.compile(r"\((\d+(?:\.\d+)?) ([kMG]B)\)")


class Progress:
    """Counts what pip has found, against the pins that there are."""

    def __init__(self) -> None:
        names = {line.partition("==")[0] for line in CONSTRAINTS.read_text().splitlines()
                 if "==" in line}
        self.total, self.found, self.megabytes, self.installing = len(names), 0, 0.0, False
        self._told = time.monotonic()

    def hear(self, line: str) -> None:
        """Take a line of pip's output."""
        if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ")):
            self.found += 1
        elif line.lstrip().startswith("Downloading "):
            size = SIZE.search(line)
            if size:
                self.megabytes += float(size[1]) * UNITS[size[2]]
        elif line.startswith("Installing collected packages"):
            self.installing = True
        now = time.monotonic()
        if sys.stdout.isatty():
            print("\r\033[K" + self.line(), end="", flush=True)
        elif now - self._told > TELL_EVERY:
            self._told = now
            print(self.line(), flush=True)

    def line(self) -> str:
        """Return where it stands."""
        if self.installing:
            return f"  installing {self.found} packages, {self.megabytes / 1e3:.1f} GB fetched"
        done = min(BAR, BAR * self.found // self.total)
        return (f"  [{'=' * done}{' ' * (BAR - done)}] {self.found} packages of about"
                f" {self.total}, {self.megabytes / 1e3:.1f} GB fetched")


def main() -> int:
    """Install; return pip's exit code."""
    log, arguments = Path(sys.argv[1]), sys.argv[2:]
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check",
               "--no-warn-conflicts", "--progress-bar", "off", *arguments]
    begun, progress = time.monotonic(), Progress()
    with open(log, "w") as stream, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            stream.write(line)
            progress.hear(line)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if pip.returncode:
        print("".join(log.read_text().splitlines(keepends=True)[-TAIL:]))
        print(f"pip failed; all that it said is in {log}. What was fetched is kept: the same make"
              " goes on from there")
        return pip.returncode
    print(f"  {progress.found} packages in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
