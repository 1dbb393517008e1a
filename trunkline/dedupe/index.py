"""What the worker calls: :class:`DedupeIndex`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog

from trunkline.clock import Clock, SystemClock
from trunkline.dedupe.errors import DedupeCorrupt, DedupeError, DedupeFull, DedupeLocked
from trunkline.dedupe.filter import PAGE_WORDS, PROBES
from trunkline.dedupe.keys import DAY_MS, HOUR_MS, KEY_BYTES, KeyMaker
from trunkline.dedupe.memtable import Memtable
from trunkline.dedupe.rows import split_keys
from trunkline.dedupe.run import Run
from trunkline.dedupe.store import MIN_WORDS, Store, View
from trunkline.files import sync_directory

_log = structlog.get_logger(__name__)

MEMTABLE_KEYS = 250_000
MEMTABLE_AGE_S = 3600.0
RETRY_S = 5.0
HOLD_BACK_S = 0.004
"""What a call waits at most when keys come in faster than they can be written."""
_VECTOR_KEYS = 16
"""From so many keys a call on, numpy is quicker than reading the filter word by word (measured)."""
_HALVES = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class DedupeStats:
    """``keys`` counts entries in memory and on disk, ``memtable_keys`` those in memory only; ``hours`` and ``runs``
    are of the disk.

    ``memory_bytes`` is the index's own share: filter, fences and memtables (an estimate). ``last_error`` is the last
    background failure, None once a later attempt succeeded. ``lost_hours_ms`` are the starts of hours of which a
    damaged run was set aside: duplicates of events received then may pass until the hour expires.
    """

    keys: int
    memtable_keys: int
    hours: int
    runs: int
    memory_bytes: int
    disk_bytes: int
    last_error: str | None
    lost_hours_ms: tuple[int, ...]


class DedupeIndex:
    """First sight or duplicate? Exact at 128 bits, for 24 h, durable from one flush to the next.

    A key is a duplicate at time ``t`` when the index has an entry of it with ``|t - first| < 24 h``; otherwise it is a
    first sight and gets an entry at ``t``. Duplicates refresh nothing. Times may come in any order.

    Call all methods from one thread. What takes long (sorting, writing, fsync, merging, growing the filter) runs in
    one background thread; results are taken over at the start of the next call.

    What was added since the last flush is in memory only. The owner keeps those keys in a durable log of its own and
    gives them to :meth:`restore` after opening, from :attr:`checkpoint` on.
    """

    def __init__(
        self,
        directory: Path,
        *,
        secret: bytes,
        clock: Clock | None = None,
        memtable_keys: int = MEMTABLE_KEYS,
        min_filter_words: int = MIN_WORDS,
    ) -> None:
        """Open, or create with its parents.

        Opening takes milliseconds after an ordered stop or a kill. After a power cut the bits of the slice that was
        being filled are set again first (1 or 2 s at 100 million keys); if the filter's file is lost, all of them
        (about 0.3 s a million keys). Damaged runs are set aside as ``*.corrupt``, logged and shown in :meth:`stats`.

        Raises ValueError (secret not 1 to 64 bytes), DedupeLocked, DedupeCorrupt (manifest, another secret),
        DedupeError (anything the system refuses).
        """
        self._maker = KeyMaker(secret)
        self.key = self._maker.key
        self.keys = self._maker.keys
        self._clock: Clock = clock or SystemClock()
        self._memtable_keys = memtable_keys
        try:
            directory.mkdir(parents=True, exist_ok=True)
            sync_directory(directory.parent)
            self._lock_fd = self._lock(directory)
        except OSError as error:
            raise DedupeError(f"dedupe index {directory} cannot be opened: {error}") from error
        try:
            self._store = Store(directory, secret_check=self._maker.fingerprint, min_words=min_filter_words)
        except OSError as error:
            os.close(self._lock_fd)
            kind = DedupeFull if error.errno == errno.ENOSPC else DedupeError
            raise kind(f"dedupe index {directory} cannot be opened: {error}") from error
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._view = self._store.view
        self._active = Memtable()
        self._active_since_s = 0.0
        self._frozen: Memtable | None = None
        self._frozen_checkpoint = ""
        self._flushing = False
        self._expiring = False
        self._merge_again = False
        self._closing = False
        self._full = False
        self._last_error: str | None = None
        self._retry_at_s = 0.0
        self._background = ThreadPoolExecutor(1, thread_name_prefix="dedupe")
        self._jobs: deque[tuple[Future[View], Callable[[Exception | None], None]]] = deque()

    @staticmethod
    def _lock(directory: Path) -> int:
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise DedupeLocked(
                f"dedupe index {directory} is open in another process; stop that one, or use another data directory"
            ) from None
        return fd

    # -- look-up and insert ------------------------------------------------------------------------------------------

    def add_new(self, keys: Sequence[bytes], times_ms: Sequence[int]) -> list[bool]:
        """For each key (16 bytes) with its receivedAt (epoch ms), in order: True = first sight, now inserted; False =
        duplicate. Duplicates within the call are found too.

        Raises DedupeError when the disk can't be read; a part of the keys may then be inserted.
        """
        if self._jobs:
            self._adopt()
            if self._flushing and len(self._active) > self._memtable_keys:
                self._hold_back()
        on_disk = self._on_disk(keys, times_ms) if self._view.live else None
        active = self._active
        first, columns = active.first, active.times
        if not columns:
            self._active_since_s = self._clock.monotonic_s()
        frozen = self._frozen.first if self._frozen is not None else None
        is_fresh = not on_disk and len(set(keys)) == len(keys) and first.keys().isdisjoint(keys)
        if is_fresh and (frozen is None or frozen.keys().isdisjoint(keys)):  # nearly always, and quicker
            active.add_unseen(keys, times_ms)
            return [True] * len(keys)
        append_key, append_time = active.keys.extend, columns.append
        answers: list[bool] = []
        answer = answers.append
        for at, key in enumerate(keys):
            time_ms = times_ms[at]
            if on_disk is not None and at in on_disk:
                answer(False)
                continue
            seen = first.get(key)
            if seen is None and (frozen is None or key not in frozen):
                first[key] = time_ms
                append_key(key)
                append_time(time_ms)
                answer(True)
            elif seen is not None and -DAY_MS < time_ms - seen < DAY_MS:
                answer(False)
            else:
                answer(self._add_again(key, time_ms))
        return answers

    def _add_again(self, key: bytes, time_ms: int) -> bool:
        """The rare case: the key is in a memtable with more than one entry, or with one that may be too far away."""
        entries = self._active.entries(key)
        if self._frozen is not None:
            entries += self._frozen.entries(key)
        if any(-DAY_MS < time_ms - seen < DAY_MS for seen in entries):
            return False
        self._active.add(key, time_ms)
        return True

    def _on_disk(self, keys: Sequence[bytes], times_ms: Sequence[int]) -> set[int]:
        """Places of the keys that a run has within 24 h."""
        view = self._view
        table = view.filter
        live = view.live
        found: set[int] = set()
        if len(keys) < _VECTOR_KEYS:
            words, shift = table.view, table.shift
            for at, key in enumerate(keys):
                hi, lo = _HALVES.unpack(key)
                page = (hi >> shift) * PAGE_WORDS
                slices = live
                for _ in range(PROBES):
                    slices &= words[page + (lo & 511)]
                    lo >>= 9
                if slices and self._probe(view, key, hi, times_ms[at], slices):
                    found.add(at)
            return found
        his, los = split_keys(b"".join(keys))
        candidates = table.candidates(his, los)
        candidates &= np.uint64(live)
        for at in np.flatnonzero(candidates).tolist():
            if self._probe(view, keys[at], int(his[at]), times_ms[at], int(candidates[at])):
                found.add(at)
        return found

    def _probe(self, view: View, key: bytes, hi: int, time_ms: int, slices: int) -> bool:
        """Whether a run of these slices has the key within 24 h."""
        while slices:
            lowest = slices & -slices
            slices ^= lowest
            for run in view.by_slice[lowest.bit_length() - 1]:
                if run.bad or not -DAY_MS < time_ms - run.start_ms < DAY_MS + HOUR_MS:
                    continue
                try:
                    seen = run.find(key, hi)
                except DedupeCorrupt as error:
                    self._set_aside(run, error)
                    continue
                if seen and any(-DAY_MS < time_ms - other < DAY_MS for other in seen):
                    return True
        return False

    def restore(self, keys: bytes, times_ms: Sequence[int]) -> None:
        """Insert keys (16 bytes each, end to end) with the times of their first sight, as they were once accepted.

        Idempotent. Look at :attr:`should_flush` between calls when there may be many. Raises ValueError when the
        numbers of keys and times differ.
        """
        if len(keys) != len(times_ms) * KEY_BYTES:
            raise ValueError(f"{len(keys)} bytes of keys do not fit {len(times_ms)} times")
        if self._jobs:
            self._adopt()
            if self._flushing and len(self._active) > self._memtable_keys:
                self._hold_back()
        active = self._active
        if not len(active):
            self._active_since_s = self._clock.monotonic_s()
        for at, time_ms in enumerate(times_ms):
            key = keys[at * KEY_BYTES : (at + 1) * KEY_BYTES]
            seen = active.first.get(key)
            if seen is None or (seen != time_ms and time_ms not in active.more.get(key, ())):
                active.add(key, time_ms)

    # -- flushing ----------------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> str | None:
        """As given to the last flush that succeeded: all that was added before it is in the index's own files."""
        if self._jobs:
            self._adopt()
        return self._view.checkpoint

    @property
    def unflushed(self) -> int:
        """Entries in memory only."""
        if self._jobs:
            self._adopt()
        return len(self._active) + (len(self._frozen) if self._frozen is not None else 0)

    @property
    def should_flush(self) -> bool:
        """Whether a flush is worth it now: the memtable is full or an hour old, or a failed flush is due again."""
        if self._jobs:
            self._adopt()
        if self._flushing:
            return False
        if self._last_error is not None and self._clock.monotonic_s() < self._retry_at_s:
            return False
        if self._frozen is not None or len(self._active) >= self._memtable_keys:
            return True
        return bool(len(self._active)) and self._clock.monotonic_s() - self._active_since_s >= MEMTABLE_AGE_S

    def flush(self, checkpoint: str, *, wait: bool = False) -> bool:
        """Begin to write the memtable as runs; ``checkpoint`` becomes :attr:`checkpoint` once they are durable.

        Returns at once, and False when nothing could be begun because the flush before is still being written (or
        has failed and is tried again now, with its own checkpoint): call again later. With ``wait``: returns True
        when everything is durable, else raises DedupeFull or DedupeError. A flush that fails loses nothing: its keys
        stay in memory, and the next flush tries them first.
        """
        if self._jobs:
            self._adopt()
        if wait:
            if self._frozen is not None:
                self._write_frozen()
                self._settle(flush_only=True)
            if self._frozen is None:
                self._freeze(checkpoint)
                self._settle(flush_only=True)
            if self._frozen is not None:
                raise (DedupeFull if self._full else DedupeError)(self._last_error or "dedupe flush failed")
            return True
        if self._frozen is not None:
            self._write_frozen()
            return False
        self._freeze(checkpoint)
        return True

    def _freeze(self, checkpoint: str) -> None:
        self._frozen, self._active = self._active, Memtable()
        self._frozen_checkpoint = checkpoint
        self._write_frozen()

    def _write_frozen(self) -> None:
        frozen, checkpoint, store = self._frozen, self._frozen_checkpoint, self._store
        if frozen is None or self._flushing:
            return
        self._flushing = True

        def write() -> View:
            store.write(frozen.hours(), checkpoint)
            return store.view

        def written(error: Exception | None) -> None:
            self._flushing = False
            if error is None:
                self._frozen = None
                self._last_error = None
                self._background.submit(frozen.release)
                if not self._closing:
                    self._submit(self._merge, self._merged)

        self._submit(write, written)

    def _merge(self) -> View:
        self._store.sync_closed()
        self._merge_again = self._store.merge_some()
        return self._store.view

    def _merged(self, error: Exception | None) -> None:
        # One at a time, so that a flush waits for one merge at most.
        if error is None and self._merge_again and not self._closing:
            self._submit(self._merge, self._merged)

    def expire(self, now_ms: int) -> int:
        """Drop the hours on disk that ended 24 h or longer before ``now_ms``; returns how many keys they have.

        The files go in the background. Entries in memory are dropped the same way after their flush. Give it a time
        that no event still to come is older than: while a backlog is worked off, that is the receivedAt reached, not
        the time of day.
        """
        if self._jobs:
            self._adopt()
        last_hour = (now_ms - DAY_MS) // HOUR_MS - 1
        keys = sum(run.rows for run in self._view.runs() if run.start_ms <= last_hour * HOUR_MS)
        lost = any(lost.hour <= last_hour for lost in self._view.lost)
        if self._expiring or not (keys or lost):
            return 0
        self._expiring = True
        store = self._store

        def drop() -> View:
            store.expire(now_ms)
            return store.view

        def dropped(error: Exception | None) -> None:
            self._expiring = False

        self._submit(drop, dropped)
        return keys

    def _set_aside(self, run: Run, error: Exception) -> None:
        store = self._store

        def set_aside() -> View:
            store.set_aside(run, error)
            return store.view

        self._submit(set_aside, lambda _: None)

    # -- the background ----------------------------------------------------------------------------------------------

    def _submit(self, job: Callable[[], View], done: Callable[[Exception | None], None]) -> None:
        self._jobs.append((self._background.submit(job), done))

    def _adopt(self) -> None:
        """Take over the results of finished jobs, in order."""
        while self._jobs and self._jobs[0][0].done():
            future, done = self._jobs.popleft()
            error = future.exception()
            if error is None:
                self._view = future.result()
                done(None)
            elif isinstance(error, Exception):
                self._last_error = str(error)
                self._full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                self._retry_at_s = self._clock.monotonic_s() + RETRY_S
                _log.error("dedupe.background_failed", error=str(error), unflushed_keys=len(self._active))
                done(error)
            else:
                raise error

    def _hold_back(self) -> None:
        """Lend the interpreter to the background for a moment, so that memtables can't outgrow what is written."""
        with contextlib.suppress(TimeoutError):
            self._jobs[0][0].exception(timeout=HOLD_BACK_S)
        self._adopt()

    def _settle(self, *, flush_only: bool = False) -> None:
        """Wait for all background work, or until no flush is under way."""
        while self._jobs and (self._flushing or not flush_only):
            self._jobs[0][0].exception()
            self._adopt()

    def stats(self) -> DedupeStats:
        """A snapshot of sizes and health; cheap enough for a metrics endpoint."""
        if self._jobs:
            self._adopt()
        view = self._view
        runs = view.runs()
        memory = len(self._active) + (len(self._frozen) if self._frozen is not None else 0)
        memtables = [self._active, *([self._frozen] if self._frozen is not None else [])]
        return DedupeStats(
            keys=sum(run.rows for run in runs) + memory,
            memtable_keys=memory,
            hours=len({run.start_ms for run in runs}),
            runs=len(runs),
            memory_bytes=view.filter.size_bytes
            + sum(run.memory_bytes for run in runs)
            + sum(memtable.memory_bytes for memtable in memtables),
            disk_bytes=view.filter.size_bytes + sum(run.size_bytes for run in runs),
            last_error=self._last_error,
            lost_hours_ms=tuple(sorted({lost.hour * HOUR_MS for lost in view.lost})),
        )

    def close(self) -> None:
        """End background work and close the files. Does not flush: what is unflushed comes back by :meth:`restore`."""
        if self._lock_fd < 0:
            return
        self._closing = True
        self._settle()
        self._background.shutdown()
        try:
            self._store.close()
        finally:
            os.close(self._lock_fd)
            self._lock_fd = -1
