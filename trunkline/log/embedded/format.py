"""The bytes of a segment file. All integers are little-endian; all checksums are CRC-32 (zlib).

A partition is a directory of segment files, each named by the ordinal of its first record (20 digits, ``.seg``)::

    segment  = header, table, block*
    header   = magic "TRKSEG1\\n", version u16, flags u16, table length u32, first ordinal u64,
               created at (ms) i64, newest append of the segment before (ms) i64, salt u32, CRC u32
    table    = MessagePack map: running total by key of all records before this segment
    block    = header, index, payloads          one append, durable as a whole or not at all
    header   = magic "TKBK", version u8, flags u8, 2 bytes of zero, index length u32, payloads' length u32,
               record count u32, first ordinal u64, appended at (ms) i64, CRC of index u32, CRC of payloads u32,
               CRC of header u32
    index    = MessagePack array: payload lengths, counts (a map for each record), running totals behind the block

The running totals in an index hold every key that the block touches; with :data:`FLAG_FULL_TOTALS` every key there is,
so that totals can be looked up without walking the segment from its start.

Every CRC in a segment starts from the segment's random *salt*. So bytes that look like a block, whether left over from
another file or sent by a client inside an event, are never taken for one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

FORMAT_VERSION: Final = 1
SEGMENT_MAGIC: Final = b"TRKSEG1\n"
BLOCK_MAGIC: Final = b"TKBK"
FLAG_FULL_TOTALS: Final = 1
SEGMENT_SUFFIX: Final = ".seg"
MAX_BLOCK_BYTES: Final = 1 << 30
"""A block's payloads at most: far above any request, far below what a u32 length holds."""

_SEGMENT_HEADER = struct.Struct("<8sHHIQqqI")
_BLOCK_HEADER = struct.Struct("<4sBBHIIIQqII")
_CRC = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = _SEGMENT_HEADER.size + _CRC.size
BLOCK_HEADER_BYTES: Final = _BLOCK_HEADER.size + _CRC.size
_BLOCK_HEADER_SIGNED: Final = _BLOCK_HEADER.size

Buffer = bytes | memoryview


class FormatError(Exception):
    """Bytes that are no sound header or index; the caller knows the file and offset and says them."""


class UnknownVersion(FormatError):
    """Sound bytes of a format that this program does not know: never a torn write, never to be cut off."""


class SegmentHeader(NamedTuple):
    """The start of a segment file. ``totals`` are the running totals of all records before it."""

    first_ordinal: int
    created_ms: int
    previous_append_ms: int
    salt: int
    totals: dict[str, int]
    size_bytes: int


class BlockHeader(NamedTuple):
    """The start of a block. ``end`` counts from the block's first byte."""

    flags: int
    index_bytes: int
    payload_bytes: int
    record_count: int
    first_ordinal: int
    appended_ms: int
    index_crc: int
    payload_crc: int

    @property
    def size_bytes(self) -> int:
        return BLOCK_HEADER_BYTES + self.index_bytes + self.payload_bytes


class BlockIndex(msgspec.Struct, array_like=True, gc=False):
    """What is known of a block's records without their payloads."""

    lengths: list[int]
    counts: list[dict[str, int]]
    totals: dict[str, int]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"cannot store a {type(value).__name__} in the log's index")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_index_decoder = msgspec.msgpack.Decoder(BlockIndex)
_table_decoder = msgspec.msgpack.Decoder(dict[str, int])


def segment_name(first_ordinal: int) -> str:
    return f"{first_ordinal:020d}{SEGMENT_SUFFIX}"


def encode_segment_header(
    first_ordinal: int, created_ms: int, previous_append_ms: int, salt: int, totals: Mapping[str, int]
) -> bytes:
    table = _encoder.encode(totals)
    fixed = _SEGMENT_HEADER.pack(
        SEGMENT_MAGIC, FORMAT_VERSION, 0, len(table), first_ordinal, created_ms, previous_append_ms, salt
    )
    return fixed + _CRC.pack(zlib.crc32(table, zlib.crc32(fixed, salt))) + table


