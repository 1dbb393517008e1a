"""Small file operations that more than one room needs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from trunkline.failpoints import failpoint


def sync_directory(directory: Path) -> None:
    """Make renames and new names in ``directory`` durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        failpoint("files.directory.before_fsync")
        os.fsync(fd)
        failpoint("files.directory.after_fsync")
    finally:
        os.close(fd)


def write_atomically(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Readers see the old content or the new one, whole. ``durable`` survives a power loss. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if durable:
        sync_directory(path.parent)


def lock_file(path: Path) -> int:
    """Lock a file, which is made if need be, until the descriptor is closed or the process ends. Raises
    BlockingIOError if another holds it, OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd
