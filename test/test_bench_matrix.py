"""The matrix of a bench: what it asks for, what identifies a cell, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench_support import matrix_of
from robomimic_support import publish

from poco_ros.bench.cell_folder import read_record
from poco_ros.bench.cells import (
    Cell,
    choose,
    configuration_hash,
    expand,
    with_data_below,
)
from poco_ros.bench.matrix import load_matrix, matrix_files
from poco_ros.cli.main import main
from poco_ros.core.config import identity
from poco_ros.core.errors import ConfigError
from poco_ros.core.task import SIMULATED_DOMAINS
from poco_ros.data.demonstrations import load_demonstrations
from poco_ros.learning.config import ALGORITHMS
from poco_ros.preset import load_preset

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def only(**words: Any) -> Cell:
    """Return the cell of a matrix that has one."""
    (cell,) = expand(matrix_of(**words))
    return cell


def test_a_matrix_is_the_product_of_its_axes_and_the_variants() -> None:
    cells = expand(matrix_of(
        seeds=[0, 5], tasks={"cube": {"preset": "cpu_cube_single"}, "scene": {
            "preset": "cpu_scene"}},
        algorithms={"poco": {}, "bc": {}}, budgets={"short": {"online_steps": 500}, "long": {}},
        variants={"wide": {"overrides": {"agent": {"hidden_dim": 256}}}},
        ablations={"zeta": {"key": "agent.zeta", "values": [0.1, 0.0], "algorithms": ["poco"]}}))
    # (poco: base, wide, two zetas; bc: base, wide) x 2 budgets x 2 seeds x 2 tasks
    assert len(cells) == (4 + 2) * 2 * 2 * 2
    names = {cell.record.name for cell in cells}
    assert len(names) == len(cells)
    assert "scene/poco/zeta-0.1@short/seed5" in names and "cube/bc/base@long/seed0" in names
    assert len({cell.record.hash for cell in cells}) == len(cells)
    ablated = next(cell for cell in cells if cell.record.name == "cube/poco/zeta-0.1@short/seed0")
    assert (ablated.record.ablation, ablated.record.value) == ("zeta", "0.1")
    assert ablated.preset.agent.zeta == 0.1 and ablated.preset.train.online_steps == 500


def test_what_is_closer_to_the_cell_is_laid_over_what_is_further() -> None:
    layers: list[tuple[str, dict[str, Any]]] = [
        ("overrides", {"overrides": {"agent": {"lr": 0.1}}}),
        ("task", {"tasks": {"cube": {"preset": "cpu_cube_single",
                                     "overrides": {"agent": {"lr": 0.2}}}}}),
        ("algorithm", {"algorithms": {"poco": {"overrides": {"agent": {"lr": 0.3}}}}}),
        ("per_task", {"algorithms": {"poco": {"overrides": {"agent": {"lr": 0.3}}, "per_task": {
            "cube": {"agent": {"lr": 0.4}}}}}}),
        ("variant", {"base": False, "variants": {"v": {"overrides": {"agent": {"lr": 0.5}}}}}),
    ]
    words: dict[str, Any] = {}
    for number, (_, layer) in enumerate(layers, 1):
        words |= layer
        assert only(**words).preset.agent.lr == pytest.approx(number / 10)
    assert only(**words).preset.agent.hidden_dim == 128, "what nobody overrides is the preset's"


def test_of_another_algorithms_preset_only_what_all_share_is_carried_over() -> None:
    """cpu_cube_single is poco's: bc gets its networks, and nothing of its candidates."""
    assert load_preset("cpu_cube_single").agent.num_candidates == 16
    agent = only(algorithms={"bc": {}}).preset.agent
    assert agent.algorithm == "bc" and agent.hidden_dim == 128 and agent.normalize_observations
    assert not hasattr(agent, "num_candidates")
    assert only().preset.agent == load_preset("cpu_cube_single").agent, "poco's own stays whole"


