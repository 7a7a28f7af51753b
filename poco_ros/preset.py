"""A preset: everything that defines a run, in one YAML file.

``config/*.yaml`` holds the presets that come with poco_ros. The resolved preset is saved with
every run, and a run is a function of it and of its seed.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poco_ros.core import config
from poco_ros.core.config import setting
from poco_ros.core.errors import ConfigError
from poco_ros.core.task import SIMULATED_DOMAINS, TaskConfig
from poco_ros.data.config import DemonstrationConfig
from poco_ros.learning.config import (
    AgentConfig,
    PocoConfig,
    TrainConfig,
    check_schedule,
    shared_settings,
)
from poco_ros.ros.settings import GraphConfig


@dataclass(frozen=True)
class Preset:
    """What a preset file may hold; each section has its defaults."""

    task: TaskConfig = setting(TaskConfig, "the simulated task")
    demonstrations: DemonstrationConfig = setting(
        DemonstrationConfig, "what the policy is cloned from")
    agent: AgentConfig = setting(PocoConfig, "networks and objectives")
    train: TrainConfig = setting(TrainConfig, "stages and schedule")
    graph: GraphConfig = setting(GraphConfig, "how the ROS graph runs")

    def __post_init__(self) -> None:
        check_schedule(self.agent, self.train)


def preset_folders() -> list[Path]:
    """Return where presets are looked for: a checkout's ``config/``, then the installed share."""
    checkout = Path(__file__).resolve().parent.parent / "config"
    installed = Path(sysconfig.get_path("data")) / "share" / "poco_ros" / "config"
    folders = [checkout, installed]
    folders += [parent / "share" / "poco_ros" / "config"
                for parent in Path(__file__).resolve().parents]
    return [folder for folder in folders if folder.is_dir()]


def find_preset(name: str | Path) -> Path:
    """Return the file of a preset, given by path or by name (``cpu_cube_single``).

    Raises:
        ConfigError: there is none; the known names are listed.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        if Path(name).is_file():
            return Path(name)
    for folder in preset_folders():
        for path in (folder / f"{name}.yaml", folder / str(name)):
            if path.is_file():
                return path
    known = sorted({path.stem for folder in preset_folders() for path in folder.glob("*.yaml")})
    raise ConfigError(f"no preset {str(name)!r}: neither a file nor one of {', '.join(known)}")


def domain_preset(domain: str) -> str:
    """Return the name of the preset that a domain is tried with on a CPU."""
    return f"cpu_{domain.replace('-', '_')}"


def domains_with_preset() -> tuple[str, ...]:
    """Return the simulated domains that have a :func:`domain_preset`; of others one is named."""
    return tuple(domain for domain in SIMULATED_DOMAINS
                 if any((folder / f"{domain_preset(domain)}.yaml").is_file()
                        for folder in preset_folders()))


def find_settings(name: str | Path) -> Path:
    """Return a file of settings, given by path or by its name below ``config/``.

    Raises:
        ConfigError: there is none.
    """
    for path in (Path(name), *(folder / name for folder in preset_folders())):
        if path.is_file():
            return path.resolve()
    raise ConfigError(f"no settings {str(name)!r}: neither a file nor one below"
                      f" {' or '.join(map(str, preset_folders()))}")


def load_preset(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Preset:
    """Load a preset by name or path, with ``overrides`` (nested: ``{"train": {"utd": 1.0}}``).

    Overrides that name another algorithm than the preset keep of its ``agent`` section what that
    algorithm knows too.

    Raises:
        ConfigError: no such preset, unknown key, wrong type or range; file and key are named.
    """
    path = find_preset(name)
    values = config.read_yaml(path)
    over = dict(overrides or {})
    algorithm = over.get("agent", {}).get("algorithm")
    if algorithm is not None and isinstance(values.get("agent"), Mapping):
        values["agent"] = shared_settings(values["agent"], algorithm)
    return config.from_dict(Preset, config.merge(values, over), str(path))
