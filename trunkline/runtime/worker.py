"""The worker: source stage, lanes and the state of both, for all partitions of one data directory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

import structlog

from trunkline.archive.open_store import open_store
from trunkline.archive.reader import ArchiveReader
from trunkline.clock import Clock
from trunkline.dedupe import DedupeError, DedupeIndex
from trunkline.delivery.accepted import EnvelopeReader, PlacedEnvelope
from trunkline.delivery.budget import LaneShare, MemoryBudget
from trunkline.delivery.dispatch import DeliveryDefaults, Dispatcher
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.feed import Feed
from trunkline.delivery.gate import Gate, GateSettings
from trunkline.delivery.http import GuardedClient
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.delivery.pace import Pace
from trunkline.destinations.kit import Sender, Surroundings
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.failpoints import failpoint
from trunkline.log.base import ACCEPTED, INGESTED, Appender, EventLog, LogFull, NewRecord
from trunkline.log.records import RECORD_VERSION, Envelope, encode_envelope
from trunkline.replay.model import is_replay
from trunkline.runtime.connections import Connections
from trunkline.runtime.housekeeping import (
    HOUSEKEEPING_S,
    archived_position,
    shorten_logs,
    sweep_bulk,
    warn_of_pins,
)
from trunkline.runtime.layout import PARTITION, DataDir
from trunkline.runtime.replays import Replays
from trunkline.runtime.source_stage import SHARED_GROUP, RangeReader, SourceStage
from trunkline.runtime.state_writer import StateWriter
from trunkline.runtime.wake import Waiter
from trunkline.settings import Settings
from trunkline.state.base import Changes, RecordCounts, RecordKey, SourceKey, StateStore, position_of
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.model import Destination, Snapshot

IDLE_WAIT_S: Final = 1.0
APPEND_RETRY_S: Final = 1.0
RELOAD_RETRY_S: Final = 5.0
STATE_TROUBLE: Final = "state"
"""Why lanes are held while the state cannot be committed."""
_READ_BYTES: Final = 1 << 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is made of; whoever starts it opens them."""

    log: EventLog
    state: StateStore
    dedupe: DedupeIndex
    snapshot: Callable[[], Snapshot]
    clock: Clock
    data: DataDir
    settings: Settings


