"""The contract of an object store: whole objects by key. Calls block; any thread may make them.

A key is folders and a name, separated by ``/``: letters, digits and ``-_.=~`` only, no ``.`` or ``..`` as a part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from trunkline.archive.errors import StoreError

_KEY: Final = re.compile(r"(?!\.)[\w.=~-]+(?:/(?!\.)[\w.=~-]+)*", re.ASCII)
_MAX_KEY_CHARACTERS: Final = 900


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a list."""

    key: str
    size_bytes: int


class ObjectStore(Protocol):
    """Objects are written whole: readers see none, the old one or the new one. One writer a key at a time."""

    def put(self, key: str, content: bytes | Path) -> None:
        """Write bytes, or a file's content, durably; an object of the same key is replaced. Raises StoreError."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing, StoreError."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, fewer where the object ends before. Raises ObjectMissing, StoreError."""
        ...

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """All objects below a folder (``a/b``; empty for all), in no order. Raises StoreError, while iterated too."""
        ...

    def delete(self, key: str) -> None:
        """Remove; an object that is not there is no error. Raises StoreError."""
        ...

    def describe(self) -> str:
        """Where it is, for people. Holds no secret."""
        ...


def checked_key(key: str) -> str:
    """The key itself. Raises StoreError for one that could lead elsewhere or that some store would spell anew."""
    if len(key) > _MAX_KEY_CHARACTERS or not _KEY.fullmatch(key):
        raise StoreError(
            f"{key!r} is no key of an object: use folders and a name of letters, digits and -_.=~, "
            f"at most {_MAX_KEY_CHARACTERS} characters"
        )
    return key
