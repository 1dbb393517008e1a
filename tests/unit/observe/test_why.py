"""What ``why`` says of an event agrees with where the state has it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.archive.archive_world import World as ArchiveWorld
from tests.unit.archive.archive_world import event as archive_event
from tests.unit.observe.record_kit import MINUTE, NOW_MS, commit_intervals, counted, interval, lost
from tests.unit.observe.story_kit import AT_MS, World, body_of
from trunkline.archive.local_store import LocalStore
from trunkline.cli.why import print_story, story_json
from trunkline.log.records import Rejection
from trunkline.observe.endings import Ending
from trunkline.observe.lanes import LaneStatus
from trunkline.observe.why import Story, explain
from trunkline.replay.model import PlaceRange, ReplaySpec
from trunkline.spec.outcomes import DELIVERED, FAILED
from trunkline.state.base import RETRY, BulkRow, Changes, LaneKey, LossKey, Sample, StateStore, place_of

DAY_MS = 86_400_000


@pytest.fixture
def world(store: StateStore) -> World:
    """One destination, connected to the source from the start."""
    world = World(store)
    world.connect("hook")
    commit_intervals(store, interval(1, 1_000))
    return world


def ending(world: World, *, now_ms: int = NOW_MS) -> Ending:
    """The only one of the only arrival."""
    [arrival] = world.tell(now_ms=now_ms).arrivals
    [only] = arrival.endings
    return only


def printed(story: Story) -> str:
    out = StringIO()
    print_story(Console(file=out, width=80, markup=False, highlight=False, color_system=None), story)
    text = out.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines() if "replay start" not in line), text
    story_json(story)
    return " ".join(text.split())


# -- before the destinations -----------------------------------------------------------------------------------------


def test_an_unknown_event(world: World) -> None:
    world.ingest("other")
    story = world.tell()
    assert not story.known
    text = printed(story)
    assert "No event with the messageId m1 is known." in text
    assert "the log, back to 2026-" in text
    assert "no archive" in text


def test_a_rejected_event(world: World) -> None:
    world.ingest(rejections=[Rejection("no_user_anon_id", b'{"messageId":"m1"}', "track")])
    text = printed(world.tell())
    assert "ingest: Refused as no_user_anon_id: The event has neither userId nor anonymousId. Mend: Send one" in text


def test_an_event_that_the_source_stage_has_not_reached(world: World) -> None:
    world.ingest("m1")
    [arrival] = world.tell().arrivals
    assert (arrival.status, arrival.endings) == ("waiting", [])
    assert "Not reached yet" in printed(world.tell())


@pytest.mark.parametrize(
    ("reason", "said"), [("duplicate", "dedupe: Discarded as duplicate"), ("blocked", "as blocked")]
)
def test_a_discarded_event(world: World, reason: str, said: str) -> None:
    world.accept(world.ingest("m1"), reason=reason)
    [arrival] = world.tell().arrivals
    assert (arrival.status, arrival.endings) == ("discarded", [])
    assert said in printed(world.tell())


def test_what_ingest_changed(world: World) -> None:
    body = body_of("m1", timestamp="2026-01-01T00:00:00.000Z", originalTimestamp="2026-01-01T01:00:00Z")
    world.ingest("m1", own_id=False, body=body)
    text = printed(world.tell())
    assert "came without a messageId" in text
    assert "timestamp was put back by 60 min" in text


# -- at a destination ------------------------------------------------------------------------------------------------


def test_settled_without_a_note_is_delivered_at_once(world: World) -> None:
    world.accepted_event()
    assert ending(world).status == "delivered"
    assert ending(world).text == "Delivered at the first attempt."


def test_above_the_mark_it_waits_and_the_lane_says_why(world: World) -> None:
    place = world.accepted_event()
    world.lane(place)
    world.lanes = [LaneStatus(destination="hook", status="behind", circuit="open", open_for_s=60, last_reason="503")]
    assert ending(world).status == "waiting"
    text = printed(world.tell())
    assert "Waits in the log for its first attempt" in text
    assert "The circuit is open" in text
    world.lanes = None
    assert "The worker does not run" in printed(world.tell())
    world.lane(place, settled=((place, place),))
    assert ending(world).status == "delivered"


def test_accepted_and_not_applied(world: World) -> None:
    world.accept(world.ingest("m1"), "m1", applied=False)
    assert ending(world).status == "waiting"
    assert "not handed to the destinations yet" in ending(world).text


def test_a_retry_row(world: World) -> None:
    place = world.accepted_event()
    world.attempt(place, 1, "retry", "503", detail="busy")
    world.row(place)
    text = printed(world.tell())
    assert "Waits for attempt 2, due in 90.0 s" in text
    assert "503 Service unavailable" in text
    assert "attempt 1: retry 503 busy" in text
    world.row(place, "attempt under way", attempts=0)
    assert "Attempt 1 has been under way" in printed(world.tell())


def test_delivered_at_a_later_attempt(world: World) -> None:
    place = world.accepted_event()
    world.attempt(place, 1, "retry", "503")
    world.attempt(place, 2, "delivered")
    assert ending(world).status == "delivered"
    assert "Delivered at attempt 2" in ending(world).text
    assert [attempt.number for attempt in ending(world).attempts] == [1, 2]


def test_failed_with_its_answer_and_the_replay(world: World) -> None:
    place = world.accepted_event()
    world.attempt(place, 1, "failed", "401")
    samples = [Sample("hook", "401", AT_MS, id, "{}", "{}", f'{{"body":"no {id}"}}') for id in ("m1", "m2")]
    world.store.commit(Changes(samples=samples))
    assert ending(world).status == "failed"
    text = printed(world.tell())
    assert "Failed after 1 attempt with 401 Invalid API key" in text
    assert 'answer: {"body":"no m1"}' in text
    assert "trunkline replay start --to hook --source web --since 2026-" in text


def test_between_two_attempts(world: World) -> None:
    world.attempt(world.accepted_event(), 1, "retry", "503")
    assert ending(world).status == "waiting"


def test_a_bulk_batch(world: World) -> None:
    place = world.accepted_event()
    world.lane(place)

    def batch(**more: object) -> None:
        members = {"place": place, "end_place": place + 9, "open": True, "events": {"web": 700}} | more
        row = BulkRow(destination="hook", partition="0", file="f", size_bytes=1, opened_at_ms=1, **members)  # type: ignore[arg-type]
        world.store.commit(Changes(bulk={row.key: row}))

    batch()
    assert "In a bulk batch of 700 events so far" in printed(world.tell())
    batch(open=False, attempts=1, due_at_ms=NOW_MS, last_error="500 oops")
    assert "waits for attempt 2" in printed(world.tell())
    assert ending(world).status == "waiting"
    batch(open=False, events={"app": 700})
    assert "bulk" not in ending(world).text
    world.store.commit(Changes(bulk={("hook", "0", place): None}))
    world.attempt(place, 2, "delivered", id="", last_place=place + 8)
    assert "Delivered at attempt 2 in a bulk batch" in ending(world).text


# -- when notes are gone, and destinations ---------------------------------------------------------------------------


def test_after_a_week_the_losses_decide(world: World) -> None:
    world.accepted_event()
    later_ms = AT_MS + 8 * DAY_MS
    assert ending(world, now_ms=later_ms).text.startswith("Delivered. Attempts are kept")
    changes = Changes()
    lost(changes, 3, AT_MS // 60_000, source="app")
    lost(changes, 3, MINUTE)
    world.store.commit(changes)
    assert ending(world, now_ms=later_ms).status == "delivered"
    world.store.commit(Changes(losses={LossKey("hook", "web", AT_MS // 60_000, "500"): 2}))
    assert ending(world, now_ms=later_ms).status == "unclear"
    assert ending(world).status == "delivered"


def test_notes_that_are_too_many_to_be_kept_decide_nothing(world: World) -> None:
    """Behind an outage with more attempts than are kept, nobody knows whether the event failed among them."""
    world.accepted_event()
    changes = Changes()
    lost(changes, 60_000, AT_MS // 60_000, reason="400")
    counted(changes, FAILED, 60_000, reason="400", requests=60_000)
    counted(changes, RETRY, 40_000, reason="503", requests=40_000)
    counted(changes, DELIVERED, 90_000, first=90_000)
    world.store.commit(changes)
    assert ending(world).text == "Delivered at the first attempt."
    changes = Changes()
    counted(changes, DELIVERED, 5, first=4, retries=1)
    world.store.commit(changes)
    assert ending(world).status == "unclear"
    assert "60,000 failed here" in printed(world.tell())


def test_a_deleted_destination(store: StateStore) -> None:
    world = World(store)
    place = world.accepted_event()
    end = place_of(place >> 12, 4000)
    commit_intervals(store, interval(1, 1_000, closed_at_ms=NOW_MS, close_place=end, close_accepted=1))
    assert ending(world).status == "delivered"
    store.commit(Changes(lane_books={LaneKey("hook", "web", "failed", "destination_deleted"): 4}))
    assert ending(world).status == "unclear"
    world.attempt(place, 1, "retry", "503")
    assert ending(world).status == "failed"
    assert "destination_deleted" in ending(world).text


def test_destinations_that_were_not_connected(store: StateStore) -> None:
    world = World(store)
    place = world.accepted_event()
    for slug in ("never", "before", "after", "between", "waits"):
        world.connect(slug, enabled=slug != "never")
    world.connect("elsewhere", "app")
    commit_intervals(
        store,
        interval(1, 1_000, destination="before", closed_at_ms=2_000, close_place=place),
        interval(2, 3_000, destination="after", open_place=place + 1),
        interval(3, 1_000, destination="between", closed_at_ms=2_000, close_place=place),
        interval(4, 5_000, destination="between", open_place=place + 1),
        interval(5, 1_000, destination="gone", closed_at_ms=2_000, close_place=place),
    )
    [arrival] = world.tell().arrivals
    told = {one.destination: one for one in arrival.endings}
    assert set(told) == {"never", "before", "after", "between", "waits"}
    assert {one.status for one in told.values()} == {"not connected"}
    assert "never enabled" in told["never"].text
    assert "and still is" in told["before"].text
    assert told["before"].command.endswith("--gap")
    assert "for the first time 1970-01-01T00:00:03Z" in told["after"].text
    assert "--since" in told["after"].command
    assert "until 1970-01-01T00:00:05Z" in told["between"].text
    printed(world.tell())


def test_no_destination_at_all(store: StateStore) -> None:
    world = World(store)
    world.accepted_event()
    assert "No destination is connected to this source" in printed(world.tell())


# -- replays, and what only the state still knows --------------------------------------------------------------------


def test_replays_of_the_event(world: World) -> None:
    place = world.accepted_event()
    shared = {"destination": "hook", "sources": ["web"], "created_at_ms": NOW_MS}
    world.replays = [
        ReplaySpec(id="holds", **shared),  # type: ignore[arg-type]
        ReplaySpec(id="noted", **shared),  # type: ignore[arg-type]
        ReplaySpec(id="places", ranges=[PlaceRange("web", place, place + 1)], **shared),  # type: ignore[arg-type]
        ReplaySpec(id="other-places", ranges=[PlaceRange("web", place + 1, place + 2)], **shared),  # type: ignore[arg-type]
        ReplaySpec(id="too-late", since_ms=AT_MS + 1, **shared),  # type: ignore[arg-type]
        ReplaySpec(id="other-type", types=["page"], **shared),  # type: ignore[arg-type]
    ]
    world.attempt(1, 1, "failed", "400", destination="replay:noted")
    story = world.tell()
    [arrival] = story.arrivals
    assert [one.destination for one in arrival.endings] == ["hook", "replay:holds", "replay:places"]
    assert [(one.destination, one.status) for one in story.leftovers] == [("replay:noted", "failed")]
    assert "replay:noted: Failed after 1 attempt with 400" in printed(story)


def test_only_the_state_remembers(world: World) -> None:
    world.attempt(5, 1, "retry", "503")
    world.attempt(5, 2, "delivered")
    story = world.tell()
    assert story.known
    assert not story.arrivals
    assert "Neither log nor archive holds the event any more" in printed(story)
    assert "hook: Delivered at attempt 2" in printed(story)
    world.row(9)
    assert "hook: Waits for attempt 2" in printed(world.tell())


def test_what_only_the_archive_holds(store: StateStore, tmp_path: Path) -> None:
    archived = ArchiveWorld(tmp_path, LocalStore(tmp_path / "archive"))
    archived.append(archive_event("m0"), archive_event("m1"))
    archived.archive()
    held = archived.reader.find("m1")
    assert held is not None
    world = World(store)
    world.connect("hook")
    commit_intervals(store, interval(1, 1_000))
    store.commit(Changes(accepted={"0": (held.place >> 12) + 1}))

    def tell(message_id: str) -> Story:
        facts = world.facts(held.received_at_ms + DAY_MS)
        return explain(message_id, world.log, store, facts, archive=archived.reader, archive_name="the folder")

    [arrival] = tell("m1").arrivals
    assert (arrival.status, arrival.place, arrival.source, arrival.name) == (
        "accepted",
        held.place,
        "web",
        "Order Completed",
    )
    assert [one.status for one in arrival.endings] == ["delivered"]
    assert "the archive holds it" in printed(tell("m1"))
    assert "the archive, the folder" in printed(tell("nope"))
    world.attempt(held.place, 1, "failed", "400")
    assert "Failed after 1 attempt with 400" in printed(tell("m1"))


def test_before_any_worker_has_run(world: World) -> None:
    world.ingest("m1")
    [arrival] = explain("m1", world.log, None, world.facts()).arrivals
    assert arrival.status == "waiting"
