"""What the observer keeps of the accepted log."""

from __future__ import annotations

import pytest

from tests.unit.schema.conftest import MakeWorld
from tests.unit.schema.schema_world import T0, World, accepted, blocked
from trunkline.log.records import Delta
from trunkline.schema.limits import DAY_MS, HOUR_MS, OTHER, Limits
from trunkline.spec.outcomes import ACCEPTED, DUPLICATE, ENTERED, FAILED_ON_INGEST, FILTERED_AT_SOURCE
from trunkline.testing.memory_log import MemoryLog


def test_events_are_counted_by_outcome_and_reason(world: World) -> None:
    world.append(accepted(), accepted(), accepted("Home", kind="page"), blocked(reason="unplanned"))
    world.append(accepted("", {"a": 1}, kind="identify"), blocked(reason="schema_violation"), blocked())
    world.observe()
    assert world.counts() == world.expected
    [order] = world.reader.events(name="Order Completed")
    assert (order.allowed, order.reasons) == (2, {"unplanned": 2, "schema_violation": 1})
    assert (order.first_ms, order.last_ms, order.sampled) == (T0, T0, False)


def test_only_what_the_source_took_or_blocked_counts(world: World) -> None:
    """Duplicates and rejections are no schema; what entered from another source counts by its other outcome."""
    others = [
        Delta("web", "track", "Order Completed", FILTERED_AT_SOURCE, DUPLICATE, 5),
        Delta("web", "", "", FAILED_ON_INGEST, "missing_user", 3),
        Delta("web", "track", "Order Completed", ENTERED, "", 2),
        Delta("web", "object", "", "object", "", 4),
        Delta("web", "track", "Gone", FILTERED_AT_SOURCE, "event_setting", 7),
    ]
    world.append(accepted(), accepted("", kind="object"), deltas=others)
    world.observe()
    world.expected["web", "track", "Gone", "event_setting"] = 7
    assert world.counts() == world.expected


def test_violations_that_come_as_events_are_not_shown(world: World) -> None:
    world.append(accepted("Violation Generated", {"x": 1}, message_id="sch-1"), accepted("Violation Generated"))
    world.observe()
    [event] = world.reader.events()
    assert (event.name, event.allowed) == ("Violation Generated", 1)


def test_properties_with_their_paths_and_types(world: World) -> None:
    world.append(
        accepted(properties={"id": 1, "items": [{"price": 1.5}, {"price": None, "sku": "s"}], "a.b": {"c": True}}),
        accepted(properties={"id": "x", "items": [], "tags": ["t", 2]}, at_ms=T0 + 5),
        blocked(properties={"id": 1, "extra": {}}),
    )
    world.observe()
    found = {
        one.path: (one.types, one.allowed, one.blocked)
        for one in world.reader.properties("web", "track", "Order Completed")
    }
    assert found == {
        "id": (("string", "integer"), 2, 1),
        "items": (("array",), 2, 0),
        "items.$": (("object",), 1, 0),
        "items.$.price": (("number", "null"), 1, 0),
        "items.$.sku": (("string",), 1, 0),
        "a\\.b": (("object",), 1, 0),
        "a\\.b.c": (("boolean",), 1, 0),
        "tags": (("array",), 1, 0),
        "tags.$": (("string", "integer"), 1, 0),
        "extra": (("object",), 0, 1),
    }
    last = {one.path: one.last_ms for one in world.reader.properties("web", "track", "Order Completed")}
    assert last["id"] == T0 + 5
    assert last["extra"] == T0


@pytest.mark.parametrize("kind", ["identify", "group"])
def test_traits(kind: str, world: World) -> None:
    world.append(accepted("", {"email": "e", "age": 3}, kind=kind))
    world.observe()
    assert world.properties("", kind) == {"email": (1, 0, 0), "age": (1, 0, 0)}


