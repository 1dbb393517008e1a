"""The files of the index and the filter in front of them, changed by one thread, read through immutable views.

Every change makes a new :class:`View`. The order of steps keeps what is on disk whole at every moment: run files are
durable before the manifest names them, filter bits are set before the manifest names their run, and files are removed
only after the manifest has forgotten them. What a crash leaves over is removed at the next opening.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from trunkline.dedupe import manifest as manifests
from trunkline.dedupe.errors import DedupeCorrupt
from trunkline.dedupe.files import give_way
from trunkline.dedupe.filter import PAGE_WORDS, SLICES, SlicedFilter, boot_id
from trunkline.dedupe.keys import DAY_MS, HOUR_MS
from trunkline.dedupe.manifest import LostRun, Manifest, RunEntry
from trunkline.dedupe.rows import Rows
from trunkline.dedupe.run import Run, RunWriter, merge

_log = structlog.get_logger(__name__)

MIN_WORDS = 2**16
MERGE_RUNS = 8
"""Runs of one hour in the slice that is being filled before they are merged."""


_PIECE_ROWS = 65_280
_FILTER_FIELDS = (
    "filter_name",
    "filter_words",
    "filter_identity",
    "fills",
    "synced",
    "synced_generation",
    "open_slice",
)


@dataclass(frozen=True, slots=True)
class View:
    """What look-ups read. ``live`` has the bits of the slices that have runs."""

    filter: SlicedFilter
    live: int
    by_slice: tuple[tuple[Run, ...], ...]
    checkpoint: str | None
    lost: tuple[LostRun, ...]

    def runs(self) -> list[Run]:
        return [run for runs in self.by_slice for run in runs]


@dataclass(slots=True)
class _Plan:
    """Where new runs go: the slice of each, the fills and the open slice afterwards, and slices to empty first."""

    slices: list[int]
    fills: list[int]
    open_slice: int
    fresh: list[int]


class Store:
    """Not thread-safe: call it from one thread at a time. After each call take :attr:`view`."""

    def __init__(self, directory: Path, *, secret_check: str, min_words: int = MIN_WORDS) -> None:
        """Open or create. Blocks while a filter that can't be trusted is built anew from the runs.

        Runs that are missing or damaged are set aside, logged and listed in the view's ``lost``. Raises DedupeCorrupt
        for the manifest, DedupeError for another secret (as a ``secret_check`` that differs), OSError.
        """
        if min_words < 2 * PAGE_WORDS or min_words & (min_words - 1):
            raise ValueError(f"min_words must be a power of two of at least {2 * PAGE_WORDS}")
        self.directory = directory
        self._min_words = min_words
        self._boot = boot_id()
        self._runs: dict[str, Run] = {}
        self._garbage: list[Path] = []
        found = manifests.load(directory)
        if found is None:
            self._manifest = Manifest(secret_check, "", 0, "")
            self._filter = self._new_filter(min_words)
            self._save()
        else:
            if found.secret_check != secret_check:
                raise DedupeCorrupt(
                    f"the dedupe index in {directory} was made with another secret; put the old secret back, or move "
                    "the directory away to build the index anew from the accepted log"
                )
            self._manifest = found
            lost = len(found.lost)
            self._open_runs()
            self._open_filter()
            if len(found.lost) != lost:
                self._save()
        self._remove_strays()
        self.view = self._make_view()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open_runs(self) -> None:
        for entry in list(self._manifest.runs):
            try:
                run = Run(self.directory / entry.name)
                if (run.hour, run.rows) != (entry.hour, entry.rows):
                    run.close()
                    raise DedupeCorrupt(f"dedupe run {run.path} is not the one that the manifest describes")
            except (DedupeCorrupt, FileNotFoundError) as error:
                self._set_aside(entry, error)
            else:
                self._runs[entry.name] = run

    def _open_filter(self) -> None:
        entry = self._manifest
        path = self.directory / entry.filter_name
        size_bytes = path.stat().st_size if path.exists() else -1
        if size_bytes == 4096 + entry.filter_words * 8:
            table = SlicedFilter(path, entry.filter_words, bytes.fromhex(entry.filter_identity), create=False)
            if table.trusted(entry.generation, self._boot):
                self._filter = table
                table.mark(entry.generation, self._boot)
                table.will_need()
                return
            if table.trusted(entry.synced_generation, None):
                self._filter = table
                self._add_unsynced()
                table.mark(entry.generation, self._boot)
                return
        _log.info("dedupe.filter_rebuild", reason="not trusted after a restart of the machine", keys=self._rows())
        self._rebuild(entry.filter_words, polite=False)
        self._save()

    def _add_unsynced(self) -> None:
        """Set the bits that a power cut may have taken: those of the slices that were not on disk for certain."""
        for entry in [entry for entry in self._manifest.runs if entry.slice not in self._manifest.synced]:
            try:
                for rows in self._runs[entry.name]:
                    self._filter.add(rows, entry.slice, polite=False)
            except DedupeCorrupt as error:
                self._set_aside(entry, error)

    def _remove_strays(self) -> None:
        named = {entry.name for entry in self._manifest.runs} | {self._manifest.filter_name}
        for path in self.directory.iterdir():
            if path.suffix in (".run", ".filter") and path.name not in named:
                path.unlink()

    # -- state -------------------------------------------------------------------------------------------------------

    def _rows(self) -> int:
        return sum(entry.rows for entry in self._manifest.runs)

    def _make_view(self) -> View:
        by_slice: list[list[Run]] = [[] for _ in range(SLICES)]
        for entry in self._manifest.runs:
            by_slice[entry.slice].append(self._runs[entry.name])
        live = sum(1 << number for number, runs in enumerate(by_slice) if runs)
        return View(
            self._filter,
            live,
            tuple(tuple(runs) for runs in by_slice),
            self._manifest.checkpoint,
            tuple(self._manifest.lost),
        )

    def _save(self) -> None:
        self._manifest.generation += 1
        self._filter.mark_covers(self._manifest.generation, self._boot)
        manifests.save(self.directory, self._manifest)
        for path in self._garbage:
            path.unlink(missing_ok=True)
        self._garbage.clear()

    def _commit(self, *, add: Iterable[RunEntry] = (), drop: Iterable[RunEntry] = (), **changes: object) -> None:
        """Save a manifest with these runs added and dropped, then make the view; undo all when saving fails."""
        dropped = {entry.name for entry in drop}
        changes["runs"] = [entry for entry in self._manifest.runs if entry.name not in dropped] + list(add)
        before = {name: getattr(self._manifest, name) for name in changes}
        try:
            for name, value in changes.items():
                setattr(self._manifest, name, value)
            self._save()
        except BaseException:
            for name, value in before.items():
                setattr(self._manifest, name, value)
            raise
        self.view = self._make_view()
        for name in dropped:
            # An open file lives on until the last view that has the run is let go.
            self._runs.pop(name)
            (self.directory / name).unlink(missing_ok=True)

    def _set_aside(self, entry: RunEntry, error: Exception) -> None:
        path = self.directory / entry.name
        if path.exists():
            path.rename(path.with_suffix(".corrupt"))
        self._runs.pop(entry.name, None)
        self._manifest.runs = [other for other in self._manifest.runs if other.name != entry.name]
        self._manifest.lost = [*self._manifest.lost, LostRun(entry.name, entry.hour, entry.rows)]
        _log.error(
            "dedupe.run_set_aside",
            file=str(path),
            error=str(error),
            hour_start_ms=entry.hour * HOUR_MS,
            keys=entry.rows,
            mend="duplicates of events received in this hour may pass until it is 24 h old; to close the gap, stop, "
            "move the index directory away and start: it is then rebuilt from the accepted log",
        )

    # -- filter ------------------------------------------------------------------------------------------------------

    def _new_filter(self, words: int) -> SlicedFilter:
        number = self._manifest.next_file
        self._manifest.next_file += 1
        identity = os.urandom(16)
        table = SlicedFilter(self.directory / f"{number:08d}.filter", words, identity, create=True)
        self._manifest.filter_name = table.path.name
        self._manifest.filter_words = words
        self._manifest.filter_identity = identity.hex()
        self._manifest.fills = [0] * SLICES
        self._manifest.synced = []
        self._manifest.synced_generation = 0
        self._manifest.open_slice = 0
        return table

    def _plan(self, sizes: Sequence[int]) -> _Plan | None:
        """A slice for each new run, or None when they don't all find room. Changes nothing."""
        capacity = self._filter.slice_capacity
        plan = _Plan([], list(self._manifest.fills), self._manifest.open_slice, [])
        used = {entry.slice for entry in self._manifest.runs}
        for size in sizes:
            if size > capacity:
                return None
            if plan.fills[plan.open_slice] + size > capacity:
                free = next((number for number in range(SLICES) if number not in used), None)
                if free is None:
                    return None
                plan.open_slice, plan.fills[free] = free, 0
                plan.fresh.append(free)
            plan.fills[plan.open_slice] += size
            used.add(plan.open_slice)
            plan.slices.append(plan.open_slice)
        return plan

    def _make_room(self, sizes: Sequence[int]) -> _Plan:
        """A plan for the new runs; makes the table larger when there is none, and empties the slices to be used."""
        plan = self._plan(sizes)
        words = self._min_words
        largest = max([*sizes, *(entry.rows for entry in self._manifest.runs)], default=0)
        while words < 16 * largest or words < (self._rows() + sum(sizes)) / 3:
            words *= 2  # until the runs fill three quarters of it
        while plan is None:
            _log.info("dedupe.filter_rebuild", reason="no room", words=words, keys=self._rows())
            self._rebuild(words)
            self._save()
            self.view = self._make_view()
            plan = self._plan(sizes)
            words *= 2
        for number in plan.fresh:
            if self._manifest.fills[number]:
                self._filter.clear(number)
        return plan

    def _rebuild(self, words: int, *, polite: bool = True) -> None:
        """Make a new filter and set the bits of all runs, packed into slices by hour. Readers keep their mapping of
        the old one; its file goes with the next manifest.
        """
        manifest = self._manifest
        before = {name: getattr(manifest, name) for name in _FILTER_FIELDS}
        old_path = self.directory / manifest.filter_name
        table = self._new_filter(words)
        try:
            packed: list[RunEntry] = []
            number = 0
            for entry in sorted(manifest.runs, key=lambda entry: (entry.hour, entry.name)):
                if manifest.fills[number] and manifest.fills[number] + entry.rows > table.slice_capacity:
                    # The last slice takes the overflow: a higher rate of false positives, never a wrong answer.
                    number = min(number + 1, SLICES - 1)
                try:
                    for rows in self._runs[entry.name]:
                        table.add(rows, number, polite=polite)
                except DedupeCorrupt as error:
                    self._set_aside(entry, error)
                    continue
                manifest.fills[number] += entry.rows
                packed.append(msgspec.structs.replace(entry, slice=number))
        except BaseException:
            for name, value in before.items():
                setattr(manifest, name, value)
            table.path.unlink(missing_ok=True)
            raise
        manifest.open_slice = number
        manifest.runs = packed
        self._filter = table
        self._garbage.append(old_path)

    # -- changes -----------------------------------------------------------------------------------------------------

    def _write_run(self, hour: int, sources: Rows | list[Run], prefix: str) -> RunEntry:
        name = f"{self._manifest.next_file:08d}.run"
        self._manifest.next_file += 1
        writer = RunWriter(self.directory / name, hour, prefix)
        try:
            if isinstance(sources, Rows):
                for start in range(0, len(sources), _PIECE_ROWS):
                    writer.write(sources.slice(start, start + _PIECE_ROWS))
                    give_way()
            else:
                merge(sources, writer)
            size_bytes = writer.finish()
            self._runs[name] = Run(self.directory / name)
        except BaseException:
            writer.abandon()
            raise
        return RunEntry(name, hour, writer.rows, 0, size_bytes)

    def write(self, hours: Iterable[tuple[int, Rows]], checkpoint: str | None) -> None:
        """Make runs of sorted rows, one an hour, and record the checkpoint, both durably and in one step.

        Raises OSError; all is then as it was before.
        """
        pieces = [(hour, rows) for hour, rows in hours if len(rows)]
        added: list[RunEntry] = []
        try:
            for hour, rows in pieces:
                added.append(self._write_run(hour, rows, "dedupe.flush"))
            plan = self._make_room([entry.rows for entry in added])
            for number, (_, rows) in zip(plan.slices, pieces, strict=True):
                self._filter.add(rows, number)
            self._commit(
                add=[
                    msgspec.structs.replace(entry, slice=number)
                    for entry, number in zip(added, plan.slices, strict=True)
                ],
                fills=plan.fills,
                synced=[number for number in self._manifest.synced if number not in plan.slices],
                open_slice=plan.open_slice,
                checkpoint=self._manifest.checkpoint if checkpoint is None else checkpoint,
            )
        except BaseException:
            self._discard(added)
            raise

    def _discard(self, added: Iterable[RunEntry]) -> None:
        for entry in added:
            del self._runs[entry.name]
            (self.directory / entry.name).unlink(missing_ok=True)

    def expire(self, now_ms: int) -> int:
        """Drop the hours that ended 24 h or longer before ``now_ms``; return how many keys they had."""
        last = (now_ms - DAY_MS) // HOUR_MS - 1
        drop = [entry for entry in self._manifest.runs if entry.hour <= last]
        lost = [entry for entry in self._manifest.lost if entry.hour > last]
        if drop or len(lost) != len(self._manifest.lost):
            self._commit(drop=drop, lost=lost)
        return sum(entry.rows for entry in drop)

    def set_aside(self, run: Run, error: Exception) -> None:
        """Take a run that proved damaged out of the index, and say so."""
        for entry in self._manifest.runs:
            if entry.name == run.path.name:
                self._set_aside(entry, error)
                self._save()
                self.view = self._make_view()
                return

    def _merge_candidates(self) -> list[RunEntry]:
        groups: dict[tuple[int, int], list[RunEntry]] = {}
        for entry in self._manifest.runs:
            groups.setdefault((entry.slice, entry.hour), []).append(entry)
        for (number, _), group in sorted(groups.items()):
            if len(group) >= MERGE_RUNS or (len(group) >= 2 and number != self._manifest.open_slice):
                return group
        return []

    def sync_closed(self) -> None:
        """Put the bits of slices that get no more runs on disk, so that a power cut can't take them."""
        closed = {entry.slice for entry in self._manifest.runs} - {self._manifest.open_slice}
        if closed - set(self._manifest.synced):
            generation = self._manifest.generation
            self._filter.sync()
            self._commit(synced=sorted(closed | set(self._manifest.synced)), synced_generation=generation)

    def merge_some(self) -> bool:
        """Merge the runs of one hour in one slice, if any are worth it; true when there is more to do. The bits of
        the filter stay as they are.
        """
        group = self._merge_candidates()
        if not group:
            return False
        try:
            merged = self._write_run(group[0].hour, [self._runs[entry.name] for entry in group], "dedupe.merge")
        except DedupeCorrupt as error:
            for entry in group:
                if self._runs[entry.name].bad:
                    self._set_aside(entry, error)
            self._save()
            self.view = self._make_view()
            return True
        merged = msgspec.structs.replace(merged, slice=group[0].slice)
        try:
            self._commit(add=[merged], drop=group)
        except BaseException:
            self._discard([merged])
            raise
        return True

    def close(self) -> None:
        """Mark the filter as whole and close all files."""
        self._filter.mark(self._manifest.generation, self._boot, clean=True)
        for run in self._runs.values():
            run.close()
        self._runs.clear()
