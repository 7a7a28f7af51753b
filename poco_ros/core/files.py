"""Files that are whole or absent: a crash or a full disk never leaves half of one behind."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an OSError of the block name ``path``: a full disk names none, or the temporary one."""
    try:
        yield
    except OSError as error:
        if PREFIX in str(error.filename or PREFIX):
            error.filename = str(path)
        raise


def lock(folder: Path) -> BinaryIO | None:
    """Return a file that locks ``folder`` until it is closed; None: another process has it.

    The kernel frees it, however the process ends.

    Raises:
        OSError: it cannot be written, or this file system knows no locks; the file is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stream = open(folder / ".lock", "wb")
    try:
        with naming(stream.name):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    except OSError:
        stream.close()
        raise
    return stream


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the name of a new file, to be written in the block; it becomes ``path`` at the end.

    Readers see the old file or the whole new one. When the block raises, the old one is untouched.

    Raises:
        OSError: the disk is full or not writable; it names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    with naming(path):
        try:
            descriptor, name = tempfile.mkstemp(prefix=f"{PREFIX}{path.name}-", dir=path.parent)
            os.close(descriptor)
            temporary = Path(name)
            yield temporary
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``: readers see the old file or the new one, never a part.

    Raises:
        OSError: the disk is full or not writable; the old file is untouched then.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
