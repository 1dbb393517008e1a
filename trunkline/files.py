"""Small file operations that more than one room needs."""

from __future__ import annotations

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
