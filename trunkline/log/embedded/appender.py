"""The one writer of a partition: a block for each append, on disk before the call returns."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from trunkline.clock import Clock
from trunkline.failpoints import failpoint
from trunkline.files import sync_directory
from trunkline.log.base import LogError, LogFull, LogLocked, NewRecord
from trunkline.log.embedded.format import (
    BLOCK_HEADER_BYTES,
    FLAG_FULL_TOTALS,
    MAX_BLOCK_BYTES,
    encode_block_start,
    encode_index,
    encode_segment_header,
    segment_name,
)
from trunkline.log.embedded.head import HeadWriter
from trunkline.log.embedded.recovery import NEW_SUFFIX, recover

LOCK_FILE: Final = "lock"
FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that say that there is no room, not that the disk is broken."""
FULL_TOTALS_EVERY_BYTES: Final = 1 << 20


class EmbeddedAppender:
    """See :class:`trunkline.log.base.Appender`. Open it through :class:`~trunkline.log.embedded.EmbeddedLog`.

    ``truncated_bytes`` tells how much of an unfinished append was cut off when the partition was opened.
    """

    def __init__(self, directory: Path, clock: Clock, segment_bytes: int) -> None:
        """Take the lock, recover, publish the head. The directory must exist.

        Raises LogLocked, LogCorrupt, LogFull, LogError.
        """
        self._directory = directory
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._failure: str | None = None
        self._fd = -1
        self._first = self._next = self._offset = self._full_totals_at = self._salt = 0
        self._totals: dict[str, int] = {}
        self._newest_append_ms = 0
        self.truncated_bytes = 0
        self._lock_fd = _lock(directory)
        try:
            self._head = HeadWriter(directory)
        except OSError as error:
            os.close(self._lock_fd)
            raise _log_error(error, f"{directory}: cannot open the head") from error
        except BaseException:
            os.close(self._lock_fd)
            raise
        try:
            self._open()
        except BaseException as error:
            self._release()
            if isinstance(error, OSError):
                raise _log_error(error, f"{directory}: cannot open for appending") from error
            raise

    def _open(self) -> None:
        recovered = recover(self._directory, self._head.last)
        if recovered is None:
            self._start_segment()
        else:
            self._next = recovered.next_ordinal
            self._totals = recovered.totals
            self._newest_append_ms = recovered.newest_append_ms
            self._first = recovered.header.first_ordinal
            self._salt = recovered.header.salt
            self._offset = recovered.offset
            self._full_totals_at = recovered.full_totals_at
            self.truncated_bytes = recovered.truncated_bytes
            # The renaming that made the segment may have been cut off before it was durable.
            sync_directory(self._directory)
            self._fd = os.open(recovered.path, os.O_RDWR)
        self._head.publish(self._first, self._offset, self._next)
        self._head.sync()

    @property
    def head(self) -> int:
        return self._next

    def append(self, records: Sequence[NewRecord]) -> list[int]:
        """One durable block of all records. Raises LogFull (nothing was appended) or LogError."""
        if self._failure is not None:
            raise LogError(self._failure)
        if not records:
            return []
        first = self._next
        touched: dict[str, int] = {}
        for record in records:
            for key, count in record.counts.items():
                touched[key] = touched.get(key, 0) + count
        totals = self._totals
        for key, count in touched.items():
            touched[key] = totals.get(key, 0) + count
        payloads = b"".join([record.payload for record in records])
        if len(payloads) > MAX_BLOCK_BYTES:
            raise LogError(f"an append of {len(payloads)} bytes; at most {MAX_BLOCK_BYTES} are possible")
        full_totals = self._offset - self._full_totals_at >= FULL_TOTALS_EVERY_BYTES
        lengths = [len(record.payload) for record in records]
        counts = [record.counts for record in records]
        index = encode_index(lengths, counts, totals | touched if full_totals else touched)
        try:
            if self._offset + BLOCK_HEADER_BYTES + len(index) + len(payloads) > self._segment_bytes and (
                self._next > self._first
            ):
                self._roll()
            appended_ms = self._clock.now_ms()
            flags = FLAG_FULL_TOTALS if full_totals else 0
            start = encode_block_start(index, payloads, len(records), first, appended_ms, self._salt, flags)
            end = self._write(start, payloads)
            self._head.publish(self._first, end, first + len(records))
        except OSError as error:
            self._take_back(error)
        except BaseException:
            # A signal handler's exception, for one: whether the block is on disk is not known here.
            self._fail_unless_failed("an append was interrupted; open the partition anew")
            raise
        if full_totals:
            self._full_totals_at = self._offset
        self._offset = end
        self._next = first + len(records)
        totals.update(touched)
        self._newest_append_ms = appended_ms
        return list(range(first, self._next))

    def close(self) -> None:
        """Release the partition. May be called twice."""
        if self._lock_fd < 0:
            return
        self._fail_unless_failed("the appender is closed")
        with contextlib.suppress(OSError):  # a head that is too low after a loss of power is mended on opening
            self._head.sync()
        self._release()

    def _release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._head.close()
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _write(self, start: bytes, payloads: bytes) -> int:
        """Bring a block to disk behind the last one; return where it ends."""
        failpoint("log.append.before_write")
        offset = self._offset
        size = len(start) + len(payloads)
        written = os.pwritev(self._fd, (start, payloads), offset)
        while written < size:
            # A short write is how a disk says that it is full now; writing on makes it say so as an error.
            rest = memoryview(start + payloads)[written:]
            more = os.pwrite(self._fd, rest, offset + written)
            if not more:
                raise OSError(errno.ENOSPC, "the disk takes no more bytes")
            written += more
        failpoint("log.append.after_write")
        self._sync(self._fd, "the last append")
        failpoint("log.append.after_fsync")
        return offset + size

    def _sync(self, fd: int, what: str) -> None:
        try:
            os.fdatasync(fd)
        except OSError as error:
            # The kernel may now hold pages for clean that never reached the disk, and a second sync would succeed
            # without writing them. So nothing read back through the page cache proves anything: the appender ends
            # here, the suspect bytes are dropped, and opening anew verifies and rewrites what is left.
            self._failure = self._say(f"{what} could not be synced ({error}); open the partition anew")
            if fd == self._fd:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, self._offset)
            raise LogError(self._failure) from error

    def _take_back(self, error: OSError) -> NoReturn:
        """Leave the log as it was before an append that failed."""
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError as again:
            self._failure = self._say(f"a failed append ({error}) could not be taken back ({again})")
            raise LogError(self._failure) from error
        # Else a loss of power could bring an append back that the caller was told is not there.
        self._sync(self._fd, "taking back a failed append")
        if error.errno in FULL_ERRORS:
            raise LogFull(self._say(f"no room for an append: {error}")) from error
        self._failure = self._say(f"an append failed: {error}; open the partition anew")
        raise LogError(self._failure) from error

    def _roll(self) -> None:
        self._start_segment()
        # So that the head on disk is never more than a segment behind.
        self._head.publish(self._first, self._offset, self._next)
        self._head.sync()

    def _start_segment(self) -> None:
        """Make the segment of the next record and go on in it. Raises OSError (all is as before), LogError.

        It gets its name only when its header is durable: a segment file with a bad header is damage, never a crash.
        """
        salt = secrets.randbits(32)
        header = encode_segment_header(self._next, self._clock.now_ms(), self._newest_append_ms, salt, self._totals)
        path = self._directory / segment_name(self._next)
        made = path.with_suffix(NEW_SUFFIX)
        fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            if os.pwrite(fd, header, 0) != len(header):
                raise OSError(errno.ENOSPC, "the disk takes no more bytes", str(made))
            failpoint("log.roll.before_fsync")
            self._sync(fd, "a new segment")
            made.rename(path)
        except BaseException:
            os.close(fd)
            made.unlink(missing_ok=True)
            raise
        try:
            sync_directory(self._directory)
        except OSError as error:
            # The new segment may be there after a loss of power or not, so neither it nor the old one can be used.
            os.close(fd)
            self._failure = self._say(f"the next segment's name could not be synced ({error}); open the partition anew")
            raise LogError(self._failure) from error
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._first, self._salt = fd, self._next, salt
        self._offset = self._full_totals_at = len(header)
        failpoint("log.roll.after_fsync")

    def _fail_unless_failed(self, what: str) -> None:
        if self._failure is None:
            self._failure = self._say(what)

    def _say(self, what: str) -> str:
        return f"{self._directory / segment_name(self._first)}: {what}"


def _lock(directory: Path) -> int:
    """Take the partition's lock, which the kernel releases when this process ends. Raises LogLocked, LogError."""
    path = directory / LOCK_FILE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _log_error(error, f"{path}: cannot open the lock") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise LogError(f"{path}: cannot lock: {error}") from error
        raise LogLocked(
            f"{directory}: process {holder} appends to this partition already; stop it, or use another data directory"
        ) from error
    with contextlib.suppress(OSError):  # who holds the lock is said for people; on a full disk it may stay unsaid
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _log_error(error: OSError, what: str) -> LogError:
    return (LogFull if error.errno in FULL_ERRORS else LogError)(f"{what}: {error}")
