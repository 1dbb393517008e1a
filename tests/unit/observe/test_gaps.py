"""Gaps are found, joined, and known as replayed exactly when a replay brings all of them."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from tests.unit.observe.record_kit import MINUTE, commit_intervals, interval, lost
from trunkline.cli.gaps import print_gaps
from trunkline.cli.times import parse_time
from trunkline.clock import SystemClock
from trunkline.observe.gaps import Gap, find_gaps
from trunkline.replay.model import PlaceRange, ReplaySpec
from trunkline.state.base import Changes, SourceKey, StateStore
from trunkline.workspace.model import Destination, Snapshot

MINUTE_MS = 60_000
START_MS = MINUTE * MINUTE_MS


def replay(**members: object) -> ReplaySpec:
    given = {"id": "r1", "destination": "hook", "sources": ["web"], "created_at_ms": START_MS + 3_600_000} | members
    return ReplaySpec(**given)  # type: ignore[arg-type]


def workspace(*destinations: tuple[str, str]) -> Snapshot:
    made = {slug: Destination(slug, slug, "webhook", (source,), False, {}) for slug, source in destinations}
    return Snapshot("v1", "acme", "Acme", {}, made)


def printed(gaps: list[Gap]) -> str:
    out = StringIO()
    print_gaps(Console(file=out, width=80, markup=False, highlight=False, color_system=None), gaps)
    return out.getvalue()


@pytest.fixture
def failures(store: StateStore) -> StateStore:
    """Three minutes that follow each other, one apart, and one of another source."""
    changes = Changes()
    lost(changes, 5, MINUTE)
    lost(changes, 7, MINUTE + 1, reason="401")
    lost(changes, 2, MINUTE + 1)
    lost(changes, 1, MINUTE + 2)
    lost(changes, 3, MINUTE + 9)
    lost(changes, 4, MINUTE + 1, source="app")
    store.commit(changes)
    return store


def test_minutes_that_follow_each_other_are_one_window(failures: StateStore) -> None:
    gaps = find_gaps(failures, 0)
    told = [(gap.source, (gap.since_ms - START_MS) // MINUTE_MS, gap.until_ms, gap.events) for gap in gaps]
    assert told == [
        ("web", 0, START_MS + 3 * MINUTE_MS, 15),
        ("app", 1, START_MS + 2 * MINUTE_MS, 4),
        ("web", 9, START_MS + 10 * MINUTE_MS, 3),
    ]
    assert gaps[0].reasons == {"500": 8, "401": 7}


def test_the_command_names_the_window(failures: StateStore) -> None:
    [first, *_] = find_gaps(failures, 0, data_dir="/srv/my data")
    words = first.command.split()
    assert words[:7] == ["trunkline", "replay", "start", "--to", "hook", "--source", "web"]
    clock = SystemClock()
    assert parse_time(words[words.index("--since") + 1], clock) == first.since_ms
    assert parse_time(words[words.index("--until") + 1], clock) == first.until_ms
    assert first.command.endswith("--data-dir '/srv/my data'")
    text = printed([first])
    assert first.command in text
    assert "401 Invalid API key" in text
    assert all(len(line) <= 80 for line in text.splitlines() if "replay start" not in line)


def test_since_and_destination_narrow(failures: StateStore) -> None:
    changes = Changes()
    lost(changes, 1, MINUTE, destination="other")
    failures.commit(changes)
    assert [gap.events for gap in find_gaps(failures, START_MS + 2 * MINUTE_MS)] == [1, 3]
    assert [gap.events for gap in find_gaps(failures, 0, destination="other")] == [1]


@pytest.mark.parametrize(
    ("members", "covered"),
    [
        ({"since_ms": START_MS, "until_ms": START_MS + 3 * MINUTE_MS}, "all"),
        ({"since_ms": START_MS - 1, "until_ms": START_MS + 4 * MINUTE_MS}, "all"),
        ({}, "all"),
        ({"wanted": "pause"}, "all"),
        ({"wanted": "cancel"}, "none"),
        ({"since_ms": START_MS + 1}, "part"),
        ({"since_ms": START_MS + 3 * MINUTE_MS}, "none"),
        ({"until_ms": START_MS + 3 * MINUTE_MS - 1}, "part"),
        ({"until_ms": START_MS}, "none"),
        ({"created_at_ms": START_MS + 1}, "part"),
        ({"sources": ["app"]}, "none"),
        ({"destination": "other"}, "none"),
        ({"types": ["track"]}, "part"),
        ({"names": ["A"]}, "part"),
        ({"ranges": [PlaceRange("web", 0, 1 << 40)]}, "part"),
    ],
)
def test_failures_are_replayed_when_the_whole_window_was(
    failures: StateStore, members: dict[str, object], covered: str
) -> None:
    [first, *_] = find_gaps(failures, 0, replays=[replay(**members)])
    assert first.replayed_by == (["r1"] if covered == "all" else [])
    assert first.partly_by == (["r1"] if covered == "part" else [])


def test_what_a_replay_loses_is_a_gap_of_its_destination(failures: StateStore) -> None:
    changes = Changes()
    lost(changes, 6, MINUTE, destination="replay:r1")
    failures.commit(changes)
    replays = [replay(), replay(id="r2", created_at_ms=START_MS + 7_200_000)]
    for destination in (None, "hook"):
        gaps = find_gaps(failures, 0, destination=destination, replays=replays[:1])
        assert {gap.destination for gap in gaps} == {"hook"}
        [own] = [gap for gap in gaps if gap.lane == "replay:r1"]
        assert (own.events, own.replayed_by) == (6, [])
        assert "--to hook" in own.command
    [own] = [gap for gap in find_gaps(failures, 0, replays=replays) if gap.lane == "replay:r1"]
    assert own.replayed_by == ["r2"]


def closed_twice(store: StateStore) -> None:
    """Closed while 40 and then 2 events came, the second time until now; once more while none came."""
    commit_intervals(
        store,
        interval(1, 1_000, accepted=10, open_place=5, closed_at_ms=2_000, close_accepted=50, close_place=100),
        interval(2, 3_000, accepted=90, open_place=200, closed_at_ms=4_000, close_accepted=91, close_place=300),
        interval(3, 5_000, accepted=91, open_place=300, closed_at_ms=6_000, close_accepted=95, close_place=400),
        interval(4, 1_000, destination="open"),
    )
    store.commit(Changes(source_books={SourceKey("web", "track", "A", "accepted", ""): 97}))


def test_times_in_which_a_connection_was_closed(store: StateStore) -> None:
    closed_twice(store)
    gaps = find_gaps(store, 0)
    assert [(gap.since_ms, gap.until_ms, gap.events, gap.places) for gap in gaps] == [
        (2_000, 3_000, 40, (100, 200)),
        (6_000, None, 2, (400, None)),
    ]
    assert gaps[0].command == "trunkline replay start --to hook --source web --gap"
    assert len(find_gaps(store, 3_000)) == 1
    text = printed(gaps)
    assert "closed 1970-01-01T00:00:06Z to now" in text
    assert "2 gaps, 2 of them not replayed." in text


@pytest.mark.parametrize(
    ("members", "covered"),
    [
        ({"ranges": [PlaceRange("web", 100, 200)]}, ["all", "none"]),
        ({"ranges": [PlaceRange("web", 50, 150), PlaceRange("web", 150, 500)]}, ["all", "part"]),
        ({"ranges": [PlaceRange("web", 100, 199)]}, ["part", "none"]),
        ({"ranges": [PlaceRange("app", 100, 200)]}, ["none", "none"]),
        ({}, ["all", "part"]),
        # Received before the connection was closed, accepted behind it: a time does not tell.
        ({"since_ms": 2_000}, ["part", "part"]),
    ],
)
def test_a_replay_covers_a_closed_time_by_its_places(
    store: StateStore, members: dict[str, object], covered: list[str]
) -> None:
    closed_twice(store)
    gaps = find_gaps(store, 0, replays=[replay(**members)])
    assert ["all" if gap.replayed_by else "part" if gap.partly_by else "none" for gap in gaps] == covered
    text = " ".join(printed(gaps[:1]).split())
    assert ("replayed: r1" in text) == (covered[0] == "all")
    assert ("replayed in part: r1" in text) == (covered[0] == "part")
    assert ("replay start" in text) == (covered[0] != "all")


def test_what_the_workspace_no_longer_holds(
    store: StateStore,
) -> None:
    closed_twice(store)
    changes = Changes()
    lost(changes, 1, MINUTE)
    store.commit(changes)
    assert [gap.kind for gap in find_gaps(store, 0, snapshot=workspace(("hook", "web")))] == [
        "closed",
        "closed",
        "failed",
    ]
    # The source was taken from the destination on purpose.
    assert [gap.kind for gap in find_gaps(store, 0, snapshot=workspace(("hook", "app")))] == ["failed"]
    [gone] = find_gaps(store, 0, snapshot=workspace(("other", "web")))
    assert gone.command == ""
    assert "Create the destination again" in " ".join(printed([gone]).split())


def test_no_gap_says_so(store: StateStore) -> None:
    assert find_gaps(store, 0) == []
    assert "No gap" in printed([])
