"""Directed demonstrations: imperfect on purpose, a function of their seed, safe to interrupt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from poco_ros.cli.main import USER_ERROR, main
from poco_ros.core.config import to_dict
from poco_ros.core.episode import Episode, Outcome
from poco_ros.core.episode_store import EpisodeStore
from poco_ros.core.errors import DataError
from poco_ros.core.task import TaskConfig
from poco_ros.data import DemonstrationConfig
from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.data.directed.generate import make_demonstration, make_demonstrator
from poco_ros.data.summary import describe, find_oddities
from poco_ros.preset import load_preset
from sim_bridge.factory import make_environment

pytestmark = pytest.mark.xdist_group("demonstrations")  # fixtures are made once
TASK = TaskConfig()
COUNT = 4


def settings(path: Path, **changes: object) -> DemonstrationConfig:
    return DemonstrationConfig(**{"path": path, "episodes": COUNT, **changes})  # type: ignore


def contents(episodes: list[Episode]) -> list[bytes]:
    return [episode.to_bytes() for episode in episodes]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Episode]]:
    """Demonstrations of two workers."""
    folder = tmp_path_factory.mktemp("data") / "two"
    return folder, load_demonstrations(settings(folder), TASK, workers=2, show_progress=False)


def test_they_do_not_depend_on_the_number_of_workers_nor_on_order(
        made: tuple[Path, list[Episode]]) -> None:
    """Any one of them can be made alone, by itself, in this process."""
    folder, episodes = made
    assert len(episodes) == COUNT == len({episode.id for episode in episodes})
    environment = make_environment(TASK)
    wanted = settings(folder)
    demonstrator = make_demonstrator(environment, wanted)
    for index in (3, 0):
        alone = make_demonstration(environment, demonstrator, wanted, index)
        assert alone.to_bytes() == episodes[index].to_bytes()
    environment.close()


def test_an_episode_is_whole_and_says_what_it_is(made: tuple[Path, list[Episode]]) -> None:
    for episode in made[1]:
        assert (episode.task, episode.source) == ("cube-single-task1", "demonstration")
        assert episode.terminated != episode.truncated
        assert episode.outcome == (Outcome.SUCCESS if episode.terminated else Outcome.FAILURE)
        assert episode.rewards.sum() == episode.terminated
        assert (np.diff(episode.stamps) == 50_000_000).all()
        assert (episode.policy_versions == 0).all()


def test_asking_again_makes_nothing_and_more_goes_on(
        made: tuple[Path, list[Episode]], tmp_path: Path) -> None:
    folder, episodes = made
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    begun = time.monotonic()
    again = load_demonstrations(settings(folder, episodes=3), TASK, show_progress=False)
    assert time.monotonic() - begun < 0.5, "no worker is started for nothing"
    assert contents(again) == contents(episodes[:3])
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    store = EpisodeStore(tmp_path / "fewer")
    for episode in episodes[:2]:
        store.add(episode)
    (store.folder / "settings.yaml").write_text((folder / "settings.yaml").read_text())
    more = load_demonstrations(settings(store.folder), TASK, workers=1, show_progress=False)
    assert contents(more) == contents(episodes)


def test_what_is_complete_is_loaded_from_where_nothing_can_be_written(
        made: tuple[Path, list[Episode]], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only disk, or in somebody else's folder, a lock cannot be had."""

    def refuse(*_: object) -> None:
        raise PermissionError("a lock")

    monkeypatch.setattr("fcntl.flock", refuse)
    folder, episodes = made
    again = load_demonstrations(settings(folder), TASK, show_progress=False)
    assert contents(again) == contents(episodes)
    with pytest.raises(PermissionError):
        load_demonstrations(settings(folder, episodes=COUNT + 1), TASK, show_progress=False)
    with pytest.raises(DataError, match="seed = 0"):
        load_demonstrations(settings(folder, seed=1), TASK, show_progress=False)


MAKE = """
import sys
from pathlib import Path
from poco_ros.core.config import from_dict
from poco_ros.core.task import TaskConfig
from poco_ros.data import DemonstrationConfig
from poco_ros.data.demonstrations import load_demonstrations
wanted = from_dict(DemonstrationConfig, eval(sys.argv[1]))
load_demonstrations(wanted, TaskConfig(), workers=2, show_progress=False)
"""


def test_kill_9_loses_only_what_was_in_work(made: tuple[Path, list[Episode]],
                                            tmp_path: Path) -> None:
    wanted = settings(tmp_path / "killed")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    maker = subprocess.Popen([sys.executable, "-c", MAKE, repr(to_dict(wanted))], env=environment)
    end = time.monotonic() + 60.0
    while not list(wanted.path.glob("*.safetensors")) and time.monotonic() < end:
        time.sleep(0.005)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    kept = len(list(wanted.path.glob("*.safetensors")))
    assert 0 < kept <= COUNT
    rest = load_demonstrations(wanted, TASK, workers=1, show_progress=False)
    assert contents(rest) == contents(made[1])


