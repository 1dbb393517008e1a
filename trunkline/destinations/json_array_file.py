"""A file of one JSON text a line, sent as one JSON array without ever being whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 256 * 1024


class JsonArrayFile:
    """A JSON text on one line holds no newline itself, so the newlines between them become the commas.

    Every read is made in a thread and opens the file anew: a request that is given up leaves nothing open. After an
    error of the disk :attr:`error` holds it; the HTTP client would tell it as one of the connection.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events_bytes = 0
        self.error: OSError | None = None
        self.beginning = b""
        """The first bytes of the file, a piece at most."""

    async def open(self) -> None:
        """Must come first. Raises OSError; an empty file is one."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        with self._path.open("rb") as file:
            self.beginning = file.read(PIECE_BYTES)
            size_bytes = file.seek(0, 2)
            if not size_bytes:
                raise OSError(0, "the file is empty")
            file.seek(size_bytes - 1)
            self._events_bytes = size_bytes - (file.read(1) == b"\n")

    @property
    def size_bytes(self) -> int:
        """Of the array."""
        return self._events_bytes + 2

    @property
    def first_event(self) -> bytes:
        """The first line, as far as a piece holds it."""
        return self.beginning.partition(b"\n")[0]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The array. Raises OSError when the file has become shorter or can't be read."""
        yield b"["
        offset = 0
        while offset < self._events_bytes:
            try:
                piece = await asyncio.to_thread(self._read, offset, min(PIECE_BYTES, self._events_bytes - offset))
            except OSError as error:
                self.error = error
                raise
            offset += len(piece)
            yield piece.replace(b"\n", b",")
        yield b"]"

    def _read(self, offset: int, size_bytes: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            piece = file.read(size_bytes)
        if not piece:
            raise OSError(0, "the file has become shorter")
        return piece
