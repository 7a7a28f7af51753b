"""Reads pickles that hold nothing but arrays, and runs nothing that they name.

Published network parameters often come as a pickled dictionary of arrays. A pickle may name any
function to be called while it is read. Here the few names that arrays need (NumPy's, and those of
JAX and Flax, which wrap NumPy's) stand for inert shells of this module; every other name is
refused, and arrays are made from the raw bytes in the shells.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from poco_ros.core.errors import CheckpointError

Tree = dict[str, Any]
"""Nested dictionaries with text keys; leaves are arrays."""
_NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})


class _Kind:
    """Stands for ``numpy.dtype``: remembers what it is called with."""

    def __init__(self, code: str, *_: object) -> None:
        self._code = code
        self._order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        code = str(self._code).lstrip("<>=|")
        if code not in _NUMBERS or self._order not in "<>=|":
            raise CheckpointError(f"an array of type {self._code!r}; only numbers are read")
        return np.dtype(code).newbyteorder(self._order)  # type: ignore[arg-type]


class _Shell:
    """Stands for an array that is being read."""

    def __init__(self, *_: object) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def array(self) -> np.ndarray:
        try:
            _, shape, kind, columns_first, raw = self._state
            values = np.frombuffer(raw, kind.dtype())
            return values.reshape(shape, order="F" if columns_first else "C")
        except (ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"an array in it is damaged ({error})") from error


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Shell:
    shell = _Shell()
    shell.__setstate__((1, shape, kind, order == "F", raw))
    return shell


def _from_jax(make: Any, arguments: Any, state: Any, *_: object) -> _Shell:
    shell = _Shell()
    shell.__setstate__(state)
    return shell


def _latin_bytes(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise CheckpointError(f"bytes in encoding {encoding!r}; expected latin1")
    return text.encode("latin1")


class _Maker:
    """A name that a pickle may call, and may do nothing else with."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise CheckpointError("it tries to change the reader")


_ADMITTED: dict[tuple[str, str], _Maker] = {
    ("numpy", "ndarray"): _Maker(_Shell),
    ("numpy", "dtype"): _Maker(_Kind),
    ("numpy.core.multiarray", "_reconstruct"): _Maker(_Shell),
    ("numpy._core.multiarray", "_reconstruct"): _Maker(_Shell),
    ("numpy.core.numeric", "_frombuffer"): _Maker(_from_buffer),
    ("numpy._core.numeric", "_frombuffer"): _Maker(_from_buffer),
    ("jax._src.array", "_reconstruct_array"): _Maker(_from_jax),
    ("jax._src.device_array", "reconstruct_device_array"): _Maker(_from_jax),
    ("flax.core.frozen_dict", "FrozenDict"): _Maker(dict),
    ("collections", "OrderedDict"): _Maker(dict),
    ("_codecs", "encode"): _Maker(_latin_bytes),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler to which nothing but arrays exists."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise CheckpointError(f"it names {module}.{name}; only arrays are read, a pickle that"
                                  " wants to run something else may be an attack")
        return _ADMITTED[module, name]


def read_arrays(path: str | Path) -> Tree:
    """Return the nested dictionary of arrays in a pickle.

    Raises:
        CheckpointError: not a pickle, truncated, or holding anything but arrays.
        FileNotFoundError: no such file.
    """
    try:
        with open(path, "rb") as stream:
            tree = _ArraysOnly(stream).load()
        return _arrays(tree, "")
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
            AttributeError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{path}: not a pickle of arrays ({error})") from error


def _arrays(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise CheckpointError(f"keys of {where or 'the top'} are not all text")
        return {key: _arrays(inner, f"{where}/{key}") for key, inner in value.items()}
    if isinstance(value, _Shell):
        return value.array()
    raise CheckpointError(f"{where or 'the top'} is of type {type(value).__name__}, expected"
                          " an array or a dictionary of arrays")