def test_what_the_plan_took_out(world: World) -> None:
    """Unplanned properties are omitted; those that broke their rule count as blocked (spec §9)."""
    protocols = {"sourceId": "web", "omitted": ["new", "new"], "omitted_on_violation": ["price"]}
    world.append(accepted(properties={"id": 1}, protocols=protocols), accepted(properties={"id": 1, "price": 2}))
    world.observe()
    assert world.properties() == {"id": (2, 0, 0), "new": (0, 0, 1), "price": (1, 1, 0)}


def violation(field: str = "properties.id") -> dict[str, object]:
    return {"type": "Required", "field": field, "description": f"{field} is required"}


def test_violations_with_samples(make_world: MakeWorld) -> None:
    world = make_world(limits=Limits(samples=2, sample_bytes=100))
    protocols = {"sourceId": "web", "violations": [violation(), violation("properties.b")]}
    for minute in range(4):
        at_ms = T0 + minute * 60_000
        world.append(accepted(properties={"pad": "x" * 200, "n": minute}, at_ms=at_ms, protocols=protocols))
        world.observe()
    world.append(
        blocked(
            at_ms=T0 + 600_000, reason="schema_violation", protocols={"sourceId": "web", "violations": [violation()]}
        )
    )
    world.observe()
    first, second = world.reader.violations(samples=True)
    assert (first.type, first.field, first.description) == ("Required", "properties.id", "properties.id is required")
    assert (first.event_type, first.name, first.count, second.count) == ("track", "Order Completed", 5, 4)
    assert (first.first_ms, first.last_ms) == (T0, T0 + 600_000)
    assert [(one.received_at_ms, one.blocked) for one in first.samples] == [(T0 + 600_000, True), (T0 + 180_000, False)]
    assert len(first.samples[1].body) == 100 < first.samples[1].size_bytes


@pytest.mark.parametrize(
    "protocols",
    [
        {"sourceId": "other", "violations": [violation()], "omitted": ["x"]},
        {"violations": [violation()]},
        {"sourceId": "web", "violations": "no", "omitted": {"a": 1}},
        {"sourceId": "web", "violations": [1, None], "omitted": [3], "omitted_on_violation": None},
        {"event_version": 2},
    ],
)
def test_protocols_that_another_wrote_say_nothing(protocols: dict[str, object], world: World) -> None:
    world.append(accepted(properties={"id": 1}, protocols=protocols))
    world.observe()
    assert world.reader.violations() == []
    assert world.properties() == {"id": (1, 0, 0)}


def test_counts_by_time(world: World) -> None:
    """By the hour for two days, by the day for a month; properties by the day."""
    noon_ms = T0 + 50 * DAY_MS + 11 * HOUR_MS
    for days, hours in ((0, 0), (1, 0), (4, 2), (4, 9), (40, 0)):
        at_ms = noon_ms - days * DAY_MS - hours * HOUR_MS
        world.append(
            accepted(properties={"id": 1}, at_ms=at_ms, protocols={"sourceId": "web", "violations": [violation()]}),
            blocked(at_ms=at_ms, properties={"id": 2}),
        )
        world.observe()
    world.clock.ms = now_ms = noon_ms + 1000
    world.observer.tidy(365)

    def seen(since_ms: int | None) -> tuple[int, int, int, int, tuple[int, int, int]]:
        [event] = world.reader.events(since_ms=since_ms)
        [stopped] = world.reader.blocked(since_ms=since_ms)
        [broken] = world.reader.violations(since_ms=since_ms)
        [found] = world.reader.properties("web", "track", "Order Completed", since_ms=since_ms)
        return event.allowed, event.blocked, stopped.count, broken.count, (found.allowed, found.blocked, found.omitted)

    assert seen(now_ms - HOUR_MS) == (1, 1, 1, 1, (1, 1, 0))
    assert seen(now_ms - 2 * DAY_MS) == (2, 2, 2, 2, (2, 2, 0))
    assert seen(now_ms - 4 * DAY_MS) == (4, 4, 4, 4, (4, 4, 0))
    assert seen(0) == (4, 4, 4, 4, (4, 4, 0)), "a month is kept"
    assert seen(None) == (5, 5, 5, 5, (5, 5, 0))
    assert world.reader.events(since_ms=now_ms) == []


