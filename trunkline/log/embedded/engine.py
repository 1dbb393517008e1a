"""The embedded engine: a directory of append-only segment files for each partition, ``root/topic/partition``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from trunkline.clock import Clock
from trunkline.files import sync_directory
from trunkline.log.base import LogError, LogFull, RecordIndex, Totals
from trunkline.log.embedded.appender import FULL_ERRORS, EmbeddedAppender
from trunkline.log.embedded.check import check_partition
from trunkline.log.embedded.head import Head, HeadView
from trunkline.log.embedded.reader import EmbeddedReader, walk_index
from trunkline.log.embedded.retention import drop_segments, segment_sizes
from trunkline.log.embedded.totals import totals_at

SEGMENT_BYTES: Final = 64 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class EmbeddedLog:
    """See :class:`trunkline.log.base.EventLog`. Positions are record ordinals, which no caller may rely on.

    Any number of processes may open the same ``root``. Everything but an appender works without one, so on a log whose
    writer was killed too; what is seen then is what was durable and published. Errors of the operating system come as
    LogError with the file's name.
    """

    def __init__(self, root: Path, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """``segment_bytes``: a segment grows to this size; only an append that is larger makes a larger one."""
        self._root = root
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._heads: dict[Path, HeadView] = {}

    def partitions(self, topic: str) -> list[str]:
        directory = self._root / _name(topic)
        with _os_errors(f"{directory}: cannot list"):
            try:
                return sorted(entry.name for entry in directory.iterdir() if entry.is_dir())
            except FileNotFoundError:
                return []

    def appender(self, topic: str, partition: str) -> EmbeddedAppender:
        """Open (and create, and recover) the partition. Raises LogLocked, LogCorrupt, LogFull, LogError."""
        directory = self._directory(topic, partition)
        with _os_errors(f"{directory}: cannot create"):
            _make_durably(directory)
        return EmbeddedAppender(directory, self._clock, self._segment_bytes)

    def reader(self, topic: str, partition: str, position: int = 0) -> EmbeddedReader:
        """A reader at ``position``; the partition need not exist yet."""
        directory = self._directory(topic, partition)
        return EmbeddedReader(directory, self._view(directory), position)

    def index(self, topic: str, partition: str, start: int, stop: int | None = None) -> Iterator[RecordIndex]:
        """See the contract. Raises LogCorrupt, LogError, while it is iterated too."""
        directory = self._directory(topic, partition)
        head = self._head(directory)
        if head is None:
            return iter(())
        stop = head.next_ordinal if stop is None else min(stop, head.next_ordinal)
        return _iterate(directory, head, start, stop)

    def totals(self, topic: str, partition: str, position: int | None = None) -> Totals:
        """See the contract. Raises LogCorrupt, LogError.

        ``position`` of the answer differs from the one asked for where the log does not reach: above the durable head
        it is the head's, below the oldest retained record that record's.
        """
        directory = self._directory(topic, partition)
        head = self._head(directory)
        if head is None:
            return Totals(0, {})
        asked = head.next_ordinal if position is None else min(position, head.next_ordinal)
        with _os_errors(f"{directory}: cannot read totals"):
            return totals_at(directory, head, asked)

    def check(self, topic: str, partition: str) -> list[str]:
        """See the contract. Payloads' checksums are checked too. Raises LogError if a file cannot be read."""
        directory = self._directory(topic, partition)
        with _os_errors(f"{directory}: cannot check"):
            try:
                head = self._head(directory)
            except LogError as error:
                return [str(error)]
            return check_partition(directory, head)

    def retain(self, topic: str, partition: str, *, consumed: int, older_than_ms: int, max_bytes: int) -> int:
        """See the contract. The segment that is appended to always stays. Raises LogCorrupt, LogError."""
        directory = self._directory(topic, partition)
        head = self._head(directory)
        if head is None:
            return 0
        with _os_errors(f"{directory}: cannot remove segments"):
            return drop_segments(directory, head, consumed, older_than_ms, max_bytes)

    def size_bytes(self, topic: str) -> int:
        """Bytes of all segment files of all partitions."""
        with _os_errors(f"{self._root / topic}: cannot measure"):
            return sum(
                sum(segment_sizes(self._directory(topic, partition)).values()) for partition in self.partitions(topic)
            )

    def _directory(self, topic: str, partition: str) -> Path:
        return self._root / _name(topic) / _name(partition)

    def _view(self, directory: Path) -> HeadView:
        view = self._heads.get(directory)
        if view is None:
            view = self._heads[directory] = HeadView(directory)
        return view

    def _head(self, directory: Path) -> Head | None:
        with _os_errors(f"{directory}: cannot read the head"):
            return self._view(directory).read()


def _iterate(directory: Path, head: Head, start: int, stop: int) -> Iterator[RecordIndex]:
    with _os_errors(f"{directory}: cannot read the index"):
        yield from walk_index(directory, head, start, stop)


def _name(name: str) -> str:
    """A topic or partition as a directory name. Raises LogError for anything that could lead elsewhere."""
    if not _NAME.fullmatch(name):
        raise LogError(f"{name!r} is no name for a topic or partition: use letters, digits, '.', '_' and '-'")
    return name


def _make_durably(directory: Path) -> None:
    """Create a directory and its parents so that they survive a loss of power. Raises OSError."""
    # The partition's and the topic's in any case: whoever made them may have died before they were durable.
    made_now = [directory, directory.parent]
    while not made_now[-1].parent.exists():
        made_now.append(made_now[-1].parent)
    directory.mkdir(parents=True, exist_ok=True)
    for made in made_now:
        sync_directory(made.parent)


@contextlib.contextmanager
def _os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (LogFull if error.errno in FULL_ERRORS else LogError)(f"{what}: {error}") from error
