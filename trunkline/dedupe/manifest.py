"""The manifest: the one small file that says which runs and which filter make up the index.

Format version 1: eight hexadecimal digits (CRC-32 of the rest), a line feed, JSON. Replaced whole, by a rename.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec

from trunkline.dedupe.errors import DedupeCorrupt
from trunkline.dedupe.files import write_all
from trunkline.dedupe.filter import SLICES
from trunkline.failpoints import failpoint
from trunkline.files import sync_directory

VERSION = 1
NAME = "manifest"


class RunEntry(msgspec.Struct, frozen=True):
    """A run: file name, hour since the epoch, rows, slice of the filter, size."""

    name: str
    hour: int
    rows: int
    slice: int
    size_bytes: int


class LostRun(msgspec.Struct, frozen=True):
    """A run that was found damaged and set aside: keys of this hour may be forgotten until it expires."""

    name: str
    hour: int
    rows: int


class Manifest(msgspec.Struct):
    """``fills``: keys whose bits each slice of the filter holds, those of dropped runs included. ``synced``: slices
    whose bits are on disk for certain; a slice that gets a run leaves the list in the same step.
    """

    secret_check: str
    filter_name: str
    filter_words: int
    filter_identity: str
    version: int = VERSION
    generation: int = 0
    checkpoint: str | None = None
    next_file: int = 1
    open_slice: int = 0
    fills: list[int] = msgspec.field(default_factory=lambda: [0] * SLICES)
    synced: list[int] = []
    synced_generation: int = 0
    runs: list[RunEntry] = []
    lost: list[LostRun] = []


def load(directory: Path) -> Manifest | None:
    """The manifest, or None when there is none. Raises DedupeCorrupt."""
    path = directory / NAME
    mend = (
        f"move {directory} away and start again: the index is then rebuilt from the accepted log as far as that "
        "reaches back"
    )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    checksum, _, text = data.partition(b"\n")
    if checksum != f"{zlib.crc32(text):08x}".encode():
        raise DedupeCorrupt(f"dedupe manifest {path} has a wrong checksum; {mend}")
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise DedupeCorrupt(f"dedupe manifest {path} is not readable ({error}); {mend}") from error
    if manifest.version != VERSION:
        raise DedupeCorrupt(
            f"dedupe manifest {path} has format version {manifest.version}, this program reads {VERSION}; "
            f"use the program that wrote it, or {mend}"
        )
    return manifest


def save(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest durably. Raises OSError; the old one is then still in force."""
    text = msgspec.json.encode(manifest)
    temporary = directory / (NAME + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, f"{zlib.crc32(text):08x}\n".encode() + text)
        os.fsync(fd)
    finally:
        os.close(fd)
    failpoint("dedupe.manifest.before_rename")
    temporary.rename(directory / NAME)
    sync_directory(directory)
    failpoint("dedupe.manifest.after_rename")
