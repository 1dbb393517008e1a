"""Lines of a file of events: plain, gzip or zstd, told by the content and not by the name.

The reader keeps a running hash of everything up to the line it gave out last, so that a later run can prove that it
goes on in the same content, however the file is compressed and even when more was appended to it.

Errors::

    FileProblem    the file can't be read or is damaged; says where
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

import zstandard

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_LINE_BYTES: Final = 1 << 20
"""No event may be so long by far; it bounds the memory for a file that is not made of lines."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_READ_BYTES: Final = 1 << 14


class FileProblem(Exception):
    """The file can't be read or is damaged."""


@dataclass(frozen=True, slots=True)
class Line:
    """``number`` counts from 1. ``text`` is without its end; ``cut`` says that it was longer than the limit,
    ``unended`` that the file ends without a line end, so that more of it may come."""

    number: int
    text: bytes
    cut: bool = False
    unended: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file was read: lines, uncompressed bytes, and a hash of those bytes."""

    line: int
    offset_bytes: int
    fingerprint: str


class _ZstdFile(io.RawIOBase):
    """Decompressed content of a file of frames. The package's own reader takes a cut file for a whole one; this one
    raises EOFError."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._within = False
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._within = False
            packed = packed or self._raw.read(_ZSTD_READ_BYTES)
            if not packed:
                if self._within:
                    raise EOFError("the compressed content ends too early")
                return 0
            self._within = True
            self._ready = memoryview(self._frame.decompress(packed))
        view = memoryview(buffer).cast("B")
        size_bytes = min(len(view), len(self._ready))
        view[:size_bytes] = self._ready[:size_bytes]
        self._ready = self._ready[size_bytes:]
        return size_bytes


class Lines:
    """One pass over the lines."""

    def __init__(self, path: Path | None) -> None:
        """``None`` is standard input. Raises FileProblem."""
        self.name = "standard input" if path is None else str(path)
        self._line = 0
        self._offset_bytes = 0
        self._hash = blake2b(digest_size=16)
        try:
            self._raw = cast(io.BufferedReader, sys.stdin.buffer) if path is None else path.open("rb")
            self.size_bytes = path.stat().st_size if path is not None and path.is_file() else None
            head = self._raw.peek(4)[:4]
        except OSError as error:
            raise FileProblem(f"{self.name}: {error.strerror}") from error
        self._stream: BinaryIO = self._raw
        if head.startswith(_GZIP):
            self._stream = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw))
        elif head == _ZSTD:
            self._stream = io.BufferedReader(_ZstdFile(self._raw), 1 << 18)

    @property
    def read_bytes(self) -> int:
        """Bytes taken from the file as it is stored, for progress; needs a regular file."""
        return self._raw.tell()

    @property
    def mark(self) -> Mark:
        """Behind the last line that was given out."""
        return Mark(self._line, self._offset_bytes, self._hash.hexdigest())

    def skip_to(self, mark: Mark) -> bool:
        """Go on behind ``mark``. False if the content before it is not what it was. Call it first. Raises
        FileProblem."""
        left = mark.offset_bytes
        while left:
            piece = self._read(self._stream.read, min(left, 1 << 20))
            if not piece:
                return False
            self._hash.update(piece)
            left -= len(piece)
        self._line, self._offset_bytes = mark.line, mark.offset_bytes
        return self._hash.hexdigest() == mark.fingerprint

    def __iter__(self) -> Iterator[Line]:
        """Raises FileProblem."""
        while True:
            text = self._read_line()
            if not text:
                return
            cut = len(text) > MAX_LINE_BYTES and not text.endswith(b"\n")
            self._count(text)
            if cut:
                rest = text
                while rest and not rest.endswith(b"\n"):
                    rest = self._read_line()
                    self._count(rest)
            self._line += 1
            yield Line(self._line, text.rstrip(b"\r\n"), cut, not cut and not text.endswith(b"\n"))

    def _count(self, text: bytes) -> None:
        self._hash.update(text)
        self._offset_bytes += len(text)

    def _read_line(self) -> bytes:
        return self._read(self._stream.readline, MAX_LINE_BYTES + 1)

    def _read(self, read: Callable[[int], bytes], size_bytes: int) -> bytes:
        try:
            return read(size_bytes)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise FileProblem(
                f"{self.name}: damaged or incomplete after line {self._line}: {error or type(error).__name__}"
            ) from error

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