def test_failures_are_kept_or_tried_again(tmp_path: Path) -> None:
    """With noise that makes most plans miss: kept, they end with the plan; else none is there."""
    environment = make_environment(TASK)
    kept, clean = (settings(tmp_path, noise=0.5, keep_failures=keep) for keep in (True, False))
    demonstrator = make_demonstrator(environment, kept)
    episodes = [make_demonstration(environment, demonstrator, kept, i) for i in range(6)]
    failures = [episode for episode in episodes if not episode.success]
    assert failures
    for failure in failures:
        assert failure.truncated and "plan ended" in failure.notes[0]
        assert len(failure) < environment.spec.max_episode_steps
    for index in range(3):
        assert make_demonstration(environment, demonstrator, clean, index).success
    environment.close()
    hopeless = make_environment(TaskConfig(max_episode_steps=3))
    with pytest.raises(DataError, match="lower the noise"):
        make_demonstration(hopeless, make_demonstrator(hopeless, clean), clean, 0)
    hopeless.close()


@pytest.mark.parametrize(("domain", "number"), [
    ("cube-double", 4), ("cube-triple", 5), ("scene", 2), ("scene", 4), ("puzzle-3x3", 2),
])
def test_tasks_of_several_stages_are_solved(domain: str, number: int) -> None:
    """Swap, stack, unlock, put away, switch: without noise and with patience."""
    environment = make_environment(TaskConfig(domain=domain, number=number))
    patient = DemonstrationConfig(noise=0.0, attempts=8)
    episode = make_demonstration(environment, make_demonstrator(environment, patient), patient, 0)
    assert episode.success and episode.rewards[-1] == 1.0
    environment.close()


