"""Settings on the command line: a settings dataclass as flags, and back as what was given.

Every flag is optional and has no default of its own, so :func:`given` tells what the user said and
nothing else; a preset supplies the rest.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from poco_ros.core.config import SettingInfo, info_of, settings_of
from poco_ros.core.task import SIMULATED_DOMAINS

BESIDE_PRESET = "the preset's, else "
"""Before the default of a setting that a preset may give."""
_MARK = "setting:"  # begins the destinations of these flags among an argparse namespace's names


def add_flags(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    cls: type,
    section: str = "",
    *,
    rename: Mapping[str, str] | None = None,
    exclude: Collection[str] = (),
    defaults: Mapping[str, str] | None = None,
    infos: Mapping[str, SettingInfo] | None = None,
    label: str = "default: ",
) -> None:
    """Add one flag for every setting of ``cls``: ``flow_steps`` becomes ``--flow-steps``.

    Args:
        parser: a parser, or one of its argument groups.
        cls: a settings dataclass; settings that are themselves settings classes are left out,
            add them with a call of their own.
        section: where the values belong in the nested dict of :func:`given`, such as ``agent``;
            dots go deeper.
        rename: setting -> flag without dashes, such as ``{"domain": "task"}``.
        exclude: settings that get no flag.
        defaults: setting -> what is taken when it is not given, in words, where that is not the
            default of ``cls``.
        infos: setting -> what is told and taken, where that is not what ``cls`` says of it.
        label: what stands before a default, such as :data:`BESIDE_PRESET`.
    """
    for name, (field, expected) in settings_of(cls).items():
        if name in exclude or dataclasses.is_dataclass(expected):
            continue
        flag = (rename or {}).get(name, name).replace("_", "-")
        info = (infos or {}).get(name) or info_of(field)
        _add_flag(parser, flag, f"{_MARK}{section}.{name}" if section else f"{_MARK}{name}",
                  expected, info.describe(), info,
                  _note(label, (defaults or {}).get(name) or default_text(field)))


def add_variant_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup,
                      variants: Mapping[str, type], section: str) -> None:
    """Add one flag for every setting of several classes, of which a run with a preset has one.

    A setting that not all of them have says whose it is; what it means and its default are told
    for each where they differ.
    """
    owners: dict[str, list[str]] = {}
    for variant, cls in variants.items():
        for name in settings_of(cls):
            owners.setdefault(name, []).append(variant)
    for name, whose in owners.items():
        fields = {variant: settings_of(variants[variant])[name][0] for variant in whose}
        field, expected = settings_of(variants[whose[0]])[name]
        meaning = _told({v: info_of(one).describe() for v, one in fields.items()})
        default = _told({v: default_text(one) for v, one in fields.items()})
        note = "" if len(whose) == len(variants) else f" [{', '.join(whose)}]"
        _add_flag(parser, name.replace("_", "-"), f"{_MARK}{section}.{name}", expected,
                  meaning, info_of(field), note + _note(BESIDE_PRESET, default))


def _told(texts: Mapping[str, str]) -> str:
    """Return the text of most, then the others with whose they are.

    Where each has another, as of its name, it is that of the first.
    """
    whose: dict[str, list[str]] = {}
    for variant, text in texts.items():
        whose.setdefault(text, []).append(variant)
    most = max(whose, key=lambda text: len(whose[text]))
    if len(whose) == 1 or len(whose) == len(texts) > 2:
        return most
    others = [f"{', '.join(names)}: {text}" for text, names in whose.items() if text != most]
    of_most = most if len(whose[most]) > 1 else f"{whose[most][0]}: {most}"
    return "; ".join([of_most, *others])


def domain_info(choices: Collection[str] = tuple(SIMULATED_DOMAINS)) -> SettingInfo:
    """Return what a flag tells of a domain where ``robot``, which only presets have, is none."""
    return SettingInfo("simulated domain", choices=tuple(choices))


def assignments_help(cls: type, title: str) -> str:
    """Return the table of settings that are given as ``name:=value``, with defaults."""
    lines = [f"{title}:"]
    for name, (field, _) in settings_of(cls).items():
        text = default_text(field)
        shown = f"{name}:={text.lower() if isinstance(field.default, bool) else text}"
        lines.append(f"  {shown:<22} {info_of(field).describe()}")
    return "\n".join(lines)


def at_least(minimum: int) -> Callable[[str], Any]:
    """Return the ``type`` of a flag that is no setting: whole numbers from ``minimum`` on."""
    return _checked(int, SettingInfo("a whole number", minimum=minimum), optional=False)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given on the command line, nested by section."""
    values: dict[str, Any] = {}
    for destination, value in vars(args).items():
        if not destination.startswith(_MARK):
            continue
        *sections, name = destination.removeprefix(_MARK).split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return values


def _note(label: str, default: str) -> str:
    return f" [{label}{default}]" if default else ""


def default_text(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return ""
    if default is None or default == "":
        return ""
    if isinstance(default, (tuple, list)):
        return " ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _add_flag(parser: argparse.ArgumentParser | argparse._ArgumentGroup, flag: str,
              destination: str, expected: Any, meaning: str, info: SettingInfo,
              note: str) -> None:
    described = (meaning + note).replace("%", "%%")
    common: dict[str, Any] = {"dest": destination, "default": argparse.SUPPRESS,
                              "help": described}
    expected, optional = _without_none(expected)
    if expected is bool:
        parser.add_argument(f"--{flag}", action=argparse.BooleanOptionalAction, **common)
        return
    many = typing.get_origin(expected) in (tuple, list)
    if many:
        expected = typing.get_args(expected)[0]
        common["nargs"] = "*"
    if expected not in (int, float, str, Path):
        raise TypeError(f"--{flag}: no flag can be made for a setting of type {expected}")
    parser.add_argument(f"--{flag}", type=_checked(expected, info, optional),
                        metavar="{" + ",".join(map(str, info.choices)) + "}" if info.choices
                        else expected.__name__.upper(), **common)


def _without_none(expected: Any) -> tuple[Any, bool]:
    """Return ``X, True`` for ``X | None``, and ``X, False`` for ``X``."""
    if typing.get_origin(expected) in (typing.Union, types.UnionType):
        rest = [option for option in typing.get_args(expected) if option is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return expected, False


def _checked(expected: type, info: SettingInfo, optional: bool) -> Callable[[str], Any]:
    """Return a converter whose complaint argparse puts after the flag's name."""

    def convert(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        try:
            value = expected(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no {expected.__name__}; expected {info.describe()}") from error
        if info.choices and value not in info.choices:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not one of {', '.join(map(str, info.choices))}")
        if isinstance(value, (int, float)):
            low = info.minimum is not None and not value >= info.minimum
            high = info.maximum is not None and not value <= info.maximum
            if low or high or value != value:
                raise argparse.ArgumentTypeError(f"{text} is out of range; {info.describe()}")
        return value

    return convert
