"""How far a file has been sent, kept in a small JSON file that is written after every answer.

Errors::

    PositionError    the file can't be used; says why and what to do
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from trunkline.files import write_atomically

VERSION: Final = 1


class PositionError(Exception):
    """The file can't be used."""


class Position(msgspec.Struct):
    """``line`` and ``offset_bytes`` (uncompressed) lie behind the last line that was answered for; ``fingerprint`` is
    a hash of the bytes before it. ``server`` and ``key_end`` (four characters) say whom it was sent to."""

    version: int
    server: str
    key_end: str
    line: int = 0
    offset_bytes: int = 0
    fingerprint: str = ""
    taken: int = 0
    rejected: int = 0


def read_position(path: Path) -> Position | None:
    """None if there is no such file. Raises PositionError."""
    try:
        position = msgspec.json.decode(path.read_bytes(), type=Position)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PositionError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise PositionError(f"{path}: not a state file of ours ({error}); use --restart or another --state") from None
    if position.version != VERSION:
        raise PositionError(f"{path}: its version is {position.version}; use --restart or another --state")
    return position


def write_position(path: Path, position: Position) -> None:
    """Survives the end of the process. After a power loss it may be older: what is sent again then comes with the same
    messageIds. Raises PositionError."""
    try:
        write_atomically(path, msgspec.json.encode(position))
    except OSError as error:
        raise PositionError(f"{path}: {error.strerror}; name another place with --state") from error