@pytest.mark.parametrize(("changes", "task", "said"), [
    ({"noise": 0.1}, TASK, "noise = 0.35"),
    ({"seed": 1}, TASK, "seed = 0"),
    ({}, TaskConfig(number=2), "task.number = 1"),
    ({}, TaskConfig(success_timing="pre"), "task.success_timing = 'post'"),
])
def test_demonstrations_of_other_settings_are_not_taken_for_these(
        made: tuple[Path, list[Episode]], changes: dict[str, object], task: TaskConfig,
        said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_demonstrations(settings(made[0], **changes), task, show_progress=False)


def test_a_try_that_made_nothing_does_not_bind_the_next_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        """Stands for whatever ends a try before the first episode is there."""

    def refuse(*_: object) -> None:
        raise StoppedError

    monkeypatch.setattr("poco_ros.data.directed.generate.ProcessPool", refuse)
    for seed in (0, 1):
        with pytest.raises(StoppedError):
            load_demonstrations(settings(tmp_path, seed=seed), TASK, show_progress=False)


def test_a_folder_is_loaded_by_its_path_and_only_for_its_task(
        made: tuple[Path, list[Episode]], tmp_path: Path) -> None:
    folder, episodes = made
    assert contents(load_demonstrations(folder, TASK)) == contents(episodes)
    with pytest.raises(DataError, match=r"cube-single-task1.*not.*cube-single-task3"):
        load_demonstrations(folder, TaskConfig(number=3))
    with pytest.raises(DataError, match="there are no demonstrations"):
        load_demonstrations(tmp_path / "nowhere", TASK)
    EpisodeStore(tmp_path / "foreign").add(episodes[0])
    with pytest.raises(DataError, match="not made here"):
        load_demonstrations(settings(tmp_path / "foreign"), TASK, show_progress=False)


def test_names_follow_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two presets never meet in one folder by accident."""
    from poco_ros.data.demonstrations import demonstrations_path

    cases = [(DemonstrationConfig(), TASK), (DemonstrationConfig(noise=0.1), TASK),
             (DemonstrationConfig(), TaskConfig(reward="staged")),
             (DemonstrationConfig(), TaskConfig(domain="lift")),
             (DemonstrationConfig(kind="play"), TASK),
             (DemonstrationConfig(kind="play", seed=1), TASK)]
    paths = {demonstrations_path(*case) for case in cases}
    assert len(paths) == len(cases)
    assert demonstrations_path(DemonstrationConfig(episodes=7), TASK) in paths, "more goes on"
    with pytest.raises(DataError, match="path"):
        demonstrations_path(DemonstrationConfig(kind="npz"), TASK)
    with pytest.raises(DataError, match="no play data for lift"):
        demonstrations_path(DemonstrationConfig(kind="play"), TaskConfig(domain="lift"))


ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [(path.stem, words) for path in sorted((ROOT / "config").glob("*.yaml"))
            for words in re.findall(r"poco data (.+)", path.read_text())]


@pytest.mark.parametrize(("preset", "command"), [
    *COMMANDS,
    ("paper_scene", "ogbench --domain scene --num-trajs 1000"),
    ("paper_lift", "robomimic --task lift --num-trajs 300"),
    ("cpu_can", "robomimic --preset cpu_can"),
    ("cpu_can", "robomimic --task can --num-trajs 200 --noise 0.15 --attempts 3 --keep-failures"),
    ("cpu_cube_single", "directed --preset cpu_cube_single"),
    ("cpu_cube_single", "directed --task cube-single --episodes 100 --noise 0.35"),
])
def test_what_a_command_makes_is_where_training_looks(
        preset: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class MadeError(Exception):
        """Carries settings and place of what would be made."""

    def make(settings: object, path: Path, *_: object) -> None:
        raise MadeError(settings, path)

    from poco_ros.data.directed import generate

    monkeypatch.setattr(generate, "generate_directed", make)
    for module, name in (("play", "generate_ogbench"), ("robomimic_made", "generate_robomimic")):
        stub = SimpleNamespace(**{name: make})
        monkeypatch.setitem(sys.modules, f"poco_ros.data.{module}", stub)
    wanted = load_preset(preset)
    with pytest.raises(MadeError) as trained:
        load_demonstrations(wanted.demonstrations, wanted.task)
    with pytest.raises(MadeError) as commanded:
        main(["data", *command.split()])
    (asked, place), (given, found) = trained.value.args, commanded.value.args
    assert found == place
    if isinstance(asked, DemonstrationConfig):
        assert (given.episodes, given.noise) == (asked.episodes, asked.noise)
    else:
        assert given == asked


def test_every_paper_preset_says_how_its_data_are_made_beforehand() -> None:
    assert {preset for preset, _ in COMMANDS} >= {
        path.stem for path in (ROOT / "config").glob("paper_*.yaml")}


@pytest.mark.parametrize(("words", "said"), [
    ("ogbench --preset cpu_can", "of kind robomimic, not play; poco data robomimic makes them"),
    ("directed --preset cpu_pick_cube", "of kind episodes, not directed; they are not made here"),
    ("ogbench --preset paper_scene --seed 1", "leave the preset out, or all other flags"),
    ("robomimic --preset cpu_can --out can.hdf5", "leave the preset out, or all other flags"),
    ("ogbench --preset nowhere", "no preset 'nowhere'"),
])
def test_a_preset_that_does_not_fit_is_refused(
        words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *words.split()]) == USER_ERROR
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    "ogbench --workers -1", "robomimic --workers -1", "directed --workers two",
    "directed --episodes 0", "directed --task robot", "inspect runs --task robot",
    "inspect runs --rows 0", "ogbench --seed -1"])
def test_what_never_works_is_refused_at_the_flag(
        words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", *words.split()])
    assert ended.value.code == USER_ERROR
    assert f"error: argument {words.split()[-2]}: " in capsys.readouterr().err


def test_the_figures_are_those_of_the_episodes(made: tuple[Path, list[Episode]]) -> None:
    episodes = made[1]
    figures = describe(episodes)
    actions = np.concatenate([episode.actions for episode in episodes])
    assert figures.episodes == COUNT and figures.steps == len(actions)
    assert figures.successes == sum(episode.success for episode in episodes)
    np.testing.assert_allclose(figures.action_mean, actions.mean(axis=0))
    np.testing.assert_allclose(figures.action_saturated, (np.abs(actions) >= 0.999).mean(axis=0))
    assert any(f"{figures.steps}" in line for line in figures.lines())
    assert find_oddities(episodes) == [] or figures.successes == 0


def episode(name: str, **changes: object) -> Episode:
    generator = np.random.default_rng(len(name))
    values: dict[str, object] = {
        "id": name, "observations": generator.normal(size=(5, 3)),
        "actions": generator.uniform(-1, 1, (4, 2)), "rewards": np.zeros(4),
        "terminated": True, "truncated": False, "outcome": Outcome.SUCCESS}
    return Episode(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("episodes", "said"), [
    ([episode("a", outcome=Outcome.FAILURE)], "no episode ends in success"),
    ([episode("a"), episode("b", actions=episode("a").actions)], "repeat the actions"),
    ([episode("a", actions=np.full((4, 2), 0.5))], "never change"),
    ([episode("a", task="x"), episode("bb", task="y")], "several tasks"),
    ([episode("a", stamps=np.array([0, 1, 2, 9, 10]))], "twice the usual time"),
    ([episode("a", stamps=np.array([0, 1, 5, 3, 4]))], "run backwards"),
])
def test_what_is_suspicious_is_said(episodes: list[Episode], said: str) -> None:
    assert any(said in oddity for oddity in find_oddities(episodes))


def test_episodes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(DataError, match="no demonstrations"):
        describe([])
    with pytest.raises(DataError, match="occurs twice"):
        describe([episode("a"), episode("a")])
    with pytest.raises(DataError, match="expected"):
        describe([episode("a"), episode("b", observations=np.zeros((5, 4)))])
