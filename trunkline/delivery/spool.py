"""The file of a bulk batch: written once, durable before the state says so."""

from __future__ import annotations

import os
from pathlib import Path

from trunkline.failpoints import failpoint
from trunkline.files import sync_directory


class SpoolWrite:
    """A piece of a spool file at its offset. Repeating it does no harm."""

    def __init__(self, path: Path, offset: int, data: bytes) -> None:
        self._path = path
        self._offset = offset
        self._data = data

    def __call__(self) -> None:
        """Write and sync. What a crash left behind the piece is cut off. Raises OSError."""
        if self._offset == 0 and not self._path.parent.exists():
            self._path.parent.mkdir(parents=True)
            sync_directory(self._path.parent.parent)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            rest, offset = memoryview(self._data), self._offset
            while rest:
                written = os.pwrite(fd, rest, offset)
                rest, offset = rest[written:], offset + written
            os.ftruncate(fd, offset)
            failpoint("bulk.spool.before_fsync")
            os.fdatasync(fd)
            failpoint("bulk.spool.after_fsync")
        finally:
            os.close(fd)
        if self._offset == 0:
            # Even if the file is there already: the call that made it may have failed before this.
            sync_directory(self._path.parent)


def cut_off(path: Path, size_bytes: int) -> None:
    """Remove what a crash left behind so many bytes: pieces that no commit speaks of. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size > size_bytes:
            os.ftruncate(fd, size_bytes)
            os.fdatasync(fd)
    finally:
        os.close(fd)
