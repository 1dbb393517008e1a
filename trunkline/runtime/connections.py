"""Opens and closes the intervals of (destination, source) connections at an envelope boundary."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from trunkline.delivery.dispatch import connections_of
from trunkline.state.base import Changes, Interval, place_of
from trunkline.workspace.model import Snapshot


class Connections:
    """All intervals there ever were, the open ones by connection."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        self._all = {interval.id: interval for interval in intervals}
        self._open = {
            (interval.destination, interval.source): interval.id
            for interval in self._all.values()
            if interval.closed_at_ms is None
        }

    @property
    def intervals(self) -> list[Interval]:
        return list(self._all.values())

    def switch(
        self,
        snapshot: Snapshot,
        changes: Changes,
        *,
        now_ms: int,
        accepted_position: int,
        received: Mapping[str, Mapping[str, int]],
        books: Mapping[str, Mapping[str, int]],
    ) -> None:
        """Bring the open intervals in line with the snapshot.

        ``received`` are running totals of the ingested log at the source stage's cursor, by partition and source;
        ``books`` the running outcomes by source, as of the same boundary.
        """
        wanted = connections_of(snapshot)
        place = place_of(accepted_position, 0)
        for connection in sorted(set(self._open) - wanted):
            interval = self._all[self._open.pop(connection)]
            source = connection[1]
            closed = dataclasses.replace(
                interval,
                closed_at_ms=now_ms,
                close_place=place,
                close_received=_of_source(received, source),
                close_books=dict(books.get(source, {})),
            )
            self._all[closed.id] = closed
            changes.closed.append(closed)
        next_id = max(self._all, default=0) + 1
        for connection in sorted(wanted - set(self._open)):
            destination, source = connection
            opened = Interval(
                id=next_id,
                destination=destination,
                source=source,
                opened_at_ms=now_ms,
                open_place=place,
                open_received=_of_source(received, source),
                open_books=dict(books.get(source, {})),
            )
            next_id += 1
            self._all[opened.id] = opened
            self._open[connection] = opened.id
            changes.opened.append(opened)


def _of_source(received: Mapping[str, Mapping[str, int]], source: str) -> dict[str, int]:
    return {partition: counts[source] for partition, counts in received.items() if counts.get(source)}
