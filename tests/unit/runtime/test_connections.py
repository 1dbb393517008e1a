"""Intervals of connections: opened and closed at envelope boundaries."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.delivery.dispatch import connections_of
from trunkline.runtime.connections import Connections
from trunkline.state.base import Changes, Interval, place_of
from trunkline.testing.memory_state import MemoryStateStore
from trunkline.workspace.model import Destination, Snapshot


def snapshot_of(destinations: dict[str, tuple[bool, tuple[str, ...]]]) -> Snapshot:
    """Slug to (enabled, sources)."""
    return Snapshot(
        version="v",
        slug="acme",
        name="Acme",
        sources={},
        destinations={
            slug: Destination(slug, slug, "webhook", sources, enabled, {})
            for slug, (enabled, sources) in destinations.items()
        },
    )


def switch(
    connections: Connections, snapshot: Snapshot, *, position: int = 0, received: int = 0, accepted: int = 0
) -> Changes:
    changes = Changes()
    connections.switch(
        snapshot,
        changes,
        now_ms=1000 + position,
        accepted_position=position,
        received={"0": {"web": received}},
        books={"web": {"accepted": accepted}},
    )
    return changes


def test_only_what_differs_changes() -> None:
    connections = Connections([])
    both = snapshot_of({"one": (True, ("web", "app")), "two": (False, ("web",))})
    changes = switch(connections, both, position=5, received=7, accepted=6)
    assert [(interval.destination, interval.source) for interval in changes.opened] == [("one", "app"), ("one", "web")]
    web = changes.opened[1]
    assert (web.open_place, web.open_received, web.open_books) == (place_of(5, 0), {"0": 7}, {"accepted": 6})
    app = changes.opened[0]
    assert (app.open_received, app.open_books) == ({}, {})
    assert switch(connections, both, position=9).empty
    changes = switch(connections, snapshot_of({"one": (True, ("app",))}), position=12, received=20, accepted=18)
    assert changes.opened == []
    [closed] = changes.closed
    assert (closed.id, closed.destination, closed.source) == (web.id, "one", "web")
    assert (closed.close_place, closed.close_received, closed.close_books) == (
        place_of(12, 0),
        {"0": 20},
        {"accepted": 18},
    )
    assert closed.holds(place_of(5, 0))
    assert closed.holds(place_of(11, 4095))
    assert not closed.holds(place_of(12, 0))
    assert not closed.holds(place_of(4, 4095))


def test_enabling_again_opens_a_new_interval_with_a_gap() -> None:
    connections = Connections([])
    on, off = snapshot_of({"one": (True, ("web",))}), snapshot_of({"one": (False, ("web",))})
    switch(connections, on, position=0)
    switch(connections, off, position=10)
    switch(connections, on, position=20)
    first, second = connections.intervals
    assert first.id != second.id
    held = [position for position in range(30) if any(i.holds(place_of(position, 3)) for i in (first, second))]
    assert held == [*range(10), *range(20, 30)]


SLUGS = st.sampled_from(["one", "two"])
SNAPSHOTS = st.dictionaries(
    SLUGS, st.tuples(st.booleans(), st.sets(st.sampled_from(["web", "app"])).map(lambda names: tuple(sorted(names))))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SNAPSHOTS, st.integers(0, 3), st.booleans())))
def test_open_intervals_are_the_snapshots_connections(
    steps: list[tuple[dict[str, tuple[bool, tuple[str, ...]]], int, bool]],
) -> None:
    """At every moment, over restarts, and each place belongs to at most one interval of a connection."""
    store = MemoryStateStore()
    connections = Connections([])
    position = 0
    history: list[tuple[int, frozenset[tuple[str, str]]]] = []
    for destinations, passed, restart in steps:
        position += passed
        snapshot = snapshot_of(destinations)
        store.commit(switch(connections, snapshot, position=position))
        history.append((position, connections_of(snapshot)))
        if restart:
            connections = Connections(store.read().intervals)
        assert {(i.destination, i.source) for i in _open(store)} == connections_of(snapshot)
        assert list(store.read().intervals) == sorted(connections.intervals, key=lambda interval: interval.id)
    for at in range(position + 2):
        connected = frozenset[tuple[str, str]]()
        for since, names in history:
            if since <= at:
                connected = names
        holding = [(i.destination, i.source) for i in store.read().intervals if i.holds(place_of(at, 0))]
        assert sorted(holding) == sorted(connected)


def _open(store: MemoryStateStore) -> list[Interval]:
    return [interval for interval in store.read().intervals if interval.closed_at_ms is None]
