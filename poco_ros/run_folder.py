"""The folder of a run: what is in it and under which names.

::

    config.yaml        the resolved preset
    run.json           seed, command, git revision, versions, host
    episodes/          online episodes, one file each, in order
    checkpoint/        the newest training checkpoint
    policies/          acting policies: cloned, steps-000002500, ..., latest
    policies.csv       after how many steps, updates and minutes each was had
    metrics.csv        a row every `log_every` updates
    evaluations.csv    a row an evaluation
    tensorboard/
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from poco_ros import __version__
from poco_ros.core import config
from poco_ros.core.config import load
from poco_ros.core.errors import CheckpointError, ConfigError
from poco_ros.core.files import LATEST, write_atomic
from poco_ros.core.tables import read_rows, write_rows
from poco_ros.learning.config import AgentConfig
from poco_ros.learning.policies import Policy, policy_from_bytes
from poco_ros.preset import Preset

CLONED, FINETUNED = "cloned", "finetuned"
"""Names of the policies before the first and after the last step of the online stage."""
EVALUATION_SEED = 0
"""Of the evaluations that a run makes of itself; ``poco eval --seed`` makes others."""
RATES = ("lr", "actor_lr", "value_lr")
"""Settings of an agent that may be others when a run goes on."""
KEPT_COLUMNS = ("policy", "updates", "environment_steps", "minutes")
EVALUATION_COLUMNS = ("policy", "environment_steps", "updates", "minutes", "successes",
                      "episodes", "success_rate", "seed")


def snapshot_name(environment_steps: int) -> str:
    """Return the name of the policy that has learned from so many online steps."""
    return f"steps-{environment_steps:09d}"


def steps_of(name: str) -> int | None:
    """Return the steps of a snapshot's name, None for any other policy."""
    digits = name.removeprefix("steps-")
    return int(digits) if name != digits and digits.isdigit() else None