def segment_header_size(start: bytes) -> int:
    """Length of header and table, from the first :data:`SEGMENT_HEADER_BYTES` of a file. Raises FormatError."""
    if len(start) < SEGMENT_HEADER_BYTES or start[: len(SEGMENT_MAGIC)] != SEGMENT_MAGIC:
        raise FormatError("not a segment file (bad magic)")
    table_bytes: int = _SEGMENT_HEADER.unpack_from(start)[3]
    return SEGMENT_HEADER_BYTES + table_bytes


def decode_segment_header(start: bytes) -> SegmentHeader:
    """Decode from the file's first bytes, header and table. Raises FormatError."""
    size = segment_header_size(start)
    if len(start) < size:
        raise FormatError("segment header is cut off")
    _, version, flags, _, first, created_ms, previous_ms, salt = _SEGMENT_HEADER.unpack_from(start)
    table = start[SEGMENT_HEADER_BYTES:size]
    (crc,) = _CRC.unpack_from(start, _SEGMENT_HEADER.size)
    if zlib.crc32(table, zlib.crc32(start[: _SEGMENT_HEADER.size], salt)) != crc:
        raise FormatError("checksum of the segment header is wrong")
    if version != FORMAT_VERSION or flags:
        raise UnknownVersion(f"segment format {version}, flags {flags}; this program reads {FORMAT_VERSION}, flags 0")
    try:
        totals = _table_decoder.decode(table)
    except msgspec.MsgspecError as error:
        raise FormatError(f"table of totals: {error}") from error
    return SegmentHeader(first, created_ms, previous_ms, salt, totals, size)


def encode_index(lengths: list[int], counts: list[Mapping[str, int]], totals: Mapping[str, int]) -> bytes:
    return _encoder.encode((lengths, counts, totals))


def encode_block_start(
    index: bytes, payloads: bytes, record_count: int, first_ordinal: int, appended_ms: int, salt: int, flags: int
) -> bytes:
    """Header and index of a block; the payloads follow it in the file."""
    fixed = _BLOCK_HEADER.pack(
        BLOCK_MAGIC,
        FORMAT_VERSION,
        flags,
        0,
        len(index),
        len(payloads),
        record_count,
        first_ordinal,
        appended_ms,
        zlib.crc32(index, salt),
        zlib.crc32(payloads, salt),
    )
    return fixed + _CRC.pack(zlib.crc32(fixed, salt)) + index


def decode_block_header(window: bytes, at: int, salt: int) -> BlockHeader:
    """Decode the header at ``window[at:]``, which must hold it whole. Raises FormatError."""
    magic, version, flags, _, *rest = _BLOCK_HEADER.unpack_from(window, at)
    if magic != BLOCK_MAGIC:
        raise FormatError("no block starts here (bad magic)")
    signed = at + _BLOCK_HEADER_SIGNED
    (crc,) = _CRC.unpack_from(window, signed)
    if zlib.crc32(window[at:signed], salt) != crc:
        raise FormatError("checksum of a block header is wrong")
    if version != FORMAT_VERSION or flags & ~FLAG_FULL_TOTALS:
        raise UnknownVersion(
            f"block format {version}, flags {flags}; this program reads {FORMAT_VERSION}, flags 0 and 1"
        )
    return BlockHeader(flags, *rest)


def decode_index(data: Buffer, header: BlockHeader, salt: int) -> BlockIndex:
    """Decode a block's index and hold it against its header. Raises FormatError."""
    if zlib.crc32(data, salt) != header.index_crc:
        raise FormatError("checksum of a block's index is wrong")
    try:
        index = _index_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise FormatError(f"a block's index: {error}") from error
    if len(index.lengths) != header.record_count or len(index.counts) != header.record_count:
        raise FormatError("a block's index and its header name different numbers of records")
    if sum(index.lengths) != header.payload_bytes:
        raise FormatError("the payload lengths of a block do not add up")
    return index


def find_block(window: bytes, start: int, salt: int) -> tuple[int, BlockHeader] | None:
    """The first sound block header at or after ``window[start:]``, and where it is; None if there is none.

    Raises UnknownVersion.
    """
    at = window.find(BLOCK_MAGIC, start)
    while at >= 0 and at + BLOCK_HEADER_BYTES <= len(window):
        try:
            return at, decode_block_header(window, at, salt)
        except UnknownVersion:
            raise
        except FormatError:
            at = window.find(BLOCK_MAGIC, at + 1)
    return None
