"""Files that are whole or absent: a crash or a full disk never leaves half of one behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

LATEST = "LATEST"
"""File in a folder of checkpoints that names the newest whole one."""
PREFIX = ".writing-"
"""Names that begin so are unfinished writes; they may be deleted at any time."""


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (``fsync`` of the directory itself)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write ``content`` and flush it to the disk; not atomic by itself."""
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``: readers see the old file or the new one, never a part.

    Raises:
        OSError: the disk is full or not writable; the old file is untouched then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        write_synced(temporary, data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
