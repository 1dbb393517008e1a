"""Runs the replays of one worker: follows the files that say what is wanted, gives each replay a lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from trunkline.archive.errors import ArchiveError
from trunkline.archive.reader import ArchiveReader
from trunkline.clock import Clock
from trunkline.delivery.budget import LaneShare, MemoryBudget
from trunkline.delivery.dispatch import Dispatcher
from trunkline.delivery.feed import Feed
from trunkline.delivery.gate import Gate
from trunkline.delivery.lane import Lane, LaneSettings
from trunkline.replay.errors import PlanDamaged, ReplayError
from trunkline.replay.feed import Pace, ReplayFeed
from trunkline.replay.model import REPLAY_PARTITION, ReplaySpec, is_replay, plan_path, read_spec, replay_ids
from trunkline.replay.plan import count_plan
from trunkline.replay.rewrite import Rewriter
from trunkline.runtime.state_writer import StateWriter
from trunkline.spec.outcomes import DESTINATION_DELETED, REPLAY_CANCELLED
from trunkline.state.base import Changes, RetryRow, State
from trunkline.workspace.model import Destination, Snapshot

LOOK_EVERY_S: Final = 1.0
FRESH_MS: Final = 2000
"""A folder that changed so lately is read once more: two changes may share a time."""
READERS: Final = 2
"""Threads of their own: a store that hangs must hold up nobody else."""
PAUSED: Final = "paused"

_log = structlog.get_logger(__name__)


class MakeLane(Protocol):
    """How the worker makes a lane that is not a live one."""

    def __call__(
        self, key: str, feed: Feed, gate: Gate, share: LaneShare, settings: LaneSettings, partition: str, /
    ) -> Lane: ...


@dataclass(eq=False, slots=True)
class _Replay:
    spec: ReplaySpec
    lane: Lane
    feed: ReplayFeed
    share: LaneShare
    destination: Destination | None = None


class Replays:
    """See the module. Lives on the worker's loop."""

    def __init__(
        self,
        directory: Path,
        state: State,
        rows_of: Callable[[str], Iterable[RetryRow]],
        *,
        dispatcher: Dispatcher,
        make_lane: MakeLane,
        make_gate: Callable[[], Gate],
        budget: MemoryBudget,
        writer: StateWriter,
        open_archive: Callable[[], ArchiveReader],
        busy: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """``state`` is that of the worker's start, ``rows_of`` gives a lane's retry rows in it. ``open_archive`` is
        called when there is a first replay; ``busy`` tells whether live events keep the worker busy."""
        self._directory = directory
        self._states = {key: lane for (key, _), lane in state.lanes.items() if is_replay(key)}
        self._rows = {key: list(rows_of(key)) for key in sorted({key for key, _ in state.row_counts if is_replay(key)})}
        self._dispatcher = dispatcher
        self._make_lane = make_lane
        self._make_gate = make_gate
        self._budget = budget
        self._writer = writer
        self._open_archive = open_archive
        self._busy = busy
        self._clock = clock
        self._archive: ArchiveReader | None = None
        self._snapshot: Snapshot | None = None
        self._running: dict[str, _Replay] = {}
        self._ended: set[str] = set()
        self._leaving: list[Lane] = []
        self._seen_ns = -1
        self._stopped = False
        self._executor = ThreadPoolExecutor(READERS, thread_name_prefix="replay")

    @property
    def lanes(self) -> dict[str, Lane]:
        """The lanes of replays that have not ended, by their keys."""
        return {replay.spec.key: replay.lane for replay in self._running.values()}

    def pending(self) -> dict[str, int]:
        """Events by replay that are not delivered yet, as far as the worker knows at this moment."""
        return {
            replay_id: replay.feed.remaining_events + replay.lane.pending_in_memory
            for replay_id, replay in self._running.items()
        }

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong with replays is logged: live lanes must not suffer."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - see above
                _log.exception("replays.failed", error=type(error).__name__)
            await asyncio.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopped = True

    async def close(self) -> None:
        """After the lanes have been drained and committed."""
        for lane in [*self.lanes.values(), *self._leaving]:
            await lane.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def activate(self, snapshot: Snapshot, changes: Changes) -> None:
        """Follow the workspace; the dispatcher has done so before."""
        self._snapshot = snapshot
        for replay in list(self._running.values()):
            destination = snapshot.destinations.get(replay.spec.destination)
            if destination is None:
                self._end(replay, changes, DESTINATION_DELETED)
            elif destination != replay.destination:
                self._equip(replay, destination)
            else:
                # Its sources and transformations may be others.
                replay.lane.intake.judge_by(self._dispatcher.stages_of(destination.slug))

    async def look(self) -> None:
        """Take up what has changed in the folder, let go of what has ended."""
        if self._snapshot is None or self._stopped:
            return
        if self._has_changed():
            for replay_id in replay_ids(self._directory):
                if replay_id not in self._ended:
                    await self._follow(replay_id)
        for replay in list(self._running.values()):
            if replay.feed.at_end and replay.lane.is_idle:
                self._leave(replay)
                _log.info("replay.done", replay=replay.spec.id)
            else:
                replay.lane.wake()
        while self._leaving:
            await self._leaving.pop().close()

    def _has_changed(self) -> bool:
        try:
            changed_ns = self._directory.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if changed_ns == self._seen_ns:
            return False
        if abs(self._clock.now_ms() - changed_ns // 1_000_000) > FRESH_MS:
            self._seen_ns = changed_ns
        return True

    # -- one replay ----------------------------------------------------------------------------------------------

    async def _follow(self, replay_id: str) -> None:
        try:
            spec = read_spec(self._directory, replay_id)
            replay = self._running.get(replay_id) or await self._begin(spec)
        except (ReplayError, ArchiveError) as error:
            _log.error("replay.not_run", replay=replay_id, error=str(error))
            return
        if replay is None or replay_id not in self._running:
            return
        replay.spec = spec
        if spec.wanted == "cancel":
            with self._writer.step() as changes:
                self._end(replay, changes, REPLAY_CANCELLED)
            self._writer.want()
        elif spec.wanted == "pause":
            replay.lane.hold(PAUSED)
        else:
            replay.lane.release(PAUSED)

    async def _begin(self, spec: ReplaySpec) -> _Replay | None:
        """Its lane, held, as the last run left it; None: nothing is left to do. Raises ReplayError, ArchiveError."""
        state, rows = self._states.get(spec.key), self._rows.get(spec.key, [])
        if state is not None and state.mark >= spec.end_state.mark and not rows:
            self._ended.add(spec.id)
            return None
        if self._archive is None:
            self._archive = self._open_archive()
        plan = plan_path(self._directory, spec.id)
        counts = await asyncio.get_running_loop().run_in_executor(self._executor, count_plan, plan, state)
        if counts.selected != spec.selected:
            raise PlanDamaged(f"{plan}: holds other events than {spec.id}.json says. Restore both from a backup")
        if self._stopped:
            return None
        assert self._snapshot is not None
        destination = self._snapshot.destinations.get(spec.destination)
        share = self._budget.share(spec.key)
        feed = ReplayFeed(
            spec.id,
            plan,
            spec.end,
            counts.unsettled,
            read_member=self._archive.read_member,
            rewriter=Rewriter(spec.destination if destination is None else destination.name),
            pace=Pace(self._clock, share, self._busy, spec.events_per_s),
            executor=self._executor,
            clock=self._clock,
        )
        gate = self._make_gate() if destination is None else self._dispatcher.lanes[destination.slug].gate
        lane = self._make_lane(spec.key, feed, gate, share, LaneSettings(background=True), REPLAY_PARTITION)
        feed.connect(lane.wake)
        lane.hold(PAUSED)
        lane.restore(state, rows)
        gate.replays.append(lane)
        replay = self._running[spec.id] = _Replay(spec, lane, feed, share)
        if destination is None:
            with self._writer.step() as changes:
                self._end(replay, changes, DESTINATION_DELETED)
            self._writer.want()
            return None
        self._equip(replay, destination)
        _log.info("replay.begins", replay=spec.id, destination=spec.destination, pending=feed.remaining_events)
        return replay

    def _equip(self, replay: _Replay, destination: Destination) -> None:
        """The destination's settings as they are now."""
        replay.destination = destination
        replay.feed.rewriter = Rewriter(destination.name)
        replay.feed.max_event_age_s = destination.delivery.max_event_age_s
        replay.lane.configure(LaneSettings(self._dispatcher.policy_of(destination), background=True))
        replay.lane.replace_sender(self._dispatcher.sender_of(destination))
        replay.lane.intake.judge_by(self._dispatcher.stages_of(destination.slug))
        replay.lane.wake()

    def _end(self, replay: _Replay, changes: Changes, reason: str) -> None:
        """What is pending has failed. The lane's mark stays, at the end: that is how everybody knows."""
        replay.lane.delete(changes, reason)
        changes.lanes[replay.spec.key, REPLAY_PARTITION] = replay.spec.end_state
        self._leave(replay)
        _log.info("replay.ended", replay=replay.spec.id, reason=reason)

    def _leave(self, replay: _Replay) -> None:
        self._running.pop(replay.spec.id)
        self._ended.add(replay.spec.id)
        self._leaving.append(replay.lane)
        replay.lane.gate.replays.remove(replay.lane)
        replay.share.close()
