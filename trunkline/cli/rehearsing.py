"""What `rehearse` and `filters try` share: opening what is recorded, running with progress, ending early in order."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trunkline.archive.errors import ArchiveError
from trunkline.archive.open_store import open_store
from trunkline.cli.priority import give_way
from trunkline.cli.stores import open_state
from trunkline.cli.times import time_text
from trunkline.clock import Clock
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.log.base import ACCEPTED, LogError
from trunkline.log.embedded import EmbeddedLog
from trunkline.observe.wording import count_text
from trunkline.rehearsal.recorded import AcceptedArchive, BlockedArchive
from trunkline.rehearsal.run import Rehearsal
from trunkline.rehearsal.traffic import BATCH_EVENTS, Coverage, Traffic, Wanted, waiting_events
from trunkline.rehearsal.world import World
from trunkline.runtime.layout import DataDir
from trunkline.settings import Settings
from trunkline.state.base import StateError
from trunkline.workspace.model import Snapshot

DEFAULT_SINCE: Final = "24h"
LIMIT_HELP: Final = (
    "Only about so many of the newest events: whole records, so rather some more. Default: all of the time."
)

_FIRST_BATCH_EVENTS: Final = 20
_BATCH_S: Final = 0.1
"""How long a batch may take: Ctrl-C is looked after in between, and a batch's events are all in memory."""


class CannotRehearse(Exception):
    """There is nothing to rehearse on, or with; the text says why and how to mend it."""


@dataclass(slots=True)
class Outcome:
    """``complete``: nothing that was wanted was left out; ``interrupted``: Ctrl-C ended it early."""

    rehearsal: Rehearsal
    coverage: Coverage
    interrupted: bool = False
    broken: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.interrupted or self.broken or self.coverage.troubles)


def make_world(snapshot: Snapshot, destinations: Collection[str] | None) -> World:
    """``destinations`` None: all."""
    return World(
        snapshot,
        type_of=lambda item: NATIVE_DESTINATIONS[item.type],
        destinations=destinations,
    )


def run_rehearsal(settings: Settings, clock: Clock, rehearsal: Rehearsal, wanted: Wanted) -> Outcome:
    """Raises CannotRehearse; what cannot be read on the way is part of the outcome. Lowers the process's priority."""
    give_way()
    data = DataDir(settings.data_dir)
    if not data.log.is_dir():
        raise CannotRehearse(
            f"no event was ever taken into {data.root}. Name the directory that `trunkline serve` uses with --data-dir."
        )
    log = EmbeddedLog(data.log, clock)
    accepted, blocked = None, None
    if data.archive_index.exists():
        try:
            store = open_store(settings.archive_url, data.archive)
        except ArchiveError as error:
            raise CannotRehearse(str(error)) from error
        accepted, blocked = AcceptedArchive(data.archive_index, store), BlockedArchive(data.archive_index, store)
    traffic = Traffic(log, wanted, accepted=accepted, blocked=blocked)
    outcome = Outcome(rehearsal, traffic.coverage)
    with _logging_aside(), _interruptible() as interrupted, _shown_progress(traffic.coverage) as show:
        try:
            traffic.batch_events = _FIRST_BATCH_EVENTS
            for batch in traffic.batches():
                if batch:
                    start_s = clock.monotonic_s()
                    rehearsal.take(batch)
                    traffic.batch_events = _batch_events(len(batch), clock.monotonic_s() - start_s)
                show()
                if interrupted():
                    outcome.interrupted = True
                    break
        except ArchiveError as error:
            outcome.broken = True
            outcome.notes.append(f"The archive cannot be read on: {error}")
    _note(outcome, log, data, archived=accepted is not None, wanted=wanted)
    return outcome


def _batch_events(taken: int, seconds: float) -> int:
    """How many events the next batch holds when the last took so long: growing to the usual size by and by."""
    return max(1, min(2 * taken, int(taken * _BATCH_S / max(seconds, 1e-6)), BATCH_EVENTS))


@contextlib.contextmanager
def _logging_aside() -> Iterator[None]:
    """What the stages log meanwhile goes where it does not mix with the result."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Hands out what tells whether Ctrl-C was pressed. A second one ends the program at once."""
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _shown_progress(coverage: Coverage) -> Iterator[Callable[[], None]]:
    """Hands out what brings the display up to date. There is one on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    columns = (TextColumn("events"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda: progress.update(
            task, completed=coverage.looked_at, total=max(coverage.expected, coverage.looked_at)
        )


def _note(outcome: Outcome, log: EmbeddedLog, data: DataDir, *, archived: bool, wanted: Wanted) -> None:
    notes, coverage = outcome.notes, outcome.coverage
    if outcome.interrupted:
        whole = max(coverage.expected, coverage.looked_at)
        notes.insert(
            0,
            f"Interrupted after {coverage.looked_at:,} of about {whole:,} events: this is a part of the traffic only.",
        )
    waiting = _waiting(log, data)
    if waiting:
        notes.append(f"{count_text(waiting, 'event')} wait for the source stage: they are not part of it.")
    if not archived and (coverage.first_ms is None or coverage.first_ms > wanted.since_ms):
        notes.append(
            "There is no archive here: nothing is known of events that the log does not hold any more (setting "
            "`archive`)."
        )
    elif coverage.unreadable:
        notes.append(f"{count_text(coverage.unreadable, 'event')} cannot be read from the archive.")


def _waiting(log: EmbeddedLog, data: DataDir) -> int:
    try:
        cursors: dict[str, int] = {}
        if not data.state.exists() and log.partitions(ACCEPTED):
            return 0  # nobody knows
        if data.state.exists():
            with open_state(data) as state:
                for (partition, _), position in state.read().source_cursors.items():
                    cursors[partition] = min(position, cursors.get(partition, position))
        return waiting_events(log, cursors)
    except (StateError, LogError):
        return 0  # a figure beside the result; verify says what is wrong there


def covered_text(outcome: Outcome) -> str:
    """How much was looked at, in a sentence."""
    coverage = outcome.coverage
    if coverage.first_ms is None or coverage.last_ms is None:
        return "No event was received in this time. Look further back with --since."
    text = (
        f"{count_text(coverage.events, 'event')}, received from {time_text(coverage.first_ms)} to "
        f"{time_text(coverage.last_ms)}"
    )
    if coverage.blocked:
        text += f"; {coverage.blocked:,} of them had been blocked at their source"
    return f"{text}."