def test_the_hash_is_of_everything_that_a_run_is_a_function_of_and_of_nothing_else(
        tmp_path: Path) -> None:
    preset = load_preset("cpu_cube_single")
    base = configuration_hash(preset, 0)
    assert base == configuration_hash(load_preset("cpu_cube_single"), 0)
    assert len(base) == 8 and int(base, 16) >= 0
    seen = {base, configuration_hash(preset, 1)}
    for section, name, value in (("agent", "zeta", 0.5), ("agent", "lr", 1e-5),
                                 ("train", "utd", 0.41), ("train", "eval_episodes", 101),
                                 ("train", "device", "cuda"), ("task", "number", 2),
                                 ("demonstrations", "noise", 0.3), ("demonstrations", "seed", 1)):
        part = dataclasses.replace(getattr(preset, section), **{name: value})
        seen.add(configuration_hash(dataclasses.replace(preset, **{section: part}), 0))
    assert len(seen) == 10, "each of these is another run"
    moved = with_data_below(preset, tmp_path)
    assert moved.demonstrations.path.parent == tmp_path
    assert configuration_hash(moved, 0) == base, "where made data are kept is no setting of a run"
    graph = dataclasses.replace(preset.graph, **{
        field.name: not getattr(preset.graph, field.name)
        for field in dataclasses.fields(preset.graph)
        if isinstance(getattr(preset.graph, field.name), bool)})
    assert configuration_hash(dataclasses.replace(preset, graph=graph), 0) == base
    actors = dataclasses.replace(preset.train, actors=4)
    assert configuration_hash(dataclasses.replace(preset, train=actors), 0) == base


def test_results_that_are_kept_are_of_what_their_matrix_asks_for_now() -> None:
    """A setting that was added since, and changes nothing, does not orphan them."""
    kept = RESULTS / "small"
    wanted = {cell.record.name: cell.record.hash for cell in expand(load_matrix("small"))}
    records = [json.loads(path.read_text()) for path in kept.glob("cells/*/*/*/*/cell.json")]
    assert records
    for words in records:
        record = read_record(words, str(kept))
        assert wanted[record.name] == record.hash, record.name


def test_a_setting_at_its_neutral_value_is_left_out_of_what_results_are_filed_under() -> None:
    preset = load_preset("cpu_cube_single")
    assert "observation_components" not in identity(preset)["agent"]
    assert identity(preset)["agent"]["num_candidates"] == 16
    fewer = dataclasses.replace(preset.agent, observation_components=8)
    assert identity(fewer)["observation_components"] == 8


def test_demonstrations_in_robomimics_layout_are_made_in_the_folder_of_the_bench(
        tmp_path: Path) -> None:
    """A cell took the name in that folder for a file of somebody else's, and found none."""
    preset = load_preset("cpu_lift")
    preset = dataclasses.replace(preset, demonstrations=dataclasses.replace(
        preset.demonstrations, episodes=1))
    moved = with_data_below(preset, tmp_path)
    path = moved.demonstrations.path
    assert path.parent == tmp_path
    assert configuration_hash(moved, 0) == configuration_hash(preset, 0)
    for _ in range(2):
        (episode,) = load_demonstrations(moved.demonstrations, moved.task, 1, False)
        assert episode.task == "lift-task1" and path.exists()


def test_a_file_of_demonstrations_is_looked_into_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "can.hdf5"
    entry = {"preset": "cpu_lift", "overrides": {"demonstrations": {"path": str(path)}}}
    with pytest.raises(ConfigError, match=r"can\.hdf5: there are no demonstrations there"):
        expand(matrix_of(tasks={"lift": entry}))
    publish(path, "can")
    with pytest.raises(ConfigError, match=r"lift/poco/base: .*env_name PickPlaceCan"):
        expand(matrix_of(tasks={"lift": entry}))


def test_another_content_of_a_file_of_demonstrations_is_another_configuration(
        tmp_path: Path) -> None:
    path = publish(tmp_path / "lift.hdf5", "lift")
    preset = load_preset("cpu_lift")
    preset = dataclasses.replace(preset, demonstrations=dataclasses.replace(
        preset.demonstrations, path=path))
    before = configuration_hash(preset, 0)
    assert configuration_hash(preset, 0) == before
    publish(path, "lift", success=False)
    assert configuration_hash(preset, 0) != before


def test_algorithms_of_a_task_have_equal_data_under_a_name_of_its_own(tmp_path: Path) -> None:
    words = {"seeds": [0, 1], "algorithms": {"poco": {}, "bc": {}}}

    def paths(**more: Any) -> dict[str, Path]:
        return {cell.record.name: with_data_below(cell.preset, tmp_path).demonstrations.path
                for cell in expand(matrix_of(**words, **more))}

    assert len(set(paths().values())) == 1
    own = paths(data_per_seed=True)
    assert own["cube/poco/base/seed0"] == own["cube/bc/base/seed0"]
    assert own["cube/poco/base/seed0"] != own["cube/poco/base/seed1"]
    with pytest.raises(ConfigError, match="would learn from different demonstrations"):
        expand(matrix_of(algorithms={"poco": {}, "bc": {"overrides": {
            "demonstrations": {"noise": 0.1}}}}))
    with pytest.raises(ConfigError, match="would learn from different demonstrations"):
        expand(matrix_of(algorithms={"poco": {}, "bc": {"overrides": {
            "task": {"max_episode_steps": 100}}}}))
    assert expand(matrix_of(algorithms={"poco": {}, "bc": {"overrides": {
        "task": {"reward_offset": -1.0}}}})), "the same motions, rewarded on another scale"