@dataclass(frozen=True)
class Kept:
    """When a run had a policy: after so many updates and steps of the environment, and minutes."""

    updates: int
    environment_steps: int
    minutes: float


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and the small files in it."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved preset."""
        return self.path / "config.yaml"

    @property
    def episodes(self) -> Path:
        """Folder of the online episodes."""
        return self.path / "episodes"

    @property
    def checkpoint(self) -> Path:
        """Folder of the training checkpoint."""
        return self.path / "checkpoint"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a training checkpoint to go on from."""
        return (self.checkpoint / LATEST).exists()

    @property
    def metrics(self) -> Path:
        """Table of the metrics."""
        return self.path / "metrics.csv"

    @property
    def policies(self) -> Path:
        """Folder of the acting policies."""
        return self.path / "policies"

    @property
    def evaluations(self) -> Path:
        """Table of the evaluations."""
        return self.path / "evaluations.csv"

    def begin(self, preset: Preset, seed: int, started_from: str = "") -> None:
        """Write what defines the run; a folder that holds another run is refused.

        ``started_from`` is the policy that a new run begins with; see :meth:`started_from`.

        Raises:
            ConfigError: see :meth:`check`.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.check(preset, seed)
        if not self.config.exists():
            write_atomic(self.path / "run.json",
                         json.dumps({"seed": seed, "started_from": started_from and
                                     str(Path(started_from).resolve()), **provenance()},
                                    indent=1) + "\n")
        # Last: a folder with this file is one that has been begun, and has the other as well.
        write_atomic(self.config, config.to_yaml(preset))

    def check(self, preset: Preset, seed: int) -> None:
        """Refuse a folder that holds another run.

        Learning rates may differ: a run that diverged goes on with lower ones. So may the place of
        the demonstrations: its checkpoint knows what they were.

        Raises:
            ConfigError: the folder was begun with other settings or another seed.
        """
        if not self.config.exists():
            return
        before = self.load_preset()
        moved = dataclasses.replace(before.demonstrations, path=preset.demonstrations.path)
        if before.task != preset.task or moved != preset.demonstrations or \
                with_rates_of(before.agent, preset.agent) != preset.agent:
            raise ConfigError(f"{self.path}: holds a run with other settings (compare"
                              f" {self.config}); name another run folder")
        if self.seed() != seed:
            raise ConfigError(f"{self.path}: holds a run with seed {self.seed()}, not {seed};"
                              " name another run folder")

    def load_preset(self) -> Preset:
        """Return the preset that the run was begun with."""
        return load(Preset, self.config)

    def seed(self) -> int:
        """Return the seed that the run was begun with."""
        return int(json.loads((self.path / "run.json").read_text())["seed"])

    def started_from(self) -> str:
        """Return the policy that the run was begun with; empty: it has an offline stage."""
        return str(json.loads((self.path / "run.json").read_text()).get("started_from", ""))

    def save_policy(self, policy: Policy, name: str) -> Path:
        """Write an acting policy (atomic) and return its path."""
        path = self.policies / f"{name}.safetensors"
        write_atomic(path, policy.to_bytes())
        return path

    def load_policy(self, name: str) -> Policy:
        """Read an acting policy by name; CheckpointError when it is broken."""
        path = self.policies / f"{name}.safetensors"
        return policy_from_bytes(path.read_bytes(), str(path))

    def note(self, name: str, kept: Kept) -> None:
        """Say when the run had the policy ``name``; what was said of the same one before stays.

        A run that was killed comes to the same policy again, later than it had it.
        """
        known = self.read_kept()
        before = known.get(name)
        if before and (before.updates, before.environment_steps) == (
                kept.updates, kept.environment_steps):
            return
        write_rows(self.path / "policies.csv", KEPT_COLUMNS, [
            {"policy": policy, "updates": one.updates, "minutes": f"{one.minutes:.3f}",
             "environment_steps": one.environment_steps}
            for policy, one in sorted({**known, name: kept}.items(),
                                      key=lambda item: item[1].environment_steps)])

    def read_kept(self) -> dict[str, Kept]:
        """Return when the run had which policy; runs of an earlier version did not note it."""
        return {row["policy"]: Kept(int(row["updates"]), int(row["environment_steps"]),
                                    float(row["minutes"]))
                for row in read_rows(self.path / "policies.csv")}

    def add_evaluation(self, row: dict[str, object]) -> None:
        """Add a row to the table of evaluations.

        The same policy, seed and number of episodes replace their row.
        """
        new = {key: str(row[key]) for key in EVALUATION_COLUMNS}
        rows = [known for known in self.read_evaluations()
                if any(known[key] != new[key] for key in ("policy", "seed", "episodes"))]
        rows.append(new)
        rows.sort(key=lambda r: int(r["environment_steps"]))
        write_rows(self.evaluations, EVALUATION_COLUMNS, rows)

    def read_evaluations(self) -> list[dict[str, str]]:
        """Return the rows of the table of evaluations, by steps."""
        return read_rows(self.evaluations)


def with_rates_of(agent: AgentConfig, other: AgentConfig) -> AgentConfig:
    """Return ``agent`` with the learning rates of ``other``, if they have the same ones."""
    rates = {name: getattr(other, name) for name in RATES
             if hasattr(agent, name) and hasattr(other, name)}
    return dataclasses.replace(agent, **rates)


def read_policy(path: str | Path) -> tuple[Policy, str]:
    """Return a policy and its source, from a policy file or from a run folder.

    Raises:
        CheckpointError: there is none, or it is broken.
    """
    found = Path(path)
    if found.is_dir():
        found = found / "policies" / "latest.safetensors"
    if not found.is_file():
        raise CheckpointError(f"{path}: no policy there; give a .safetensors file of a policy or"
                              " the folder of a run")
    return policy_from_bytes(found.read_bytes(), str(found)), str(found)


def provenance() -> dict[str, object]:
    """Return what else decides a result: code, versions, command, machine."""
    return {
        "poco_ros": __version__,
        "git_revision": git_revision(),
        "command": sys.argv,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in
                     ("torch", "numpy", "mujoco", "ogbench", "robosuite")},
        "machine": platform.machine(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def git_revision() -> str:
    """Return the revision of the checkout, with ``+changes`` when it differs; else ``unknown``."""
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(["git", "describe", "--always", "--abbrev=40", "--dirty=+changes"],
                               cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
