"""The object store in a local directory: an object is a file, its key the path."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline.archive.errors import ObjectMissing, StoreError, StoreFull
from trunkline.archive.store import ObjectInfo, checked_key
from trunkline.failpoints import failpoint
from trunkline.files import sync_directory

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DRAFT: Final = ".draft"


class LocalStore:
    """See :class:`trunkline.archive.store.ObjectStore`.

    A file is synced before it gets its name, and so are the folders that lead to it. A draft that a crash left is
    hidden (its name begins with a dot) and is replaced when the same key is written again, or goes with it.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        """``reserve_bytes`` of the file system stay free: below it, ``put`` raises StoreFull."""
        self._root = root
        self._reserve_bytes = reserve_bytes

    def put(self, key: str, content: bytes | Path) -> None:
        path = self._path(key)
        with _store_errors(path, "write"):
            self._make_folder(path.parent)
            size_bytes = len(content) if isinstance(content, bytes) else content.stat().st_size
            self._check_room(path, size_bytes)
            draft = path.with_name(f".{path.name}{_DRAFT}")
            with draft.open("wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                failpoint("archive.put.before_fsync")
                os.fsync(file.fileno())
            failpoint("archive.put.before_rename")
            draft.replace(path)
            failpoint("archive.put.after_rename")
            sync_directory(path.parent)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _store_errors(path, "read"):
            return path.read_bytes()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        path = self._path(key)
        with _store_errors(path, "read"), path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        start = self._path(folder) if folder else self._root
        with _store_errors(start, "list"):
            for directory, folders, names in os.walk(start, onerror=_raise_unless_gone):
                folders.sort()
                for name in sorted(names):
                    if name.startswith("."):
                        continue
                    path = Path(directory, name)
                    with contextlib.suppress(FileNotFoundError):
                        yield ObjectInfo(path.relative_to(self._root).as_posix(), path.stat().st_size)

    def delete(self, key: str) -> None:
        """Folders that become empty go too."""
        path = self._path(key)
        with _store_errors(path, "remove"):
            path.with_name(f".{path.name}{_DRAFT}").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            folder = path.parent
            while folder != self._root and folder.is_relative_to(self._root):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    break  # not empty
                folder = folder.parent
            if folder.exists():
                sync_directory(folder)

    def describe(self) -> str:
        return str(self._root)

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _make_folder(self, folder: Path) -> None:
        """Create it so that it survives a loss of power."""
        made = []
        while not folder.exists():
            made.append(folder)
            folder = folder.parent
        for folder in reversed(made):
            folder.mkdir(exist_ok=True)
            sync_directory(folder.parent)

    def _check_room(self, path: Path, size_bytes: int) -> None:
        if not self._reserve_bytes:
            return
        free_bytes = shutil.disk_usage(path.parent).free
        if free_bytes - size_bytes < self._reserve_bytes:
            raise StoreFull(
                f"{path}: no room: {free_bytes} bytes are free and `reserve_bytes` keeps {self._reserve_bytes}. Free "
                "some space, lower `archive_retention_days`, or point `archive_url` to an object store"
            )


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextlib.contextmanager
def _store_errors(path: Path, does: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(
            f"{path}: there is no such object. Restore it from a backup of the archive, if there is one"
        ) from error
    except OSError as error:
        kind = StoreFull if error.errno in _FULL else StoreError
        raise kind(
            f"{path}: cannot {does}: {error.strerror or error}. Check the disk and the directory's owner"
        ) from error
