"""Checkpoints: one atomic file set, safetensors and JSON only, no pickle.

``checkpoint/`` holds sets ``000012000/`` (named by their number of updates) and ``LATEST``, a file
with the name of the newest whole one. A set is written under another name, flushed, renamed, and
only then named by ``LATEST``; the one before is deleted last. So at any moment, also on a full
disk or at ``kill -9``, ``LATEST`` names a whole set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from poco_ros.core.errors import CheckpointError
from poco_ros.core.files import (
    LATEST,
    PREFIX,
    naming,
    sync_directory,
    write_atomic,
    write_synced,
)

FORMAT = "poco-checkpoint-1"
TENSORS, WORDS = "training.safetensors", "training.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything from which a run goes on: tensors by name, and JSON values."""

    tensors: dict[str, Tensor]
    words: dict[str, Any]
    source: str = "checkpoint"


def save_checkpoint(folder: str | Path, name: str, tensors: dict[str, Tensor],
                    words: dict[str, Any]) -> Path:
    """Write a new set ``folder/name`` and make it the latest; return its path.

    Raises:
        OSError: the disk is full or not writable. The old set is whole and still the latest.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{PREFIX}*"):
        if stale.is_dir():
            shutil.rmtree(stale)
    content = save_tensors({key: value.cpu() for key, value in tensors.items()})
    words = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest(), **words}
    temporary = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    with naming(folder):
        try:
            write_synced(temporary / TENSORS, content)
            write_synced(temporary / WORDS, json.dumps(words, indent=1).encode())
            sync_directory(temporary)
            final = _free_name(folder, name)
            os.rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    sync_directory(folder)
    write_atomic(folder / LATEST, final.name + "\n")
    for other in folder.iterdir():
        if other.is_dir() and other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def _free_name(folder: Path, name: str) -> Path:
    """Return a path that is not taken: the same moment may be saved twice."""
    path, copy = folder / name, 0
    while path.exists():
        copy += 1
        path = folder / f"{name}-{copy}"
    return path


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read the latest set of ``folder``.

    Raises:
        CheckpointError: none there, truncated, foreign, or not what was written (checksum).
    """
    folder = Path(folder)
    if not (folder / LATEST).exists():
        raise CheckpointError(f"{folder}: holds no checkpoint (no file {LATEST})")
    path = folder / (folder / LATEST).read_text().strip()
    try:
        content = (path / TENSORS).read_bytes()
        words = json.loads((path / WORDS).read_text())
        if words.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format {words.get('format')!r}, expected {FORMAT}")
        if hashlib.sha256(content).hexdigest() != words["sha256"]:
            raise CheckpointError(f"{path / TENSORS}: truncated or changed (checksum differs)")
        tensors = load_tensors(content)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a whole checkpoint ({error})") from error
    torch_tensors = {name: value.clone() for name, value in tensors.items()}
    return Checkpoint(torch_tensors, words, str(path))
