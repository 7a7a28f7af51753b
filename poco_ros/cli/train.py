"""``poco train``: the whole run without ROS, environments in worker processes."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from poco_ros.cli.display import Display, Standing
from poco_ros.cli.eval import evaluate_run
from poco_ros.cli.flags import (
    BESIDE_PRESET,
    add_flags,
    add_variant_flags,
    at_least,
    domain_info,
    given,
)
from poco_ros.core.config import merge
from poco_ros.core.errors import ConfigError
from poco_ros.core.seeding import episode_id, episode_seed
from poco_ros.core.task import TaskConfig
from poco_ros.learning.config import ALGORITHMS, TrainConfig
from poco_ros.preset import Preset, load_preset
from poco_ros.processes import stops_handled
from poco_ros.run_folder import EVALUATION_SEED, RunFolder
from sim_bridge.workers import EpisodeJob, EpisodeWorkers

if TYPE_CHECKING:
    from poco_ros.training import TrainingRun

STAGES = ("all", "offline", "online")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command; every setting of task, agent and schedule is a flag."""
    parser = subparsers.add_parser(
        "train", help="train a policy headless: offline on demonstrations, then online",
        description="Clone demonstrations (offline), then let the policy improve itself in the"
        " environment (online). A preset gives all settings, flags override it. Ctrl-C saves; poco"
        " train --resume --run-dir FOLDER goes on exactly where it stopped.",
        epilog="examples:  poco train --preset cpu_cube_single --seed 1    |    "
        "poco train --preset paper_scene --stage offline --run-dir runs/scene, then the same with"
        " --stage online --resume")
    parser.add_argument("--preset", default="", help="preset by name or path; default: the run's"
                        " own with --resume, else cpu_cube_single")
    parser.add_argument("--stage", choices=STAGES, default="all",
                        help="offline: demonstrations only; online: the rest, from --checkpoint or"
                        " after an offline stage; all: both [default: all]")
    parser.add_argument("--run-dir", type=Path, default=None,
                        help="folder of the run [default: runs/<task>-<date>-<time>]")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in --run-dir")
    parser.add_argument("--checkpoint", default="",
                        help="start the online stage from this policy or run folder")
    parser.add_argument("--seed", type=at_least(0), default=None,
                        help="seed of the run [default: 0; with --resume the run's own]")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count() or 1,
                        help="worker processes for evaluations [default: one a processor]")
    add_flags(parser.add_argument_group("task"), TaskConfig, "task", rename={"domain": "task"},
              exclude=("title", "features"), infos={"domain": domain_info()}, label=BESIDE_PRESET)
    add_variant_flags(parser.add_argument_group(
        "agent", f"--algorithm is one of {', '.join(ALGORITHMS)}; behind a setting stands whose it"
        " is"), ALGORITHMS, "agent")
    add_flags(parser.add_argument_group("schedule"), TrainConfig, "train", label=BESIDE_PRESET)


def resolve(args: argparse.Namespace) -> tuple[Preset, Path, int]:
    """Return preset, run folder and seed of the command.

    Raises:
        ConfigError: what is missing or contradicts itself.
    """
    overrides: dict[str, Any] = given(args)
    if args.resume:
        if args.run_dir is None or not RunFolder(args.run_dir).config.exists():
            raise ConfigError(f"--resume: {args.run_dir} holds no run; name the folder of the run"
                              " to go on with" if args.run_dir else
                              "--resume needs --run-dir, the folder of the run to go on with")
        folder = RunFolder(args.run_dir)
        source: str | Path = args.preset or folder.config
        seed = folder.seed() if args.seed is None else args.seed
    else:
        source, seed = args.preset or "cpu_cube_single", args.seed or 0
    if args.stage == "offline":
        overrides = merge(overrides, {"train": {"online_steps": 0}})
    preset = load_preset(source, overrides)
    run_dir = args.run_dir or Path(f"runs/{preset.task.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    if RunFolder(run_dir).config.exists() and not args.resume:
        raise ConfigError(f"{run_dir}: holds a run already; add --resume to go on with it, or"
                          " name another folder")
    if args.stage == "online":
        if not preset.train.online_steps:
            raise ConfigError("--stage online: online_steps is 0; say how many with"
                              " --online-steps")
        if not args.checkpoint and not RunFolder(run_dir).has_checkpoint:
            raise ConfigError("--stage online: there is no policy to start from; give"
                              " --checkpoint, or --resume a run whose offline stage is done")
    return preset, run_dir, seed


def run(args: argparse.Namespace) -> int:
    """Train until the run is finished or interrupted."""
    preset, run_dir, seed = resolve(args)
    from poco_ros.training import open_run  # torch takes seconds: not for help and refusals

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"poco train: {preset.task.name}, seed {seed}, run folder {run_dir}")
    session = open_run(preset, run_dir, seed, args.checkpoint)
    interrupted = Interrupted()
    try:
        with stops_handled(interrupted.note), Display(console) as display:
            finished = train(session, display, interrupted)
    finally:
        session.close()
    if not finished:
        console.print(f"interrupted: saved in {run_dir}; go on with"
                      f" poco train --resume --run-dir {run_dir}")
        return 130
    console.print(f"finished in {session.minutes:.1f} minutes: {session.trainer.updates:,}"
                  f" updates, {session.trainer.environment_steps:,} steps")
    if preset.train.eval_every:
        with EpisodeWorkers(preset.task, args.workers) as workers:
            evaluate_run(session.folder, workers, preset.train.eval_episodes,
                         EVALUATION_SEED, console)
    return 0


class Interrupted:
    """Notes what asks to stop, so that the loop stops between two updates and saves."""

    def __init__(self) -> None:
        self.asked = False

    def note(self, *_: object) -> None:
        """Handle a signal."""
        self.asked = True


def train(session: TrainingRun, display: Display, interrupted: Interrupted) -> bool:
    """Run the stages to their end; False when interrupted.

    Acting happens in worker processes while updates go on here, as far as ``sync_lag``, or a round
    of an on-policy algorithm, lets it. Which weights an episode acts with follows from its number
    alone, and one that would not have been begun if they ran in turn is dropped, so the result is
    the same with any number of ``actors``.
    """
    trainer, seed = session.trainer, session.trainer.seed
    config = session.preset.train

    def begin(workers: EpisodeWorkers) -> None:
        """Begin the episodes whose weights are there."""
        while workers.waiting < config.actors:
            number = trainer.episodes_added + workers.waiting
            policy = trainer.acting_policy(number)
            if policy is None:
                return
            workers.submit(EpisodeJob(policy.to_bytes(), episode_seed(seed, number),
                                      episode_id(seed, number)))

    with EpisodeWorkers(session.preset.task, config.actors) as workers:
        while not interrupted.asked:  # episodes that are out are run again, to the bit
            due = session.work_due()
            acting = trainer.environment_steps < config.online_steps
            if acting:
                begin(workers)
            if acting and workers.waiting and workers.ready(0.0 if due else 0.2):
                session.store_episode(workers.next_episode())
            elif due:
                session.work()
                display.show(standing(session))
            elif not (acting and workers.waiting):
                return True
    return False


def standing(session: TrainingRun) -> Standing:
    """Return where the run stands, for the display."""
    trainer, config = session.trainer, session.preset.train
    return Standing(trainer.stage, trainer.updates, config.offline_steps,
                    trainer.environment_steps, config.online_steps, session.success_rate,
                    session.updates_per_second, session.steps_per_second, session.last_metrics)
