"""Definitions of messages as text, the way recordings carry them (encoding ``ros2msg``)."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from poco_ros.core.errors import DataError

_FIELD = re.compile(r"^\s*(?P<type>[A-Za-z]\w*(/\w+)*)(<=\d+)?(\[[^\]]*\])?\s+[A-Za-z]\w*")
_PRIMITIVE = {"bool", "byte", "char", "float32", "float64", "string", "wstring",
              *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_RULE = "=" * 80


def definition_of(name: str) -> str:
    """Return the definition of a message type, followed by those of all types that it holds.

    Args:
        name: such as ``sensor_msgs/msg/JointState``.

    Raises:
        DataError: the ``.msg`` file of a type is not installed.
    """
    package, _, kind = name.partition("/msg/")
    texts: dict[str, str] = {}
    waiting = [f"{package}/{kind}"]
    while waiting:
        short = waiting.pop(0)
        if short in texts:
            continue
        texts[short] = _read(short)
        waiting += _held_types(texts[short], short.partition("/")[0])
    (_, first), *others = texts.items()
    return "\n".join([first, *(f"{_RULE}\nMSG: {short}\n{text}" for short, text in others)])


def _held_types(text: str, package: str) -> list[str]:
    """Return the types of the fields that are messages, as ``package/Type``."""
    found = []
    for line in text.splitlines():
        field = _FIELD.match(line)
        if field and field["type"] not in _PRIMITIVE:
            parts = field["type"].split("/")
            found.append(f"{parts[0]}/{parts[-1]}" if len(parts) > 1 else f"{package}/{parts[0]}")
    return found


def _read(short: str) -> str:
    """Read a ``.msg`` file from the share folder beside its Python package.

    It is found without ``AMENT_PREFIX_PATH``, which is not set where ROS 2 comes as wheels.
    """
    package, _, kind = short.partition("/")
    module = importlib.import_module(package)
    assert module.__file__ is not None
    for parent in Path(module.__file__).parents:
        path = parent / "share" / package / "msg" / f"{kind}.msg"
        if path.is_file():
            return path.read_text()
    raise DataError(f"{short}: its definition share/{package}/msg/{kind}.msg is not installed"
                    f" beside {module.__file__}")
