"""``poco rehearse``: a robot's whole work in the emulated cell, from teaching to a result."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from poco_ros.cli.display import Display
from poco_ros.cli.film import film_of_pictures
from poco_ros.cli.flags import add_flags, given
from poco_ros.cli.graph_run import resumable, run_until_done
from poco_ros.cli.plot import draw_curves, drawn
from poco_ros.cli.sim import standing
from poco_ros.core.config import from_dict, load, setting
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import ConfigError
from poco_ros.core.tables import read_rows
from poco_ros.preset import Preset, find_preset, find_settings, load_preset
from poco_ros.ros.graph_watch import Seen
from poco_ros.run_folder import CLONED, FINETUNED, RunFolder

LINE_EVERY = 30.0
"""Seconds between two lines about a graph that makes episodes."""
PICTURES_RATE = 12.0
"""Pictures a second of each camera that the encoder is fitted to."""


@dataclass(frozen=True)
class RehearsalConfig:
    """How much is done."""

    picture_episodes: int = setting(20, "demonstrations of which the pictures fit the encoder; 0 ="
                                    " no fitting, random weights", minimum=0)
    fit: str = setting("rehearsal/encoder_fit.yaml", "settings of the fitting: a path, or a name"
                       " in config/")
    demonstrations: int = setting(100, "demonstrations to clone", minimum=1)
    evaluations: int = setting(50, "episodes in which each policy is tried", minimum=1)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "rehearse", help="the robot's whole work in the emulated cell: teach, learn, compare",
        description="Everything that is done with a real arm, in real time, by the same nodes,"
        " plugged into the emulated cell: a scripted hand teaches, the encoder is fitted to the"
        " pictures, the policy is cloned and learns while it works, an emulated operator presses"
        " ready, success and failure; then both policies are tried. The last line is RESULT"
        " cloned=... finetuned=... A rehearsal that was interrupted goes on with the same"
        " --run-dir.")
    parser.add_argument("--preset", default="cpu_pick_cube", help="preset by name or path"
                        " [default: cpu_pick_cube]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the run [default: 0]")
    parser.add_argument("--run-dir", type=Path, default=None,
                        help="folder of everything, continued when it exists"
                        " [default: runs/rehearsal-seed<seed>-<date>]")
    add_flags(parser.add_argument_group("amounts"), RehearsalConfig, "rehearsal")


def run(args: argparse.Namespace) -> int:
    """Do it all and print the result."""
    if args.seed < 0:  # the learner would refuse it, when all is taught
        raise ConfigError(f"poco rehearse: --seed {args.seed} is below the minimum 0")
    amounts = from_dict(RehearsalConfig, given(args).get("rehearsal", {}), "poco rehearse")
    preset = load_preset(args.preset)
    folder = args.run_dir or Path(
        f"runs/rehearsal-seed{args.seed}-{time.strftime('%Y%m%d-%H%M%S')}")
    rehearsal = Rehearsal(preset, str(find_preset(args.preset).resolve()), folder.resolve(),
                          args.seed, amounts)
    with resumable(args, folder, print):
        return rehearsal.run()


class Rehearsal:
    """Stage after stage; each is left out when its outcome is there."""

    def __init__(self, preset: Preset, preset_path: str, folder: Path, seed: int,
                 amounts: RehearsalConfig) -> None:
        self._preset, self._preset_path = preset, preset_path
        self._folder, self._seed, self._amounts = folder, seed, amounts
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._learned = RunFolder(folder / "run")

    def run(self) -> int:
        """Do it all; return the exit code."""
        begun = time.monotonic()
        say, amounts, folder = self._console.print, self._amounts, self._folder
        say(f"poco rehearse: {self._preset.task.name} in the emulated cell, in real time,"
            f" seed {self._seed}\nEverything is kept in {folder}")
        say("[1/5] encoder: a scripted hand moves the arm, the ResNet-10 is fitted to what the"
            " cameras see")
        encoder = self._encoder()
        say("[2/5] teaching: demonstrations, imperfect on purpose, labelled with the keypad")
        self._teach(folder / "taught", amounts.demonstrations, encoder)
        say("[3/5] learning while it works: arm_controller, camera_encoder, keypad_reward,"
            f" rollout,\n  policy_server and learner; what they print goes to"
            f" {self._learned.path / 'graph.log'}")
        self._learn(encoder)
        say("[4/5] both policies at work, learning switched off")
        rates = {name: self._try(name, encoder) for name in (CLONED, FINETUNED)}
        title = f"{self._preset.task.name} in the emulated cell, from pictures, seed {self._seed}"
        curve = drawn(lambda: draw_curves([self._learned], folder / "curve.png", title))
        say(f"[5/5] learning curve {curve}, video {drawn(self._film)}")
        say(f"RESULT cloned={rates[CLONED]:.2f} finetuned={rates[FINETUNED]:.2f}"
            f" episodes={amounts.evaluations} minutes={(time.monotonic() - begun) / 60:.1f}")
        return 0

    def _encoder(self) -> str:
        """Return the path of fitted weights; empty when none are wanted."""
        amounts, weights = self._amounts, self._folder / "encoder.safetensors"
        if not amounts.picture_episodes:
            return ""
        if not weights.exists():
            pictures = self._folder / "pictures"
            self._teach(self._folder / "warm_up", amounts.picture_episodes, "", str(pictures))
            self._fit(pictures, weights)
        return str(weights)

    def _fit(self, pictures: Path, weights: Path) -> None:
        from poco_ros.robot.encoder_fit import FitConfig, FitProgress, fit_encoder
        from poco_ros.robot.encoder_weights import save_weights
        from poco_ros.robot.picture_set import load_pictures

        config = load(FitConfig, find_settings(self._amounts.fit))
        told = time.monotonic()

        def progress(state: FitProgress) -> None:
            nonlocal told
            if time.monotonic() - told > LINE_EVERY:
                told = time.monotonic()
                self._console.print(f"  fitting: {state.step:,}/{state.steps:,}, loss"
                                    f" {state.loss:.4f}")

        found = load_pictures(pictures, config.image_size)
        fitted, held_out = fit_encoder(found, config, pictures, progress)
        save_weights(weights, fitted)
        self._console.print(f"  fitted to {len(found):,} pictures, loss on held-out ones"
                            f" {held_out:.4f}")

    def _teach(self, folder: Path, wanted: int, encoder: str, pictures: str = "") -> None:
        """Record demonstrations until there are so many."""
        if len(EpisodeStore(folder)) < wanted:
            self._make_episodes("teach", folder, wanted, {
                "folder": folder, "episodes": wanted, "encoder": encoder,
                "pictures": pictures, "pictures_rate": PICTURES_RATE,
                "run_dir": self._folder / f"{folder.name}_graph"})
        episodes = list(EpisodeStore(folder))
        successes = sum(episode.success for episode in episodes)
        self._console.print(f"  {len(episodes)} demonstrations, {sum(map(len, episodes)):,} steps,"
                            f" {100 * successes / len(episodes):.0f}% successful")

    def _learn(self, encoder: str) -> None:
        finetuned = self._learned.policies / f"{FINETUNED}.safetensors"
        if finetuned.exists():
            return
        begun = time.monotonic()

        def show(seen: Seen) -> None:
            if seen.stage:
                elapsed = max(time.monotonic() - begun, 1e-9)
                display.show(standing(seen, self._preset, seen.environment_steps / elapsed))

        with Display(self._console) as display:
            run_until_done("real_finetune", self._arguments({
                "run_dir": self._learned.path, "seed": self._seed, "encoder": encoder,
                "demonstrations": self._folder / "taught"}),
                self._learned.path / "graph.log", show, display.say, finetuned.exists)

    def _try(self, name: str, encoder: str) -> float:
        """Return the success rate of a policy of the run, over fresh episodes."""
        folder, wanted = self._folder / f"evaluation_{name}", self._amounts.evaluations
        store = folder / "episodes"
        if len(EpisodeStore(store)) < wanted:
            self._make_episodes("real_finetune", store, wanted, {
                "run_dir": folder, "seed": self._seed + 1, "encoder": encoder,
                "checkpoint": self._learned.policies / f"{name}.safetensors",
                "evaluate": wanted, "demonstrations": self._folder / "taught",
                "pictures": folder / "pictures"})
        episodes = list(EpisodeStore(store))[:wanted]
        successes = sum(episode.success for episode in episodes)
        self._note(name, successes, len(episodes))
        self._console.print(f"  {name}: {successes} of {len(episodes)}")
        return successes / len(episodes)

    def _note(self, name: str, successes: int, episodes: int) -> None:
        """Write a row into the run's table of evaluations."""
        rows = read_rows(self._learned.metrics)
        if name == FINETUNED:
            steps, minutes, updates = (rows[-1][key] for key in (
                "environment_steps", "minutes", "updates"))
        else:
            online = next((row for row in rows if row["stage"] != "offline"), rows[-1])
            steps, minutes, updates = "0", online["minutes"], online["updates"]
        self._learned.add_evaluation({
            "policy": name, "environment_steps": steps, "updates": updates, "minutes": minutes,
            "successes": successes, "episodes": episodes,
            "success_rate": f"{successes / episodes:.4f}", "seed": self._seed + 1})

    def _arguments(self, more: dict[str, object]) -> dict[str, object]:
        return {"preset": self._preset_path, "hardware": "emulated", **more}

    def _make_episodes(self, graph: str, folder: Path, wanted: int,
                       arguments: dict[str, object]) -> None:
        """Run a graph until there are so many episodes in ``folder``, and say how it goes."""
        told = [0.0]

        def show(_: Seen) -> None:
            if time.monotonic() - told[0] > LINE_EVERY:
                told[0] = time.monotonic()
                count = sum(1 for _ in folder.glob("*.safetensors"))
                self._console.print(f"  {count}/{wanted} episodes")

        run_until_done(graph, self._arguments(arguments),
                       Path(str(arguments["run_dir"])) / "graph.log", show, self._console.print,
                       lambda: len(EpisodeStore(folder)) >= wanted)

    def _film(self) -> Path:
        """Write a video of both policies at work, from the pictures of a camera."""
        path = self._folder / "rollout.mp4"
        film_of_pictures({name: self._folder / f"evaluation_{name}" for name in
                          (CLONED, FINETUNED)}, path)
        return path