@pytest.mark.parametrize("words, message", [
    ({"seeds": [0, 1, 0]}, "seeds: 0 stands there more than once"),
    ({"seeds": [-1]}, "seeds: -1 is below the minimum 0"),
    ({"seeds": []}, "at least one seed"),
    ({"sedes": [0]}, "unknown key 'sedes'; did you mean 'seeds'?"),
    ({"algorithms": {"pocco": {}}}, "algorithm 'pocco' is not one of poco, bc"),
    ({"algorithms": {"poco": {"overrides": {"agent": {"algorithm": ["bc"]}}}}}, "['bc']"),
    ({"algorithms": {"poco": {"overide": {}}}}, "unknown key 'overide'"),
    ({"algorithms": {"poco": {"overrides": {"agent": {"zetta": 1}}}}},
     "cube/poco/base: agent: unknown key 'zetta'; did you mean 'zeta'?"),
    ({"algorithms": {"poco": {"overrides": {"agent": {"zeta": -1}}}}}, "below the minimum 0"),
    ({"algorithms": {"poco": {"per_task": {"scene": {}}}}}, "'scene' is no task of this matrix"),
    ({"variants": {"v": {"algorithms": ["bc"]}}}, "'bc' is no algorithm of this matrix"),
    ({"variants": {"base": {}}}, "'base': two variants are called so"),
    ({"variants": {"a/b": {}}}, "name 'a/b': it becomes a folder"),
    ({"variants": {"same": {}}}, "cube/poco/same/seed0 and cube/poco/base/seed0 are the same"),
    ({"ablations": {"zeta": {"key": "zeta", "values": [1]}}}, "such as agent.zeta"),
    ({"ablations": {"zeta": {"key": "agent.zeta"}}}, "values of agent.zeta: name at least one"),
    ({"base": False}, "nothing is left to run"),
    ({"tasks": {"cube": {}}}, "preset is needed"),
    ({"tasks": {"cube": {"preset": "nowhere"}}}, "no preset 'nowhere'"),
    ({"tasks": {"pick": {"preset": "cpu_pick_cube"}}}, "is a task on the robot"),
    ({"tasks": {"lift": {"preset": "paper_lift", "overrides": {
        "demonstrations": {"kind": "play"}}}}}, "there are no play data for lift"),
    ({"tasks": {"cube": {"preset": "cpu_cube_single", "overrides": {
        "demonstrations": {"kind": "npz", "path": "nowhere.npz"}}}}}, "nowhere.npz"),
    ({"tasks": {"lift": {"preset": "cpu_lift", "overrides": {"task": {"reward": "staged"}}}}},
     "lift/poco/base: lift-task1: robomimic's files reward a step for the success"),
    ({"tasks": {"lift": {"preset": "cpu_lift", "overrides": {"task": {"number": 2}}}}},
     "lift/poco/base: task: number is 2: lift has only task 1"),
    ({"tasks": {"lift": {"preset": "cpu_lift", "overrides": {"demonstrations": {
        "mask": "nope"}}}}}, "mask is 'nope', of those that are made there are trainable"),
    ({"overrides": {"demonstrations": {"episodes": 0}}}, "no demonstrations are asked for"),
    ({"overrides": {"demonstrations": {"mask": "better"}}}, "mask 'better' is for"),
    ({"overrides": {"train": {"eval_every": 0}}}, "train.eval_every is 0"),
    ({"budgets": {"b": {"online_steps": -5}}}, "online_steps: -5 is below the minimum 0"),
    ({"algorithms": {"dppo": {}}}, "cube/dppo/base: sync_lag is 1: dppo learns from episodes of"),
])
def test_what_is_wrong_is_refused_before_anything_runs(words: dict[str, Any],
                                                       message: str) -> None:
    with pytest.raises(ConfigError) as error:
        expand(matrix_of(**words))
    assert message in str(error.value)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"tasks": {"cube": {"preset": "cpu_cube_single"}},
                                    "algorithms": {"poco": {}}, "seeds": [3, 3]}))
    with pytest.raises(ConfigError, match=r"mine.yaml: seeds: 3 stands there more than once"):
        load_matrix(path)
    with pytest.raises(ConfigError, match=r"no matrix 'nowhere'.*smoke"):
        load_matrix("nowhere")


