"""Settings of demonstrations: where they come from, and how they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poco_ros.core.config import setting
from poco_ros.core.robomimic import ROBOMIMIC_TASKS

AUTOMATIC = Path("auto")
COLLECTED_DOMAINS = ("cube-single", "cube-double", "cube-triple", "scene", "puzzle-3x3")


@dataclass(frozen=True)
class PlayConfig:
    """OGBench's play data, made again with its own oracles and settings."""

    domain: str = setting("scene", "domain of OGBench", choices=COLLECTED_DOMAINS)
    num_trajs: int = setting(1000, "trajectories for training; a tenth more for validation. "
                             "OGBench has 1,000, for cube-triple 3,000", minimum=1)
    trajectory_steps: int = setting(1001, "rows of a trajectory", minimum=2)
    noise: float = setting(0.1, "noise on the oracle's plan, relative to one action", minimum=0.0)
    noise_smoothing: float = setting(0.5, "width of the Gaussian that smooths this noise over "
                                     "time", unit="steps", minimum=0.0)
    seed: int = setting(0, "seed; the data are a function of it", minimum=0)


@dataclass(frozen=True)
class RobomimicConfig:
    """Demonstrations of RoboMimic's tasks by six scripted operators of different skill."""

    task: str = setting("lift", "RoboMimic's task", choices=tuple(ROBOMIMIC_TASKS))
    num_trajs: int = setting(300, "demonstrations; robomimic's multi-human sets have 300",
                             minimum=1)
    noise: float = setting(0.2, "noise on the operators' steps, relative to one action; it scales"
                           " their mistakes too, and 0 makes none", minimum=0.0)
    noise_smoothing: float = setting(2.0, "width of the Gaussian that smooths this noise over "
                                     "time", unit="steps", minimum=0.0)
    attempts: int = setting(4, "times that an operator takes the object, after misses and slips, "
                            "before giving up", minimum=1)
    keep_failures: bool = setting(False, "keep demonstrations that miss the goal; robomimic's by "
                                  "people have none")
    valid_share: float = setting(0.1, "share of the demonstrations in the filter key valid, of "
                                 "several at least one; the others are in train",
                                 minimum=0.0, maximum=0.5)
    seed: int = setting(0, "seed; the data are a function of it", minimum=0)


@dataclass(frozen=True)
class DemonstrationConfig:
    """Demonstrations for one task."""

    kind: str = setting(
        "directed", "directed: oracles that pursue the task, with noise; play: OGBench's play "
        "data, made here; npz: a data set in OGBench's format, relabelled; robomimic: robomimic's"
        " HDF5, published or made here; episodes: a folder of recorded ones, such as those of the"
        " graph teach", choices=("directed", "play", "npz", "robomimic", "episodes"))
    path: Path = setting(AUTOMATIC, "folder of demonstrations, or the .npz or .hdf5 file; auto = "
                         "a name below runs/data that follows from the settings: they are made")
    episodes: int = setting(100, "directed episodes, trajectories of play data, or demos of an"
                            " .hdf5; 0 = all that a file or a folder has", minimum=0)
    mask: str = setting("", "filter key of an .hdf5, such as train or better: only its demos")
    noise: float = setting(0.35, "noise on the directed oracle's plan, relative to one action",
                           minimum=0.0)
    noise_smoothing: float = setting(0.5, "width of the Gaussian that smooths this noise over "
                                     "time", unit="steps", minimum=0.0)
    attempts: int = setting(1, "times that a subgoal is tried before a directed episode is given "
                            "up", minimum=1)
    keep_failures: bool = setting(True, "keep directed episodes that miss the goal")
    seed: int = setting(0, "seed; the demonstrations are a function of it", minimum=0)