class Worker:
    """One owner of the accepted log. :meth:`run` recovers, works until :meth:`stop`, and leaves all committed."""

    def __init__(
        self, parts: Parts, *, on_committed: Callable[[Changes], None], on_ready: Callable[[str], None]
    ) -> None:
        """``on_ready`` is called with the version of each snapshot once its coming into force is on disk."""
        self._parts = parts
        self._on_ready = on_ready
        self._observer = on_committed
        self._stopping = asyncio.Event()
        self._broken: BaseException | None = None
        self._state_trouble = False
        self._reload = False
        self._writer = StateWriter(parts.state, on_trouble=self._hold_lanes, on_committed=self._committed)
        self._stage = SourceStage(parts.dedupe, parts.clock)
        self._append_thread = ThreadPoolExecutor(1, thread_name_prefix="accepted")
        state = parts.state.read()
        self._cursors = {partition: at for (partition, group), at in state.source_cursors.items()}
        self._committed_cursors = dict(self._cursors)
        self._committed_accepted = state.accepted.get(PARTITION, 0)
        self._totals = {source: dict(books) for source, books in state.source_totals.items()}
        self._connections = Connections(state.intervals)
        self._readers: dict[str, RangeReader] = {}
        self._epoch = state.epochs.get(PARTITION, 0)
        self._policy = EgressPolicy()
        self._client = GuardedClient(lambda: self._policy, timeout_s=parts.settings.send_timeout_s, clock=parts.clock)
        self._random = SystemRandom()
        self._pace = Pace()
        self._budget = MemoryBudget(parts.settings.lane_memory_bytes)
        self._dispatcher = Dispatcher(
            self._make_lane,
            self._sender_factory,
            self._open_reader,
            self._committed_accepted,
            DeliveryDefaults(parts.settings.lane_concurrency),
            lambda destination: NATIVE_DESTINATIONS[destination.type],
        )
        self._snapshot: Snapshot | None = None
        self._committed_marks = {key: lane.mark for key, lane in state.lanes.items()}
        self._busy = False
        self._keys_unrecorded = False
        self._recovered = False
        self._reached_ms: dict[str, int] = {}
        self._last_reached_ms = 0
        slugs = {interval.destination for interval in state.intervals if interval.closed_at_ms is None}
        slugs |= {destination for destination, _ in state.lanes} | {destination for destination, _ in state.row_counts}
        slugs |= {row.destination for row in state.bulk}
        sweep_bulk(parts.data.bulk, {row.destination for row in state.bulk})
        for slug in sorted(slug for slug in slugs if not is_replay(slug)):
            intervals = [interval for interval in state.intervals if interval.destination == slug]
            lane_state = state.lanes.get((slug, PARTITION))
            bulk = [row for row in state.bulk if row.destination == slug]
            self._dispatcher.adopt(slug, intervals, lane_state, parts.state.rows(slug), bulk)
        self._replays = Replays(
            parts.data.replays,
            state,
            parts.state.rows,
            dispatcher=self._dispatcher,
            make_lane=self._make_lane,
            make_gate=self._make_gate,
            budget=self._budget,
            writer=self._writer,
            open_archive=self._open_archive,
            busy=lambda: self._busy,
            clock=parts.clock,
        )

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, appender: Appender, waiter: Waiter) -> None:
        """Until :meth:`stop`. ``appender`` is that of the accepted log: whoever holds it is the owner.

        Raises LogError or RecordError when it cannot go on; the supervisor starts it anew.
        """
        background = [asyncio.create_task(self._writer.run()), asyncio.create_task(self._keep_house())]
        background.append(asyncio.create_task(self._replays.run()))
        for task in background:
            task.add_done_callback(lambda task: self._background_ended(task, waiter))
        try:
            self._activate(await asyncio.to_thread(self._parts.snapshot))
            if await self._take_over(appender):
                await self._recover()
                await self._work(appender, waiter)
        finally:
            await self._finish(background)
        if self._broken is not None:
            raise self._broken

    def _background_ended(self, task: asyncio.Task[None], waiter: Waiter) -> None:
        """Without commits, or without retention, a worker must not go on as if all were well."""
        if not task.cancelled() and task.exception() is not None:
            self._broken = task.exception()
            self.stop(waiter)

    def stop(self, waiter: Waiter) -> None:
        """Begin nothing new; :meth:`run` returns when what is under way has ended."""
        self._stopping.set()
        waiter.set()

    def reload(self, waiter: Waiter) -> None:
        """A new snapshot may be in force: take it at the next envelope boundary."""
        self._reload = True
        waiter.set()

    async def _finish(self, background: list[asyncio.Task[None]]) -> None:
        grace_s = self._parts.settings.shutdown_grace_s
        self._replays.stop()
        lanes = self.lanes
        await asyncio.gather(*(lane.drain(grace_s) for lane in lanes))
        self._writer.stop()
        for task in background[1:]:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._writer.commit()
        self._writer.close()
        await asyncio.gather(*(lane.close() for lane in self._dispatcher.lanes.values()))
        await self._replays.close()
        await self._client.close()
        for reader in self._readers.values():
            reader.close()
        self._append_thread.shutdown()
        if self._recovered and not self._keys_unrecorded and self._parts.dedupe.unflushed:
            try:
                self._parts.dedupe.flush(str(self._dispatcher.position), wait=True)
            except DedupeError as error:
                _log.warning("dedupe.not_flushed", error=str(error))  # the next start reads the envelopes again

    # -- recovery ------------------------------------------------------------------------------------------------

    async def _take_over(self, appender: Appender) -> bool:
        """Raise the epoch and fence off whoever wrote before; what was written until then still counts.

        False when stopped before the fence was durable.
        """
        reader = self._open_reader(self._dispatcher.position)
        more = True
        while more:
            more = reader.advance(_READ_BYTES)
            await asyncio.sleep(0)
        self._epoch = max(self._epoch, reader.epoch) + 1
        reader.close()
        fence = Envelope(
            version=RECORD_VERSION,
            epoch=self._epoch,
            partition="",
            group="",
            start=0,
            stop=0,
            snapshot="",
            survivors=[],
            dedupe_keys=b"",
            dedupe_times_ms=[],
            deltas=[],
            fence=True,
        )
        return await self._append(appender, fence) is not None

    async def _recover(self) -> None:
        """Apply envelopes that are durable but not applied, and remember the dedupe keys that the index has not on
        disk, up to our own fence."""
        checkpoint = int(self._parts.dedupe.checkpoint or 0)
        reader = self._open_reader(min(checkpoint, self._dispatcher.position))
        while reader.epoch < self._epoch:
            for placed in reader.read(_READ_BYTES):
                if placed.position >= checkpoint:
                    self._parts.dedupe.restore(placed.envelope.dedupe_keys, placed.envelope.dedupe_times_ms)
                    self._flush_dedupe(placed.next_position)
                if placed.position >= self._dispatcher.position and not self._is_applied(placed.envelope):
                    self._apply(placed)
            await asyncio.sleep(0)
        self._dispatcher.position = reader.position
        reader.close()
        self._writer.changes.epochs[PARTITION] = self._epoch
        self._writer.changes.accepted[PARTITION] = self._dispatcher.position
        self._writer.want()
        self._recovered = True

    def _is_applied(self, envelope: Envelope) -> bool:
        """Whether this is the copy of an envelope that has been applied: an append may be repeated by the engine."""
        return envelope.start < self._cursors.get(envelope.partition, 0)

    # -- the source stage ----------------------------------------------------------------------------------------

    async def _work(self, appender: Appender, waiter: Waiter) -> None:
        while not self._stopping.is_set():
            if self._reload:
                self._reload = False
                await self._take_newest_snapshot(waiter)
            worked = False
            for partition in self._parts.log.partitions(INGESTED):
                worked = await self._process(appender, partition, waiter) or worked
            self._busy = worked
            if not worked:
                await waiter.wait(IDLE_WAIT_S)

    async def _process(self, appender: Appender, partition: str, waiter: Waiter) -> bool:
        """One range of one partition. False when there was nothing to do."""
        reader = self._readers.get(partition)
        if reader is None:
            cursor = self._cursors.get(partition, 0)
            reader = self._readers[partition] = RangeReader(self._parts.log.reader(INGESTED, partition, cursor))
        taken = reader.next_range()
        if not taken:
            self._reached_ms.pop(partition, None)
            return False
        self._reached_ms[partition] = self._last_reached_ms = taken[0][1].received_at_ms
        assert self._snapshot is not None
        if any(chunk.source not in self._snapshot.sources for _, chunk in taken):
            # Ingest may have taken up a newer snapshot first: its events must find its connections open.
            await self._take_newest_snapshot(waiter)
        self._keys_unrecorded = True
        envelope = await self._stage.build(partition, taken, epoch=self._epoch, snapshot=self._snapshot.version)
        position = await self._append(appender, envelope)
        if position is None:
            return False
        self._keys_unrecorded = False
        self._apply(PlacedEnvelope(position, appender.head, envelope))
        self._flush_dedupe(self._dispatcher.position)
        return True

    def _flush_dedupe(self, position: int) -> None:
        """Only between envelopes: every key in the index must be in an envelope below ``position``."""
        if self._parts.dedupe.should_flush:
            self._parts.dedupe.flush(str(position))

    async def _append(self, appender: Appender, envelope: Envelope) -> int | None:
        """Make the envelope durable, however long the disk stays full: its dedupe keys are in the index already, so
        another one must not be built for the range. None only when stopped before it could be.

        Any other LogError ends the worker: what is durable then is found out by its successor.
        """
        record = NewRecord(encode_envelope(envelope), envelope.counts())
        loop = asyncio.get_running_loop()
        while True:
            failpoint("worker.envelope.before_append")
            try:
                [position] = await loop.run_in_executor(self._append_thread, appender.append, [record])
            except LogFull as error:
                _log.error("accepted.append_failed", error=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(APPEND_RETRY_S):
                        await self._stopping.wait()
                        return None
            else:
                failpoint("worker.envelope.after_append")
                return position

    def _apply(self, placed: PlacedEnvelope) -> None:
        """Count the envelope and hand it to the lanes, in one go: no other task may run in between."""
        envelope = placed.envelope
        with self._writer.step() as changes:
            self._cursors[envelope.partition] = envelope.stop
            changes.source_cursors[envelope.partition, SHARED_GROUP] = envelope.stop
            changes.accepted[PARTITION] = placed.next_position
            minute = self._parts.clock.now_ms() // 60_000
            for delta in envelope.deltas:
                key = SourceKey(delta.source, delta.type, delta.name, delta.outcome, delta.reason)
                changes.source_books[key] = changes.source_books.get(key, 0) + delta.count
                kind = (delta.type, delta.name, delta.app_version, delta.outcome, delta.reason)
                record = RecordKey(minute, "", delta.source, "", *kind)
                changes.record.setdefault(record, RecordCounts()).events += delta.count
                totals = self._totals.setdefault(delta.source, {})
                totals[delta.outcome] = totals.get(delta.outcome, 0) + delta.count
            self._dispatcher.dispatch(placed)
        self._writer.want()

    # -- the workspace -------------------------------------------------------------------------------------------

    async def _take_newest_snapshot(self, waiter: Waiter) -> None:
        """The one in force stays as long as no other can be read."""
        try:
            snapshot = await asyncio.to_thread(self._parts.snapshot)
        except WorkspaceError as error:
            _log.error("workspace.not_read", error=str(error), again_in_s=RELOAD_RETRY_S)
            asyncio.get_running_loop().call_later(RELOAD_RETRY_S, self.reload, waiter)
            return
        self._activate(snapshot)

    def _activate(self, snapshot: Snapshot) -> None:
        """Put a snapshot into force, between two envelopes."""
        if self._snapshot is not None and snapshot.version == self._snapshot.version:
            return
        log = self._parts.log
        received = {
            partition: log.totals(INGESTED, partition, self._cursors.get(partition, 0)).counts
            for partition in log.partitions(INGESTED)
        }
        with self._writer.step() as changes:
            self._connections.switch(
                snapshot,
                changes,
                now_ms=self._parts.clock.now_ms(),
                accepted_position=self._dispatcher.position,
                received=received,
                books=self._totals,
            )
            self._policy = EgressPolicy.of(snapshot.egress)
            self._stage.activate(snapshot)
            self._dispatcher.activate(snapshot, self._connections.intervals, changes)
            self._replays.activate(snapshot, changes)
            changes.snapshot = snapshot.version
        self._snapshot = snapshot
        self._writer.want(soon=True)
        _log.info("workspace.active", version=snapshot.version, destinations=len(snapshot.destinations))

    def _make_lane(
        self,
        slug: str,
        feed: Feed,
        gate: Gate | None = None,
        share: LaneShare | None = None,
        settings: LaneSettings | None = None,
        partition: str = PARTITION,
    ) -> Lane:
        lane = Lane(
            slug,
            partition,
            feed=feed,
            gate=gate or self._make_gate(),
            pace=self._pace,
            share=share or self._budget.share(slug),
            bulk_directory=self._parts.data.bulk / slug,
            on_change=self._writer.touch,
            clock=self._parts.clock,
            random=self._random,
            settings=settings or LaneSettings(),
        )
        if self._state_trouble:
            lane.hold(STATE_TROUBLE)
        return lane

    def _make_gate(self) -> Gate:
        return Gate(self._parts.clock, self._random, GateSettings(self._parts.settings.lane_concurrency))

    def _open_archive(self) -> ArchiveReader:
        settings, data = self._parts.settings, self._parts.data
        return ArchiveReader(data.archive_index, open_store(settings.archive_url, data.archive))

    def _sender_factory(self, destination: Destination) -> Callable[[], Sender]:
        surroundings = Surroundings(self._client, self._parts.data.root, self._parts.clock)
        return lambda: NATIVE_DESTINATIONS[destination.type].open(destination, surroundings)

    def _open_reader(self, position: int) -> EnvelopeReader:
        return EnvelopeReader(self._parts.log.reader(ACCEPTED, PARTITION, position))

    def _hold_lanes(self, trouble: bool) -> None:
        self._state_trouble = trouble
        for lane in self.lanes:
            if trouble:
                lane.hold(STATE_TROUBLE)
            else:
                lane.release(STATE_TROUBLE)

    @property
    def lanes(self) -> list[Lane]:
        """Of all destinations, in the order of their slugs, then of replays."""
        return [lane for lanes in (self._dispatcher.lanes, self._replays.lanes) for _, lane in sorted(lanes.items())]

    def pending_by_destination(self) -> dict[str, int]:
        """Events in the lanes' memory."""
        return {slug: lane.pending_in_memory for slug, lane in self._dispatcher.lanes.items()}

    def pending_by_replay(self) -> dict[str, int]:
        """Events of replays that are not at their end."""
        return self._replays.pending()

    # -- after commits -------------------------------------------------------------------------------------------

    def _committed(self, changes: Changes) -> None:
        for (partition, _), position in changes.source_cursors.items():
            self._committed_cursors[partition] = position
        self._committed_accepted = changes.accepted.get(PARTITION, self._committed_accepted)
        for key, lane in changes.lanes.items():
            if lane is None:
                self._committed_marks.pop(key, None)
            else:
                self._committed_marks[key] = lane.mark
        if changes.snapshot is not None:
            self._on_ready(changes.snapshot)
        self._observer(changes)

    def _keep_dedupe(self) -> None:
        dedupe = self._parts.dedupe
        # By the time that the events have reached, not ours: a backlog, of one partition too, must still find its past.
        dedupe.expire(min(self._reached_ms.values(), default=self._last_reached_ms))
        # Events without a messageId of their own bring no keys, and without a flush the log could never be shortened.
        position = self._dispatcher.position
        if self._recovered and not dedupe.unflushed and int(dedupe.checkpoint or 0) < position:
            dedupe.flush(str(position))

    async def _keep_house(self) -> None:
        """Drop what is old, now and then."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            now_ms = self._parts.clock.now_ms()
            self._keep_dedupe()
            checkpoint = int(self._parts.dedupe.checkpoint or 0)
            # As committed: what a crash goes back to must still be there.
            marks = {
                key: position_of(mark)
                for (key, partition), mark in self._committed_marks.items()
                if partition == PARTITION
            }
            consumed = min([self._committed_accepted, checkpoint, *marks.values()])
            await asyncio.to_thread(warn_of_pins, self._parts.log, self._parts.settings, consumed, marks)
            if self._parts.settings.archive:
                index = self._parts.data.archive_index
                consumed = min(consumed, await asyncio.to_thread(archived_position, index, PARTITION))
            await shorten_logs(
                self._parts.log,
                self._parts.settings,
                now_ms=now_ms,
                ingested=dict(self._committed_cursors),
                accepted={PARTITION: consumed},
            )
            await self._writer.tidy(now_ms)