def test_what_is_not_seen_any_more_goes(world: World) -> None:
    world.append(accepted("Old", {"a": 1}, protocols={"sourceId": "web", "violations": [violation()]}))
    world.append(accepted("New", {"a": 1}))
    world.observe()
    world.clock.pass_s(80 * 86_400)
    world.append(accepted("New", {"b": 1}, at_ms=world.clock.ms))
    world.observe()
    world.clock.pass_s(20 * 86_400)
    world.observer.tidy(90)
    assert [event.name for event in world.reader.events()] == ["New"]
    assert world.properties("New") == {"b": (1, 0, 0)}
    assert world.reader.violations() == []
    world.append(accepted("Old", {"c": 1}, at_ms=world.clock.ms))
    world.observe()
    assert world.properties("Old") == {"c": (1, 0, 0)}
    assert world.reader.events(name="Old")[0].allowed == 1


# -- bounds ----------------------------------------------------------------------------------------------------


def test_beyond_the_limits_things_count_together(make_world: MakeWorld) -> None:
    limits = Limits(events=3, properties=2, traits=1, violations=2)
    world = make_world(limits=limits)
    for number in range(6):
        broken = {"sourceId": "web", "violations": [violation(f"properties.{number}")]}
        world.append(accepted(f"E{number}", {"a": 1}, protocols=broken), accepted(f"P{number}", kind="page"))
        world.append(
            accepted("E0", {f"p{number}": 1, f"q{number}": "x"}), accepted("", {f"t{number}": 1}, kind="group")
        )
        world.observe()
        if number == 3:
            world.restart()
    events = {(event.type, event.name): event.allowed for event in world.reader.events()}
    assert events == {
        **{("track", f"E{number}"): 7 if number == 0 else 1 for number in range(3)},
        ("track", OTHER): 3,
        **{("page", f"P{number}"): 1 for number in range(3)},
        ("page", OTHER): 3,
        ("group", ""): 6,
    }
    assert world.properties("E0") == {"a": (1, 0, 0), "p0": (1, 0, 0), OTHER: (6, 0, 0)}
    assert world.properties("", "group") == {"t0": (1, 0, 0), OTHER: (5, 0, 0)}
    found = {one.field: one.count for one in world.reader.violations()}
    assert found == {"properties.0": 1, "properties.1": 1, OTHER: 4}


def test_a_full_database_takes_up_nothing_new(make_world: MakeWorld) -> None:
    world = make_world(limits=Limits(max_bytes=1))
    for name in ("A", "B", "A"):
        world.append(accepted(name, {"x": 1}))
        world.observe()
    assert {event.name: event.allowed for event in world.reader.events()} == {OTHER: 3}


def test_little_memory_changes_nothing(make_world: MakeWorld) -> None:
    world = make_world(limits=Limits(cached_rows=1))
    for number in range(3):
        world.append(*[accepted(f"E{at}", {f"p{number}": 1, "q": 1}) for at in range(4)])
        world.observe()
    assert world.counts() == world.expected
    assert world.properties("E3") == {"q": (3, 0, 0), "p0": (1, 0, 0), "p1": (1, 0, 0), "p2": (1, 0, 0)}


