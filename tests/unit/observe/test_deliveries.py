"""The view on deliveries sums the record up as its words say."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from tests.unit.observe.record_kit import MINUTE, NOW_MS, counted, took
from trunkline.cli.deliveries import print_deliveries
from trunkline.observe.deliveries import Deliveries, aligned, read_deliveries
from trunkline.spec.outcomes import ACCEPTED, DELIVERED, FAILED, FAILED_ON_INGEST, FILTERED_AT_SOURCE
from trunkline.state.base import RETRY, BulkRow, Changes, RetryRow, Sample, StateStore

DAY_MS = 86_400_000


def view(store: StateStore, **options: object) -> Deliveries:
    since_ms, until_ms = aligned(NOW_MS - DAY_MS, NOW_MS, NOW_MS)
    return read_deliveries(store, since_ms, until_ms, **options)  # type: ignore[arg-type]


def printed(deliveries: Deliveries, width: int = 80) -> str:
    out = StringIO()
    print_deliveries(Console(file=out, width=width, markup=False, highlight=False, color_system=None), deliveries)
    return out.getvalue()


def waiting(place: int, destination: str = "hook", source: str = "web") -> RetryRow:
    return RetryRow(destination, "", "0", place, f"m{place}", source, "track", "E", 0, 1, 0, 0, "503", "send", b"{}")


def test_the_two_rates_are_those_of_the_seed(store: StateStore) -> None:
    """93.36 % of first attempts are accepted, and 99.28 % of the events in the end."""
    changes = Changes()
    counted(changes, DELIVERED, 9928, first=9336, retries=700, requests=9928)
    counted(changes, FAILED, 72, reason="503", retries=648, requests=72)
    counted(changes, RETRY, 1348, reason="503", requests=1348)
    store.commit(changes)
    line = view(store).destinations["hook"]
    assert line.first_attempt_rate == pytest.approx(0.9336)
    assert line.final_rate == pytest.approx(0.9928)
    assert (line.tally.retries, line.tally.failed, line.pending_retry) == (1348, 72, 0)
    text = printed(view(store))
    assert "93.36 %" in text
    assert "99.28 %" in text


def test_events_that_wait_for_a_retry_lower_the_first_rate_only(store: StateStore) -> None:
    changes = Changes()
    counted(changes, DELIVERED, 8, first=8, requests=8)
    changes.rows = {row.key: row for row in (waiting(1), waiting(2), waiting(3, source="app"))}
    bulk = {"web": 5, "app": 2}
    tried = BulkRow("hook", "0", 100, 200, False, "f", 1, bulk, 0, attempts=1)
    untried = BulkRow("hook", "0", 200, 300, False, "g", 1, bulk, 0)
    changes.bulk = {row.key: row for row in (tried, untried)}
    store.commit(changes)
    line = view(store).destinations["hook"]
    assert line.pending_retry == 3 + 7
    assert line.first_attempt_rate == pytest.approx(8 / 18)
    assert line.final_rate == 1.0
    assert view(store, source="web").destinations["hook"].pending_retry == 2 + 5
    assert view(store, with_pending=False).destinations["hook"].first_attempt_rate == 1.0
    assert view(store, destination="other").destinations == {}


def test_a_batch_that_fails_on_one_answer_is_one_request(store: StateStore) -> None:
    changes = Changes()
    counted(changes, FAILED, 500, reason="401", requests=1)
    counted(changes, FAILED, 3, reason="destination_deleted")
    counted(changes, RETRY, 40, reason="429", requests=2)
    store.commit(changes)
    line = view(store).destinations["hook"]
    assert list(line.reasons) == ["401", "destination_deleted", "429"]
    assert line.reasons["401"].text.title == "Invalid API key"
    text = printed(view(store))
    assert "401 Invalid API key: 1 request, 500 events failed" in text
    assert "destination_deleted Destination deleted: without a request, 3 events failed" in text
    assert "429 Rate limit exceeded: 2 requests, 40 events to be tried again" in text
    assert "Put a valid key into the destination's settings" in " ".join(text.split())


def test_filters_narrow_what_is_summed(store: StateStore) -> None:
    changes = Changes()
    counted(changes, DELIVERED, 1, first=1)
    counted(changes, DELIVERED, 2, first=2, source="app")
    counted(changes, DELIVERED, 4, first=4, destination="other")
    counted(changes, DELIVERED, 8, first=8, minute=MINUTE - 25 * 60)
    store.commit(changes)
    assert {slug: line.tally.delivered for slug, line in view(store).destinations.items()} == {"hook": 3, "other": 4}
    assert view(store, source="app").destinations["hook"].tally.delivered == 2
    assert list(view(store, destination="other").destinations) == ["other"]


def test_break_downs(store: StateStore) -> None:
    changes = Changes()
    counted(changes, DELIVERED, 5, first=4, name="A", app_version="1.0")
    counted(changes, DELIVERED, 3, first=3, name="B", type="page", source="app")
    counted(changes, FAILED, 2, reason="400", name="A", app_version="1.0")
    store.commit(changes)

    def groups(by: str) -> dict[str, tuple[int, int]]:
        line = view(store, by=by).destinations["hook"]
        return {name: (tally.delivered, tally.failed) for name, tally in line.groups.items()}

    assert groups("name") == {"A": (5, 2), "B": (3, 0)}
    assert groups("type") == {"track": (5, 2), "page": (3, 0)}
    assert groups("source") == {"web": (5, 2), "app": (3, 0)}
    assert groups("app-version") == {"1.0": (5, 2), "": (3, 0)}
    assert groups("reason") == {"": (8, 0), "400": (0, 2)}
    text = printed(view(store, by="name"))
    assert "by name" in text
    assert "71.42 %" in text  # 5 of 7


def test_a_long_break_down_is_cut_for_people(store: StateStore) -> None:
    changes = Changes()
    for number in range(60):
        counted(changes, DELIVERED, number + 1, first=1, name=f"Event {number:02}")
    store.commit(changes)
    text = printed(view(store, by="name"))
    assert "Event 59" in text
    assert "Event 09" not in text
    assert "and 10 more" in text
    assert len(view(store, by="name").destinations["hook"].groups) == 60


def test_latencies_and_sources(store: StateStore) -> None:
    changes = Changes()
    counted(changes, DELIVERED, 100, first=100)
    took(changes, 10, 90)
    took(changes, 1000, 10)
    took(changes, 60_000, 50, source="app")
    counted(changes, ACCEPTED, 100, destination="")
    counted(changes, FAILED_ON_INGEST, 2, destination="", reason="no_user_anon_id")
    counted(changes, FILTERED_AT_SOURCE, 7, destination="", reason="duplicate")
    store.commit(changes)
    latency = view(store, source="web").destinations["hook"].latency_ms
    assert latency is not None
    assert 10 <= latency["p50"] < 16
    assert 1000 <= latency["p99"] < 1500
    source = view(store).sources["web"]
    assert (source.accepted, source.failed_on_ingest, source.filtered_at_source) == (100, 2, 7)
    assert "duplicate 7, no_user_anon_id 2" in " ".join(printed(view(store)).split())
    assert view(store, destination="hook").sources == {}


def test_samples_are_printed_without_what_a_terminal_obeys(store: StateStore) -> None:
    changes = Changes()
    counted(changes, FAILED, 1, reason="400", requests=1)
    answer = '{"status":400,"body":"[red]no\x1b[2Jname"}'
    changes.samples = [Sample("hook", "400", NOW_MS - 5, "m1", '{"event":"A"}', '{"method":"POST"}', answer)]
    store.commit(changes)
    assert view(store).destinations["hook"].samples == []
    text = printed(view(store, samples=True))
    assert "\x1b" not in text
    assert "[red]no�[2Jname" in text
    assert "messageId m1" in text
    [sample] = json.loads(json.dumps(view(store, samples=True).as_json()))["destinations"]["hook"]["samples"]
    assert sample["response"] == answer


def test_an_empty_record_says_what_to_do(store: StateStore) -> None:
    assert "--since 7d" in printed(view(store))
    changes = Changes()
    counted(changes, ACCEPTED, 1, destination="")
    store.commit(changes)
    assert "No event has reached a destination" in printed(view(store))


def test_replays_come_last_and_lines_fit(store: StateStore) -> None:
    changes = Changes()
    counted(changes, DELIVERED, 123_456_789, first=123_456_000, destination="replay:r1")
    counted(changes, DELIVERED, 987_654_321, first=987_654_000, destination="zeta-destination-with-a-long-slug")
    counted(changes, FAILED, 1, destination="zeta-destination-with-a-long-slug", reason="x" * 120)
    store.commit(changes)
    deliveries = view(store, by="reason")
    assert list(deliveries.destinations) == ["zeta-destination-with-a-long-slug", "replay:r1"]
    assert max(len(line) for line in printed(deliveries).splitlines()) <= 80


@pytest.mark.parametrize(("back_ms", "step_ms"), [(DAY_MS, 60_000), (3 * DAY_MS, 3_600_000)])
def test_the_range_is_that_of_the_records_grain(back_ms: int, step_ms: int) -> None:
    since_ms, until_ms = aligned(NOW_MS - back_ms, NOW_MS, NOW_MS)
    assert since_ms % step_ms == 0
    assert NOW_MS - back_ms - step_ms < since_ms <= NOW_MS - back_ms
    assert until_ms % 60_000 == 0
    assert until_ms >= NOW_MS


def test_a_rate_is_never_rounded_up_to_all(store: StateStore) -> None:
    changes = Changes()
    counted(changes, DELIVERED, 9_999_999, first=9_999_999)
    counted(changes, FAILED, 1, reason="400")
    store.commit(changes)
    assert "99.99 %" in printed(view(store))
    assert "100.00 %" not in printed(view(store))


def test_events_that_another_source_forwards_count_once(store: StateStore) -> None:
    changes = Changes()
    counted(changes, "entered", 5, destination="", source="dead")
    counted(changes, "accepted", 4, destination="", source="dead")
    counted(changes, "filtered_at_source", 1, destination="", source="dead", reason="event_setting")
    store.commit(changes)
    line = view(store).sources["dead"]
    assert (line.entered, line.accepted, line.filtered_at_source) == (5, 4, 1)
    assert line.reasons == {"event_setting": 1}
    assert "5 forwarded to it, event_setting 1" in " ".join(printed(view(store)).split())
