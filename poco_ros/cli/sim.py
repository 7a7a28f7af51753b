"""``poco sim``: from demonstrations to a better policy, over ROS 2, with pictures at the end."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from poco_ros.cli.display import Display, Standing
from poco_ros.cli.eval import evaluate_run
from poco_ros.cli.flags import at_least
from poco_ros.cli.graph_run import resumable, run_until_done
from poco_ros.cli.plot import draw_curves, drawn
from poco_ros.core.errors import ConfigError
from poco_ros.core.seeding import evaluation_seed
from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.preset import Preset, domain_preset, domains_with_preset, load_preset
from poco_ros.ros.graph_watch import Seen
from poco_ros.run_folder import CLONED, EVALUATION_SEED, FINETUNED, RunFolder
from poco_ros.video import FRAME_EVERY, compare, write_gif, write_video
from sim_bridge.factory import make_environment
from sim_bridge.workers import EpisodeWorkers

VIDEO_STARTS = 2
"""Starting positions that the video shows."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "sim", help="clone a policy and watch it improve itself in simulation, over ROS 2",
        description="Make imperfect demonstrations, clone them, let the cloned policy improve"
        " itself with POCO over real ROS 2 nodes, evaluate before and after with fixed seeds, and"
        " draw the learning curve and a video. The last line is RESULT cloned=... finetuned=..."
        " A run that was interrupted goes on with the same --run-dir.")
    parser.add_argument("--task", choices=domains_with_preset(), default="cube-single",
                        help="simulated domain; its preset is config/cpu_<task>.yaml"
                        " [default: cube-single]")
    parser.add_argument("--preset", default="", help="another preset, by name or path")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the run [default: 0]")
    parser.add_argument("--run-dir", type=Path, default=None,
                        help="folder of the run, continued when it exists"
                        " [default: runs/sim-<task>-seed<seed>-<date>]")
    parser.add_argument("--no-video", action="store_true", help="leave the video out")


def run(args: argparse.Namespace) -> int:
    """Do it all and print the result."""
    name = args.preset or domain_preset(args.task)
    preset = load_preset(name)
    if not (preset.train.offline_steps and preset.train.online_steps):
        raise ConfigError(f"preset {name}: poco sim compares what was cloned with what was learned"
                          " online, so offline_steps and online_steps must both be above 0; poco"
                          " train runs one stage alone")
    folder = RunFolder(args.run_dir or Path(
        f"runs/sim-{preset.task.domain}-seed{args.seed}-{time.strftime('%Y%m%d-%H%M%S')}"))
    folder.path.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=True)
    say = console.print
    say(f"poco sim: {preset.task.name}, preset {name}, seed {args.seed}")
    say(f"Everything is kept in {folder.path}")
    with resumable(args, folder.path, say):
        improve(folder, preset, name, args, console)
    return 0


def improve(folder: RunFolder, preset: Preset, name: str, args: argparse.Namespace,
            console: Console) -> None:
    """Do it all in ``folder`` and print the result; what is done there already is not repeated."""
    begun, say = time.monotonic(), console.print
    say("[1/5] demonstrations, imperfect on purpose")
    demonstrations = load_demonstrations(preset.demonstrations, preset.task)
    successes = sum(episode.success for episode in demonstrations)
    say(f"  {len(demonstrations)} episodes, {sum(map(len, demonstrations)):,} steps,"
        f" {100 * successes / len(demonstrations):.0f}% successful")

    say("[2/5] learning over ROS 2: sim_bridge, rollout, policy_server and learner talk over"
        f" topics\n  and services; what they print goes to {folder.path / 'graph.log'}")
    run_graph(folder, preset, name, args.seed, console)

    say("[3/5] evaluation with fixed seeds, in worker processes")
    with EpisodeWorkers(preset.task, os.cpu_count() or 1) as workers:
        rates = evaluate_run(folder, workers, preset.train.eval_episodes, EVALUATION_SEED,
                             console)

    curve = folder.path / "curve.png"
    title = f"{preset.task.name}: POCO over ROS 2, seed {args.seed}"
    say(f"[4/5] learning curve: {drawn(lambda: draw_curves([folder], curve, title))}")
    if not args.no_video:
        video = drawn(lambda: draw_video(folder, preset, console))
        say(f"[5/5] video, before and after: {video}")
    minutes = (time.monotonic() - begun) / 60.0
    say(f"RESULT cloned={rates[CLONED]:.2f} finetuned={rates[FINETUNED]:.2f}"
        f" episodes={preset.train.eval_episodes} minutes={minutes:.1f}")


def run_graph(folder: RunFolder, preset: Preset, name: str, seed: int, console: Console) -> None:
    """Run the graph until the learner has finished the run, and show how it stands.

    Raises:
        GraphError: the graph ended with an error; the end of its log is shown.
        KeyboardInterrupt: interrupted; the graph has saved and stopped.
    """
    begun, steps_before = time.monotonic(), 0

    def show(seen: Seen) -> None:
        nonlocal begun
        if not seen.stage:
            return
        elapsed = max(time.monotonic() - begun, 1e-9)
        rate = (seen.environment_steps - steps_before) / elapsed
        if seen.stage == "offline":
            begun = time.monotonic()
        display.show(standing(seen, preset, rate))

    finetuned = folder.policies / f"{FINETUNED}.safetensors"
    with Display(console) as display:
        run_until_done("sim_scene", {"preset": name, "run_dir": folder.path, "seed": seed},
                       folder.path / "graph.log", show, display.say, finetuned.exists)


def standing(seen: Seen, preset: Preset, steps_per_second: float) -> Standing:
    """Return where the run stands, from what the graph says."""
    return Standing(seen.stage, seen.updates, preset.train.offline_steps, seen.environment_steps,
                    preset.train.online_steps, seen.success_rate, seen.updates_per_second,
                    steps_per_second, seen.metrics)


def draw_video(folder: RunFolder, preset: Preset, console: Console) -> Path:
    """Write ``rollout.mp4`` and ``rollout.gif``: both policies from the same starts."""
    environment = make_environment(preset.task)
    seeds = [evaluation_seed(EVALUATION_SEED, i) for i in range(VIDEO_STARTS)]
    with Progress(SpinnerColumn(), TextColumn("drawing frames: {task.completed}"),
                  TimeElapsedColumn(), console=console, transient=True,
                  disable=not console.is_terminal) as bar:
        task = bar.add_task("frames", total=None)
        frames = compare(environment, folder.load_policy(CLONED), folder.load_policy(FINETUNED),
                         seeds, ("cloned", "fine-tuned"), lambda: bar.advance(task))
    rate = 1.0 / (environment.spec.control_period * FRAME_EVERY)
    environment.close()
    path = folder.path / "rollout.mp4"
    write_video(frames, path, rate)
    write_gif(frames, path.with_suffix(".gif"), rate)
    return path