class Cpu:
    """Each look at it costs so much."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s
        self.spent_s = 0.0

    def __call__(self) -> float:
        self.spent_s += self.cost_s
        return self.spent_s


def test_without_time_counts_of_events_stay_exact_and_properties_are_estimated(make_world: MakeWorld) -> None:
    world = make_world(cpu_s=Cpu(10.0), limits=Limits(always=4))
    broken = {"sourceId": "web", "violations": [violation()], "omitted": ["new"]}
    for _ in range(3):
        events = [accepted(properties={"id": 1, "odd": 1} if at % 2 else {"id": 1}) for at in range(40)]
        world.append(*events, accepted(properties={"id": 1}, protocols=broken), accepted("Rare", {"r": 1}))
        world.append(*[blocked(properties={"id": 1}, protocols=broken) for _ in range(30)])
        world.observe()
    assert world.counts() == world.expected
    [order] = world.reader.events(name="Order Completed")
    assert order.sampled
    found = world.properties()
    assert found["id"] == (123, 90, 0)
    assert 30 < found["odd"][0] < 93, "an estimate"
    assert found["new"] == (0, 0, 3), "what the plan says is exact"
    assert world.reader.violations()[0].count == 93
    [rare] = world.reader.events(name="Rare")
    assert not rare.sampled
    assert world.properties("Rare") == {"r": (3, 0, 0)}


def test_with_time_every_event_is_looked_at(make_world: MakeWorld) -> None:
    world = make_world(cpu_s=lambda: 0.0, limits=Limits(always=0))
    world.append(*[accepted(properties={f"p{at}": 1}) for at in range(50)])
    world.observe()
    assert len(world.properties()) == 50


# -- the log ---------------------------------------------------------------------------------------------------


def test_a_log_that_was_shortened_is_skipped_and_said(world: World) -> None:
    world.append(accepted())
    world.observe()
    for _ in range(3):
        world.append(accepted(), accepted(), accepted("", kind="object"))
        world.clock.pass_s(1)
    world.log.retain("accepted", "0", consumed=1 << 60, older_than_ms=world.clock.ms, max_bytes=1 << 60)
    for _ in range(2):
        world.observe()
        [event] = world.reader.events()
        skipped = world.reader.skipped()
        assert skipped is not None
        assert event.allowed + skipped.events == world.expected["web", "track", "Order Completed", ""] == 7
        assert skipped.events == 4
        world.restart()


def test_a_new_observer_begins_at_the_oldest_and_misses_nothing(world: World) -> None:
    world.append(accepted())
    world.clock.pass_s(1)
    world.append(accepted())
    world.log.retain("accepted", "0", consumed=1 << 60, older_than_ms=world.clock.ms, max_bytes=1 << 60)
    world.observe()
    assert world.reader.skipped() is None


def test_envelopes_that_do_not_count(world: World) -> None:
    payload = world.append(accepted())
    world.observe()
    world.restart()
    world.repeat(payload)
    world.append(epoch=3, fence=True)
    world.append(accepted("Late"), epoch=1)
    del world.expected["web", "track", "Late", ""]
    world.append(accepted("Mine"), epoch=3)
    world.observe()
    assert world.counts() == world.expected


def test_a_log_like_kafka(make_world: MakeWorld) -> None:
    world = make_world(log=MemoryLog(kafka_like=True, seed=5))
    for number in range(40):
        world.append(accepted(f"E{number % 3}", {"n": number}), blocked())
        if number % 7 == 0:
            world.observe()
        if number % 11 == 0:
            world.restart()
    world.observe()
    assert world.counts() == world.expected
    assert world.reader.skipped() is None


def test_deltas_without_events_take_their_time_from_the_clock(world: World) -> None:
    world.append(deltas=[Delta("web", "track", "X", FILTERED_AT_SOURCE, "forwarding_limit", 2)])
    world.append(deltas=[Delta("web", "track", "X", ACCEPTED, "", 2)])
    world.observe()
    [event] = world.reader.events()
    assert (event.last_ms, event.reasons, event.allowed) == (world.clock.ms, {"forwarding_limit": 2}, 0)


def test_without_a_database_there_is_nothing(world: World) -> None:
    reader = type(world.reader)(world.path.with_name("none.db"))
    assert not reader.exists
    assert not [*reader.events(), *reader.violations(), *reader.blocked(), *reader.properties("a", "b", "c")]
    assert reader.skipped() is None
