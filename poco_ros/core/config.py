"""Typed settings: frozen dataclasses filled from YAML, from flags and from ROS parameters.

A setting is declared once, with :func:`setting`: its default, what it means, its unit and its
range. YAML files (:func:`load`), the command line (``poco_ros.cli``) and ROS parameter
descriptors (``poco_ros.ros.parameters``) all read that one declaration. An unknown key, a wrong
type or a value out of range is refused with the file, the key and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from poco_ros.core.errors import ConfigError

T = TypeVar("T")

NO_VALUE: Any = object()
"""Stands for no value at all, where None could be one."""


@dataclasses.dataclass(frozen=True)
class SettingInfo:
    """What is known of one setting besides its type: documentation, unit and range."""

    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    neutral: Any = NO_VALUE
    """Value at which everything is as it was before there was the setting."""

    def describe(self) -> str:
        """Return the documentation with unit, range and choices, for help texts."""
        text = self.doc if not self.unit else f"{self.doc} [{self.unit}]"
        if self.choices:
            return f"{text} (one of {', '.join(map(str, self.choices))})"
        if self.minimum is not None and self.maximum is not None:
            return f"{text} ({self.minimum:g} to {self.maximum:g})"
        if self.minimum is not None:
            return f"{text} (at least {self.minimum:g})"
        if self.maximum is not None:
            return f"{text} (at most {self.maximum:g})"
        return text


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] = (),
    neutral: Any = NO_VALUE,
) -> Any:
    """Declare a dataclass field that is a setting.

    ``default`` may be a value, or a callable for a fresh default (a dataclass, ``dict``).
    ``neutral`` is for a setting that is added to those of which results exist: see
    :func:`identity`.
    """
    info = SettingInfo(doc, unit, minimum, maximum, choices, neutral)
    metadata = {"setting": info}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def info_of(field: dataclasses.Field[Any]) -> SettingInfo:
    """Return the :class:`SettingInfo` of a field; empty when it was declared without one."""
    return field.metadata.get("setting", SettingInfo(""))


def settings_of(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Return name -> (field, resolved type) of a settings dataclass, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: (field, hints[field.name]) for field in dataclasses.fields(cls)}


def _type_name(expected: Any) -> str:
    return getattr(expected, "__name__", str(expected))


def _convert(value: Any, expected: Any, where: str) -> Any:
    """Return ``value`` as ``expected``; only lossless conversions (int to float) are made."""
    origin = typing.get_origin(expected)
    if dataclasses.is_dataclass(expected):
        if isinstance(value, expected):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping of settings, got {value!r}")
        return from_dict(expected, value, where)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(expected):
            if option is type(None):
                if value is None:
                    return None
                continue
            try:
                return _convert(value, option, where)
            except ConfigError:
                continue
        raise ConfigError(f"{where}: expected {expected}, got {value!r}")
    if origin in (tuple, list):
        args = typing.get_args(expected)
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        if origin is tuple and args and args[-1] is not Ellipsis:
            if len(value) != len(args):
                raise ConfigError(f"{where}: expected {len(args)} entries, got {len(value)}")
            return tuple(_convert(v, a, f"{where}[{i}]")
                         for i, (v, a) in enumerate(zip(value, args, strict=True)))
        items = [_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        key_type, value_type = typing.get_args(expected)
        return {_convert(k, key_type, f"{where} key"): _convert(v, value_type, f"{where}.{k}")
                for k, v in value.items()}
    if expected is Any:
        return value
    if expected is bool:
        if isinstance(value, bool):
            return value
    elif expected is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif expected is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
            try:
                return float(value)
            except ValueError:
                pass
    elif expected is str:
        if isinstance(value, str):
            return value
    elif expected is Path:
        if isinstance(value, (str, Path)):
            return Path(value).expanduser()
    else:
        raise ConfigError(f"{where}: settings of type {_type_name(expected)} are not supported")
    raise ConfigError(f"{where}: expected {_type_name(expected)}, got {value!r}")


def _check_range(value: Any, info: SettingInfo, where: str) -> None:
    if info.choices and value not in info.choices:
        raise ConfigError(
            f"{where}: {value!r} is not one of {', '.join(map(repr, info.choices))}")
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        if math.isnan(number):
            raise ConfigError(f"{where}: not a number (NaN); expected {info.describe()}")
        if info.minimum is not None and number < info.minimum:
            raise ConfigError(f"{where}: {number:g} is below the minimum {info.minimum:g}")
        if info.maximum is not None and number > info.maximum:
            raise ConfigError(f"{where}: {number:g} is above the maximum {info.maximum:g}")


def from_dict(cls: type[T], values: Mapping[str, Any], source: str = "settings") -> T:
    """Build the settings dataclass ``cls`` from ``values``.

    Args:
        cls: a frozen dataclass whose fields were declared with :func:`setting`. One with a
            classmethod ``choose(values, source)`` has variants: what that returns is built.
        values: name -> value; missing names keep their defaults.
        source: where the values come from (a file), named in errors.

    Raises:
        ConfigError: unknown key (with the nearest known one), missing required key, wrong type,
            or out of range.
    """
    choose = getattr(cls, "choose", None)
    if choose is not None:
        cls = choose(values, source)
    known = settings_of(cls)
    kwargs: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{source}: unknown key {key!r}{hint} Known keys: {', '.join(known)}")
        field, expected = known[key]
        where = f"{source}: {key}"
        kwargs[key] = _convert(value, expected, where)
        _check_range(kwargs[key], info_of(field), where)
    for name, (field, _) in known.items():
        required = (field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING)
        if required and name not in kwargs:
            raise ConfigError(f"{source}: missing key {name!r} ({info_of(field).describe()})")
    try:
        return cls(**kwargs)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; ConfigError names the file, and the line where it is not YAML."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(values).__name__}")
    return values


def load(cls: type[T], path: str | Path, overrides: Mapping[str, Any] | None = None) -> T:
    """Build ``cls`` from a YAML file, then apply ``overrides`` (nested mappings are merged)."""
    values = merge(read_yaml(path), overrides or {})
    return from_dict(cls, values, str(path))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top; nested mappings are merged, not replaced."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def to_dict(config: Any) -> dict[str, Any]:
    """Return a settings dataclass as plain YAML values (paths as text, tuples as lists)."""
    return _plain(config, lambda field, value: True)


def identity(config: Any) -> dict[str, Any]:
    """Return :func:`to_dict` without settings at their ``neutral`` value.

    What results are filed under: a setting that did not exist when they were made, and that
    changes nothing, does not make another configuration of theirs.
    """
    return _plain(config, lambda field, value: value != info_of(field).neutral)


def _plain(config: Any, wanted: Callable[[dataclasses.Field[Any], Any], bool]) -> dict[str, Any]:
    """Return plain YAML values of the settings that are ``wanted``."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
            return {field.name: plain(one) for field, one in fields if wanted(field, one)}
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return plain(config)


def to_yaml(config: Any) -> str:
    """Return a settings dataclass as YAML text that :func:`load` reads back unchanged."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)
