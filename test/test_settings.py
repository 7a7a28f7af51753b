"""Settings: what a YAML file may say, and how a wrong one is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from poco_ros.core.config import from_dict, load, merge, setting, to_yaml
from poco_ros.core.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rate: float = setting(15.0, "rate of the timer", unit="Hz", minimum=1.0, maximum=100.0)
    table: float | None = setting(None, "height of the table; 0.0 is a height", unit="m")


@dataclass(frozen=True)
class Outer:
    name: str = setting("arm", "name of the arm")
    steps: int = setting(10, "Euler steps", minimum=1)
    enabled: bool = setting(True, "whether it runs")
    mode: str = setting("fast", "how it runs", choices=("fast", "slow"))
    joints: tuple[str, ...] = setting(("j1",), "names of the joints")
    box: tuple[float, float] = setting((0.0, 1.0), "lower and upper end", unit="m")
    inner: Inner = setting(Inner, "the timer")


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_yaml_fills_what_it_names_and_defaults_the_rest(tmp_path: Path) -> None:
    found = load(Outer, write(tmp_path, "steps: 4\ninner: {rate: 20, table: 0.0}\n"))
    assert found == Outer(steps=4, inner=Inner(rate=20.0, table=0.0))
    assert isinstance(found.inner.rate, float)
    assert found.inner.table == 0.0, "zero is a value, not an absence"
    assert load(Outer, write(tmp_path, "")) == Outer()


@pytest.mark.parametrize("text, message", [
    ("stepz: 4", r"unknown key 'stepz'; did you mean 'steps'\?"),
    ("inner: {rat: 4}", r"inner: unknown key 'rat'; did you mean 'rate'"),
    ("steps: four", "steps: expected int, got 'four'"),
    ("steps: 1.5", "steps: expected int, got 1.5"),
    ("steps: true", "steps: expected int, got True"),
    ("steps: 0", "steps: 0 is below the minimum 1"),
    ("enabled: 1", "enabled: expected bool, got 1"),
    ("mode: medium", "mode: 'medium' is not one of 'fast', 'slow'"),
    ("inner: {rate: .nan}", "rate: not a number"),
    ("inner: {rate: 1000}", "rate: 1000 is above the maximum 100"),
    ("inner: 5", "inner: expected a mapping of settings, got 5"),
    ("joints: j1", "joints: expected a list, got 'j1'"),
    ("joints: [1]", r"joints\[0\]: expected str, got 1"),
    ("box: [1, 2, 3]", "box: expected 2 entries, got 3"),
    ("[1, 2]", "expected a mapping at the top"),
    ("a: [", "not valid YAML"),
])
def test_a_wrong_file_is_refused_with_file_key_and_expectation(
        tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(Outer, path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such configuration file"):
        load(Outer, tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    text = "steps: 4  # größer\nname: größer\n"
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        load(Outer, path)
    assert str(path) in str(caught.value) and "save it as UTF-8" in str(caught.value)
    path.write_bytes(text.encode())
    assert load(Outer, path) == Outer(steps=4, name="größer")


def test_resolved_settings_read_back_unchanged(tmp_path: Path) -> None:
    config = Outer(steps=3, joints=("a", "b"), inner=Inner(table=0.0))
    assert load(Outer, write(tmp_path, to_yaml(config))) == config


def test_numbers_in_exponent_form_are_numbers(tmp_path: Path) -> None:
    """YAML 1.1 reads 3e1 as text; a rate written so is meant as a number."""
    assert load(Outer, write(tmp_path, "inner: {rate: 3e1}")).inner.rate == 30.0


def test_overrides_are_merged_into_nested_sections() -> None:
    merged = merge({"inner": {"rate": 5.0, "table": 0.1}, "steps": 2}, {"inner": {"rate": 9.0}})
    assert from_dict(Outer, merged) == Outer(steps=2, inner=Inner(rate=9.0, table=0.1))


def test_a_description_has_unit_and_range() -> None:
    info = Inner.__dataclass_fields__["rate"].metadata["setting"]
    assert info.describe() == "rate of the timer [Hz] (1 to 100)"