def test_cells_are_chosen_by_the_parts_of_their_names() -> None:
    cells = expand(matrix_of(seeds=[0, 1], algorithms={"poco": {}, "bc": {}}, ablations={
        "zeta": {"key": "agent.zeta", "values": [0.1, 0.2], "algorithms": ["poco"]}}))

    def names(*words: str) -> set[str]:
        return {cell.record.name for cell in choose(cells, words)}

    assert len(names()) == len(cells) == 8
    assert names("bc") == {"cube/bc/base/seed0", "cube/bc/base/seed1"}
    assert names("zeta-*", "seed1") == {"cube/poco/zeta-0.1/seed1", "cube/poco/zeta-0.2/seed1"}
    assert len(names("zeta-0.1,base")) == 6
    with pytest.raises(ConfigError, match=r"--only qc: no cell is left.*poco.*seed1"):
        choose(cells, ["qc"])


def test_with_graphics_cards_every_cell_is_another_one() -> None:
    matrix = matrix_of()
    (cpu,), (gpu,) = expand(matrix), expand(matrix, "cuda")
    assert gpu.preset.train.device == "cuda" and gpu.record.hash != cpu.record.hash


@pytest.mark.parametrize("name", sorted(matrix_files()))
def test_the_matrices_that_come_along_are_whole(name: str) -> None:
    """Of algorithms and tasks that do not exist yet only the names are looked at."""
    matrix = load_matrix(name)
    algorithms = {key: one for key, one in matrix.algorithms.items()
                  if (one.algorithm or key) in ALGORITHMS}
    tasks = {key: one for key, one in matrix.tasks.items() if key in SIMULATED_DOMAINS}
    for entry in algorithms.values():
        assert set(entry.per_task) <= set(matrix.tasks)
    known = dataclasses.replace(matrix, tasks=tasks, algorithms={
        key: dataclasses.replace(one, per_task={task: over for task, over in one.per_task.items()
                                                if task in tasks})
        for key, one in algorithms.items()})
    assert matrix.title and expand(known)


def test_the_matrix_that_the_docs_show_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "bench.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "my.yaml"
    path.write_text(block)
    # (poco: base, sum, two etas; poco-wide and bc: base) x 2 budgets x 2 tasks x 3 seeds
    assert len(expand(load_matrix(path))) == (4 + 1 + 1) * 2 * 2 * 3


def test_the_help_names_the_matrices_that_come_along(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    told = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", told) for name in matrix_files())


def test_the_papers_matrix_has_all_algorithms_and_tasks_and_the_small_one_seven_and_two() -> None:
    paper, small = load_matrix("paper"), load_matrix("small")
    assert set(paper.algorithms) == {"bc", "poco", "qc", "qc_fql", "fql", "rlpd", "rlpd_ac",
                                     "dsrl", "dppo", "reinflow"}
    assert len(paper.tasks) == 7 and len(paper.seeds) == len(small.seeds) == 3
    for name in ("dppo", "reinflow"):
        assert paper.algorithms[name].overrides == {"train": {"sync_lag": 0, "actors": 20}}
    for cell in expand(paper):
        if cell.record.algorithm == "dsrl":  # gradient steps a chunk, as published
            steps = cell.preset.train.utd * cell.preset.agent.chunk_horizon
            assert steps == (30 if cell.record.task == "lift" else 20), cell.record.name
    assert set(small.algorithms) == {"poco", "bc", "qc", "fql", "rlpd", "dsrl", "dsrl_no_backup"}
    assert {entry.preset for entry in small.tasks.values()} == {"cpu_cube_single", "cpu_scene"}


def test_each_saver_of_the_preset_is_switched_off_in_turn_and_all_of_them_together() -> None:
    cells = {cell.record.variant: cell.preset.agent
             for cell in expand(load_matrix("ablation_savers"))}
    saving = cells.pop("base")
    off = cells.pop("all-off")
    floor = cells.pop("sum-floor")  # a saver that the preset does not take, beside what it is to
    assert floor == dataclasses.replace(cells["sum"], weight_floor=0.01)
    changed = {field.name for field in dataclasses.fields(saving)
               if getattr(saving, field.name) != getattr(off, field.name)}
    assert changed == {"posterior", "posterior_batch", "candidate_flow_steps",
                       "target_flow_steps", "num_candidates"}
    assert len(cells) == len(changed)
    for agent in cells.values():
        (name,) = (name for name in changed if getattr(agent, name) != getattr(saving, name))
        changed.remove(name)
        assert getattr(agent, name) == getattr(off, name)
    assert not changed
