"""Sends a file of events: in batches, at a bounded rate, from where an earlier run stopped.

Batches hold at most 100 events, so that the answer names each one that was rejected (it lists 100), and stay below the
API's 500 KB. One is under way at a time: the order of the lines is kept, and the position is always behind an answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from trunkline.client.archive import BadLine, restore_event
from trunkline.client.lines import Line, Lines, Mark
from trunkline.client.position import Position
from trunkline.client.tracking import Refused, TrackingClient
from trunkline.clock import Clock
from trunkline.spec import codes
from trunkline.spec.limits import MAX_BATCH_BYTES

MAX_EVENTS: Final = 100
BATCHES_A_SECOND: Final = 4
"""A bounded rate is spread over so many requests a second."""
_ENVELOPE: Final = b'{"batch":[%b]}'


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that was not taken. ``text`` is the line as it stands in the file."""

    line: int
    code: str
    message: str
    text: bytes


@dataclass(slots=True)
class Batch:
    """Lines that are answered for together. ``mark`` lies behind the last of them."""

    mark: Mark
    lines: list[Line] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    bad: list[Rejection] = field(default_factory=list)
    size_bytes: int = len(_ENVELOPE)

    def add(self, line: Line) -> bool:
        """False if the event does not fit in."""
        try:
            event = restore_event(line)
        except BadLine as error:
            self.bad.append(Rejection(line.number, error.code, error.message, line.text))
            return True
        if self.size_bytes + len(event) + 1 > MAX_BATCH_BYTES:
            return False
        self.lines.append(line)
        self.events.append(event)
        self.size_bytes += len(event) + 1
        return True


class Keeper(Protocol):
    """Keeps what must outlive the run."""

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Called before the position behind them is kept."""
        ...

    def keep(self, position: Position) -> None: ...


class Upload:
    """One run over one file: send each of :meth:`batches` with :meth:`send`, in order."""

    def __init__(
        self,
        lines: Lines,
        position: Position,
        client: TrackingClient,
        keeper: Keeper,
        clock: Clock,
        *,
        rate: float | None = None,
    ) -> None:
        """``lines`` stand at ``position``. ``rate``: events a second at most; None: as fast as they are taken."""
        self._lines = lines
        self.position = position
        self._client = client
        self._keeper = keeper
        self._clock = clock
        self._rate = rate
        self._most = MAX_EVENTS if rate is None else max(1, min(MAX_EVENTS, math.ceil(rate / BATCHES_A_SECOND)))
        self._next_s = clock.monotonic_s()
        self.unended: Line | None = None
        """A last line that is no event and has no end, as of a file that is still being written: left for later."""

    def batches(self) -> Iterator[Batch]:
        """What is left of the file. Raises FileProblem, after what could be read before it."""
        batch = Batch(self._lines.mark)
        lines = iter(self._lines)
        while True:
            before = self._lines.mark
            try:
                line = next(lines, None)
            except Exception:
                if batch.lines or batch.bad:
                    yield batch
                raise
            if line is None:
                break
            if not line.text.strip():
                batch.mark = self._lines.mark
                continue
            if line.unended and not _is_event(line):
                self.unended = line
                batch.mark = before
                break
            if not batch.add(line):
                batch.mark = before
                yield batch
                batch = Batch(before)
                batch.add(line)
            batch.mark = self._lines.mark
            if len(batch.events) + len(batch.bad) >= self._most:
                yield batch
                batch = Batch(self._lines.mark)
        yield batch

    async def send(self, batch: Batch) -> None:
        """Returns when the batch is answered for and the position is kept. Raises SendError, PositionError."""
        rejections = list(batch.bad)
        if batch.events:
            await self._pace(len(batch.events))
            rejections += await self._post(batch.lines, batch.events)
        position = self.position
        if rejections:
            rejections.sort(key=lambda rejection: rejection.line)
            self._keeper.reject(rejections)
        position.taken += len(batch.lines) + len(batch.bad) - len(rejections)
        position.rejected += len(rejections)
        position.line = batch.mark.line
        position.offset_bytes = batch.mark.offset_bytes
        position.fingerprint = batch.mark.fingerprint
        self._keeper.keep(position)

    async def _pace(self, events: int) -> None:
        if self._rate is None:
            return
        now_s = self._clock.monotonic_s()
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)
        self._next_s = max(self._next_s, now_s) + events / self._rate

    async def _post(self, lines: Sequence[Line], events: Sequence[bytes]) -> list[Rejection]:
        """The rejected ones. A batch that is refused as a whole is halved until the event that spoils it is found."""
        try:
            verdict = await self._client.post("batch", _ENVELOPE % b",".join(events))
        except Refused as refused:
            if refused.status not in (400, 413, 422):
                raise
            if len(events) == 1:
                return [Rejection(lines[0].number, refused.code, refused.message, lines[0].text)]
            half = len(events) // 2
            first = await self._post(lines[:half], events[:half])
            return first + await self._post(lines[half:], events[half:])
        return [
            Rejection(lines[item.index].number, item.code, item.message, lines[item.index].text)
            for item in verdict.rejected
        ]


def _is_event(line: Line) -> bool:
    try:
        restore_event(line)
    except BadLine as error:
        return error.code != codes.INVALID_REQUEST
    return True
