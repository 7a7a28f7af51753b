"""``poco eval``: the success rate of policies, with fixed seeds."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from poco_ros.cli.flags import at_least
from poco_ros.core.errors import CheckpointError
from poco_ros.core.tables import read_rows
from poco_ros.evaluation import Evaluation, check_task, evaluate
from poco_ros.learning.policies import Policy
from poco_ros.preset import load_preset
from poco_ros.run_folder import (
    CLONED,
    EVALUATION_SEED,
    FINETUNED,
    Kept,
    RunFolder,
    read_policy,
    steps_of,
)
from sim_bridge.workers import EpisodeWorkers


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "eval", help="measure the success rate of a policy with fixed seeds",
        description="Run episodes with fixed seeds in worker processes and count successes. For a"
        " run folder every policy of the run is evaluated that has not been yet, and the results"
        " go into its evaluations.csv; for a policy file the result is printed.")
    parser.add_argument("what", type=Path, help="a run folder, or a policy (.safetensors)")
    parser.add_argument("--preset", default="", help="preset with the policy's task; needed for a"
                        " policy file")
    parser.add_argument("--episodes", type=at_least(0), default=0,
                        help="episodes a policy; 0 = the preset's eval_episodes")
    parser.add_argument("--seed", type=at_least(0), default=EVALUATION_SEED,
                        help="evaluation seed [default: 0, that of poco train and poco bench]")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count() or 1,
                        help="worker processes [default: one a processor]")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print a line a policy."""
    console = Console(highlight=False, soft_wrap=True)
    if args.what.is_dir() and RunFolder(args.what).config.exists():
        folder = RunFolder(args.what)
        preset = folder.load_preset()
        with EpisodeWorkers(preset.task, args.workers) as workers:
            evaluate_run(folder, workers, args.episodes or preset.train.eval_episodes, args.seed,
                         console)
        return 0
    if not args.preset:
        raise CheckpointError(f"{args.what}: to evaluate a policy file name its task with"
                              " --preset; or give a run folder")
    preset = load_preset(args.preset)
    policy, source = read_policy(args.what)
    check_task(policy, preset.task, source)
    with EpisodeWorkers(preset.task, args.workers) as workers:
        found = evaluate_shown(workers, policy, args.episodes or preset.train.eval_episodes,
                               args.seed, console, args.what.name)
    console.print(f"{source}: {found}")
    return 0


def evaluate_shown(workers: EpisodeWorkers, policy: Policy, episodes: int, seed: int,
                   console: Console, name: str) -> Evaluation:
    """Evaluate with a progress bar that disappears when it is done."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"evaluating {name}", total=episodes)
        return evaluate(workers, policy, episodes, seed, lambda _: bar.advance(task))


def _had(folder: RunFolder) -> Callable[[str, int], Kept]:
    """Return what tells when the run had a policy, of a name and so many updates.

    It is noted; of runs of an earlier version and of a policy that a run began with, the rows of
    the metrics say as much.
    """
    noted, rows = folder.read_kept(), read_rows(folder.metrics)

    def tell(name: str, updates: int) -> Kept:
        kept = noted.get(name)
        if kept and kept.updates == updates:
            return kept
        before = [row for row in rows if int(row["updates"]) <= updates]
        return Kept(updates, max((int(row["environment_steps"]) for row in before), default=0),
                    float(before[-1]["minutes"]) if before else 0.0)

    return tell


def policies_of(folder: RunFolder) -> dict[str, int]:
    """Return name -> environment steps of the policies that a run's curve is made of."""
    found: dict[str, int] = {}
    had = _had(folder)
    for path in sorted(folder.policies.glob("*.safetensors")):
        steps = steps_of(path.stem)
        if path.stem == CLONED:
            found[CLONED] = 0
        elif path.stem == FINETUNED:
            # Of the run's end, or of an earlier one where the run went on with more steps.
            done = folder.load_policy(FINETUNED).version - 1
            found[FINETUNED] = had(FINETUNED, done).environment_steps
        elif steps is not None:
            found[path.stem] = steps
    if FINETUNED in found:  # where there is another one of these steps it is the same policy
        same = CLONED if CLONED in found and not found[FINETUNED] else FINETUNED
        found = {name: steps for name, steps in found.items()
                 if name == same or steps != found[FINETUNED]}
    if not found:
        raise CheckpointError(f"{folder.policies}: the run has kept no policy yet")
    return dict(sorted(found.items(), key=lambda item: item[1]))


def evaluate_run(folder: RunFolder, workers: EpisodeWorkers, episodes: int, seed: int,
                 console: Console) -> dict[str, float]:
    """Evaluate every policy of a run that is not in its table yet; return name -> success rate."""
    known = {row["policy"]: row for row in folder.read_evaluations()
             if (row["seed"], row["episodes"]) == (str(seed), str(episodes))}
    had = _had(folder)
    rates: dict[str, float] = {}
    for name, steps in policies_of(folder).items():
        policy = folder.load_policy(name)
        done = policy.version - 1
        if name in known and known[name]["updates"] == str(done):
            rates[name] = float(known[name]["success_rate"])
            continue
        found = evaluate_shown(workers, policy, episodes, seed, console, name)
        folder.add_evaluation({
            "policy": name, "environment_steps": steps, "updates": done,
            "minutes": f"{had(name, done).minutes:.2f}", "successes": found.successes,
            "episodes": found.episodes, "success_rate": f"{found.success_rate:.4f}",
            "seed": seed})
        rates[name] = found.success_rate
        console.print(f"  {name:<18} {steps:>9,} steps   {found}")
    return rates


