"""What ``why`` says of the stages that it runs once more, at sources and destinations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.unit.archive.archive_world import World as ArchiveWorld
from tests.unit.observe.record_kit import commit_intervals, counted, interval
from tests.unit.observe.story_kit import AT_MS, World, body_of
from tests.unit.observe.test_why import ending, printed
from trunkline.archive.local_store import LocalStore
from trunkline.cli.why import story_json
from trunkline.delivery.programs import source_program_of
from trunkline.log.records import AcceptedEvent, BlockedEvent, LoggedEvent
from trunkline.observe.retrace import Retracer, Step, difference_lines
from trunkline.observe.why import Arrival, explain
from trunkline.rehearsal.difference import bodies_differ
from trunkline.spec.discards import Discard
from trunkline.spec.filters import DROP, DROP_PROPERTIES, SAMPLE, Filter
from trunkline.spec.outcomes import FILTERED_AT_DESTINATION
from trunkline.spec.plans import BLOCK, OMIT, Enforcement, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import IntegrationFilter, SchemaFilters
from trunkline.spec.transformations import PropertyValue, Transformation
from trunkline.state.base import Changes
from trunkline.testing.memory_state import MemoryStateStore
from trunkline.workspace.model import Source

SCHEMA = {
    "type": "object",
    "properties": {
        "properties": {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    },
}


@pytest.fixture
def world() -> World:
    """Source ``web`` is connected to one destination."""
    store = MemoryStateStore()
    world = World(store)
    world.connect("hook")
    commit_intervals(store, interval(1, 1_000))
    for slug in ("web", "dead", "audit"):
        world.sources[slug] = Source(slug, slug.title(), "http", (f"wk_{slug}",))
    return world


def plan(world: World, **enforce: object) -> None:
    configuration = SchemaConfiguration(**enforce)  # type: ignore[arg-type]
    world.plans["shop"] = TrackingPlan("shop", "Shop", ("web",), (Rule("track", SCHEMA, "E"),), configuration)


def retraced(world: World, body: bytes, source: str = "web") -> bytes | str:
    """What the source's stages make of an event: its body, or why it is blocked."""
    result = source_program_of(world.snapshot(), source).run(LoggedEvent("m1", "track", "E", body))
    return result.event.reason if isinstance(result.event, Discard) else result.event.body


def pass_on(world: World, **properties: object) -> Arrival:
    """Ingest an event and accept what the source's stages make of it."""
    body = body_of("m1", properties=properties)
    accepted = retraced(world, body)
    assert isinstance(accepted, bytes)
    world.accept(world.ingest("m1", body=body), "m1", body=accepted)
    [arrival] = world.tell().arrivals
    assert arrival.status == "accepted"
    return arrival


def stages(arrival: Arrival) -> dict[str, Step]:
    return {step.stage: step for step in arrival.steps}


def block(world: World, reason: str, protocols: bytes = b"", **properties: object) -> BlockedEvent:
    body = body_of("m1", properties=properties)
    assert retraced(world, body) == reason
    return BlockedEvent("web", AT_MS, "m1", "track", "E", body, reason, protocols)


# -- blocked ---------------------------------------------------------------------------------------------------------


def test_a_blocked_event_tells_stage_reason_violations_and_mend(world: World) -> None:
    plan(world, track=Enforcement(violations=BLOCK))
    protocols = (
        b'{"sourceId":"web","violations":[{"type":"Required","field":"properties","description":"total is missing"}]}'
    )
    blocked = block(world, "schema_violation", protocols, price=1)
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked], reason="schema_violation")
    [arrival] = world.tell().arrivals
    assert (arrival.status, arrival.endings, arrival.body) == ("discarded", [], blocked.body)
    assert [step.stage for step in arrival.steps] == ["ingest", "dedupe", "plan"]
    assert not arrival.steps[-1].passed
    text = printed(world.tell())
    assert "plan: Blocked as schema_violation: The event breaks its rule of the tracking plan" in text
    assert "- Required, properties: total is missing" in text
    assert "Mend: Read the violations of the source" in text


def test_violations_are_found_again_where_none_were_noted(world: World) -> None:
    plan(world, track=Enforcement(violations=BLOCK))
    blocked = block(world, "schema_violation", price=1)
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked])
    [arrival] = world.tell().arrivals
    assert [one.type for one in arrival.steps[-1].violations] == ["Required"]
    world.plans.clear()
    [arrival] = world.tell().arrivals
    assert (arrival.steps[-1].stage, arrival.steps[-1].violations) == ("plan", ())


@pytest.mark.parametrize(
    ("transformation", "reason", "said"),
    [
        (Transformation("t", "web", "all", drop=True), "transformation_drop", "A transformation of the source"),
        (Transformation("broken", "web", "type = ", drop=True), "invalid_transformation", "(broken: "),
    ],
)
def test_an_event_that_a_transformation_ended(
    world: World, transformation: Transformation, reason: str, said: str
) -> None:
    world.transformations = (transformation,)
    blocked = block(world, reason)
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked])
    [arrival] = world.tell().arrivals
    assert arrival.steps[-1].stage == "transformations"
    assert said in printed(world.tell())


def test_an_event_that_the_schema_blocks(world: World) -> None:
    world.sources["web"] = replace(world.sources["web"], schema_filters=SchemaFilters(blocked_events=("E",)))
    blocked = block(world, "event_setting")
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked])
    [arrival] = world.tell().arrivals
    assert (arrival.steps[-1].stage, arrival.steps[-1].passed) == ("schema", False)


def test_copies_of_a_blocked_event_are_duplicates(world: World) -> None:
    plan(world, unplanned_events=BLOCK, track=Enforcement(violations=BLOCK))
    blocked = block(world, "schema_violation")
    start = world.ingest("m1", "m1", body=blocked.body)
    world.accept(start, blocked=[blocked])
    first, second = world.tell().arrivals
    assert first.steps[-1].stage == "plan"
    assert (second.status, second.steps[-1].stage) == ("discarded", "dedupe")
    assert "Discarded as duplicate" in second.steps[-1].text


def test_a_blocked_event_whose_ingested_copy_is_gone(world: World) -> None:
    world.accept(0, blocked=[BlockedEvent("web", AT_MS, "m1", "track", "E", body_of("m1"), "unplanned")])
    [arrival] = world.tell().arrivals
    assert (arrival.status, arrival.source, arrival.steps[0].stage) == ("discarded", "web", "plan")


def test_what_only_the_archive_of_blocked_events_holds(world: World, tmp_path: Path) -> None:
    archived = ArchiveWorld(tmp_path, LocalStore(tmp_path / "archive"))
    held = BlockedEvent("web", AT_MS, "m1", "track", "E", body_of("m1"), "unplanned")
    archived.append(blocked=[held])
    archived.archive()
    story = explain(
        "m1",
        world.log,
        world.store,
        world.facts(),
        archive=archived.reader,
        blocked_archive=archived.blocked_reader,
        archive_name="the folder",
    )
    [arrival] = story.arrivals
    assert (arrival.status, arrival.body) == ("discarded", held.body)
    assert "Blocked as unplanned" in printed(story)
    assert "the archive of blocked events holds it" in printed(story)


# -- changed at the source -------------------------------------------------------------------------------------------


def test_what_each_stage_changed_is_told_at_that_stage(world: World) -> None:
    plan(world, track=Enforcement(unplanned_properties=OMIT))
    world.transformations = (
        Transformation("rename", "web", "all", new_event_name="F", values=(PropertyValue(("properties.kind",), "x"),)),
    )
    told = stages(pass_on(world, total=1.50, junk="j"))
    assert list(told) == ["ingest", "dedupe", "plan", "transformations"]
    by_plan = {(one.kind, one.path) for one in told["plan"].changes}
    assert ("removed", "properties.junk") in by_plan
    assert {path.partition(".")[0] for _, path in by_plan} == {"properties", "context"}
    assert {(one.kind, one.path) for one in told["transformations"].changes} == {
        ("changed", "event"),
        ("added", "properties.kind"),
    }
    text = printed(world.tell())
    assert '- properties.junk was removed, it was "j"' in text
    assert '- event was "E", is "F"' in text
    assert '- properties.kind was added: "x"' in text


def test_violations_that_are_let_pass_are_told(world: World) -> None:
    plan(world)
    told = stages(pass_on(world, total="much"))
    assert [one.type for one in told["plan"].violations] == ["Invalid Type"]
    assert told["plan"].passed
    assert "Breaks the tracking plan shop, which lets such events pass." in printed(world.tell())


def test_an_event_that_keeps_to_its_plan(world: World) -> None:
    plan(world)
    told = stages(pass_on(world, total=1))
    assert told["plan"].text == "The tracking plan shop has nothing against it."
    assert told["plan"].changes == ()


def test_without_any_stage_nothing_is_said(world: World) -> None:
    assert list(stages(pass_on(world, total=1))) == ["ingest", "dedupe"]


def test_the_workspace_of_then_is_asked(world: World) -> None:
    world.transformations = (Transformation("old", "web", "all", new_event_name="Old"),)
    world.past["v0"] = world.snapshot("v0")
    accepted = retraced(world, body_of("m1"))
    world.transformations = (Transformation("new", "web", "all", new_event_name="New"),)
    assert isinstance(accepted, bytes)
    world.accept(world.ingest("m1"), "m1", body=accepted, snapshot="v0")
    [arrival] = world.tell().arrivals
    assert [step.stage for step in arrival.steps] == ["ingest", "dedupe", "transformations"]
    world.past.clear()
    [arrival] = world.tell().arrivals
    assert arrival.steps[-1].stage == "source stage"
    assert "Changed on its way; the workspace of then is not kept." in printed(world.tell())
    assert [one.path for one in arrival.steps[-1].changes] == ["event"]


# -- forwarded -------------------------------------------------------------------------------------------------------


def test_a_blocked_event_that_was_forwarded(world: World) -> None:
    plan(world, track=Enforcement(violations=BLOCK), forward_blocked_events_to="dead")
    world.transformations = (Transformation("mark", "dead", "all", new_event_name="Dead"),)
    protocols = {
        "sourceId": "web",
        "violations": [{"type": "Required", "field": "", "description": "total is required"}],
    }
    blocked = block(world, "schema_violation", msgspec.json.encode(protocols))
    content = msgspec.json.decode(blocked.body)
    body = msgspec.json.encode(content | {"event": "Dead", "context": {"protocols": protocols}})
    survivor = AcceptedEvent("dead", AT_MS, "m1", "track", "Dead", body)
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked], more=[survivor])
    first, second = world.tell().arrivals
    assert (first.source, first.status, second.source, second.status) == ("web", "discarded", "dead", "accepted")
    assert [step.stage for step in first.steps] == ["ingest", "dedupe", "plan", "forwarded"]
    assert "Forwarded to source dead" in first.steps[-1].text
    assert [step.stage for step in second.steps] == ["forwarded", "transformations"]
    assert "Blocked at source web as schema_violation, and forwarded" in second.steps[0].text
    assert [one.path for one in second.steps[1].changes] == ["event"]
    printed(world.tell())


def test_one_that_was_forwarded_and_blocked_again(world: World) -> None:
    plan(world, track=Enforcement(violations=BLOCK), forward_blocked_events_to="dead")
    world.sources["dead"] = replace(world.sources["dead"], schema_filters=SchemaFilters(blocked_types=("track",)))
    blocked = block(world, "schema_violation")
    again = BlockedEvent("dead", AT_MS, "m1", "track", "E", blocked.body, "event_setting")
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked, again])
    first, second = world.tell().arrivals
    assert [step.stage for step in first.steps] == ["ingest", "dedupe", "plan", "forwarded"]
    assert [step.stage for step in second.steps] == ["forwarded", "schema"]
    assert not second.steps[-1].passed


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Source("dead", "Dead", "http", ("k",), enabled=False), "discarded as source_disabled"),
        (None, "discarded as source_disabled"),
        (
            Source("dead", "Dead", "http", ("k",), schema_filters=SchemaFilters(blocked_types=("track",))),
            "there, stage schema, discarded as event_setting",
        ),
        (Source("dead", "Dead", "http", ("k",)), "discarded as forwarding_limit"),
    ],
)
def test_one_that_did_not_get_into_the_source_that_it_was_forwarded_to(
    world: World, target: Source | None, said: str
) -> None:
    """What is discarded there is counted, and not kept a second time."""
    plan(world, track=Enforcement(violations=BLOCK), forward_blocked_events_to="dead")
    blocked = block(world, "schema_violation")
    world.accept(world.ingest("m1", body=blocked.body), blocked=[blocked])
    del world.sources["dead"]
    if target is not None:
        world.sources["dead"] = target
    [arrival] = world.tell().arrivals
    assert [step.stage for step in arrival.steps] == ["ingest", "dedupe", "plan", "forwarded"]
    assert said in arrival.steps[-1].text


def test_events_made_of_violations(world: World) -> None:
    plan(world, forward_violations_to="audit")
    properties = {
        "eventMessageID": "m1",
        "sourceSlug": "web",
        "violationDescription": "properties.total is required",
        "violationType": "Required",
    }
    body = msgspec.json.encode({"type": "track", "event": "Violation Generated", "properties": properties})
    reports = [AcceptedEvent("audit", AT_MS, f"sch-{n}", "track", "Violation Generated", body) for n in range(7)]
    odd = AcceptedEvent("audit", AT_MS, "sch-odd", "track", "Violation Generated", b'{"properties":"m1"}')
    own = AcceptedEvent("web", AT_MS, "m1-own", "track", "Violation Generated", body)
    world.accept(world.ingest("m1"), "m1", more=[*reports, odd, own])
    [arrival] = world.tell().arrivals
    assert arrival.steps[-1].stage == "forwarded"
    assert arrival.steps[-1].text == (
        "Its violations went to source audit as events: sch-0, sch-1, sch-2, sch-3, sch-4 and 2 more."
    )
    [report] = world.tell("sch-3").arrivals
    assert [(step.stage, step.text) for step in report.steps] == [
        ("forwarded", "Made of a violation of event m1 of source web: properties.total is required.")
    ]
    assert world.tell("sch-odd").arrivals[0].steps[0].text == "Accepted."
    assert world.tell("m1-own").arrivals[0].steps[0].text == "Accepted."


# -- at a destination ------------------------------------------------------------------------------------------------


def filtered(world: World, reason: str = "FILTERED_BY_RULES") -> None:
    """The record has counted an event that was filtered."""
    changes = Changes()
    counted(changes, FILTERED_AT_DESTINATION, 1, reason=reason)
    world.store.commit(changes)


def set_filters(world: World, *filters: Filter) -> None:
    world.destinations["hook"] = replace(world.destinations["hook"], filters=filters)


def test_a_filter_that_dropped_the_event_is_named(world: World) -> None:
    set_filters(
        world,
        Filter('event = "Other"', DROP, title="others"),
        Filter('event = "E"', DROP, title="no E"),
        Filter("properties.total > 1", DROP),
    )
    pass_on(world, total=5)
    filtered(world)
    assert ending(world).status == "filtered"
    assert 'It was filter 2 (no E): drop event = "E"; filter 3: drop properties.total > 1.' in ending(world).text
    assert "Filtered as FILTERED_BY_RULES" in printed(world.tell())


def test_the_record_has_the_last_word(world: World) -> None:
    """A destination that was behind judges by a later workspace: nothing was filtered, so the event was delivered."""
    set_filters(world, Filter("all", DROP))
    pass_on(world, total=5)
    assert ending(world).text == "Delivered at the first attempt."
    filtered(world, "FILTERED_BY_INTEGRATIONS_OBJECT")
    assert ending(world).status == "delivered"
    filtered(world)
    assert ending(world).status == "filtered"


def test_an_integration_filter_of_the_source(world: World) -> None:
    kept_back = SchemaFilters(integrations=(IntegrationFilter("track", "E", ("hook",)),))
    world.sources["web"] = replace(world.sources["web"], schema_filters=kept_back)
    pass_on(world, total=5)
    filtered(world, "FILTERED_BY_INTEGRATION_FILTER")
    assert ending(world).status == "filtered"
    assert "FILTERED_BY_INTEGRATION_FILTER" in ending(world).text


def test_a_sample_by_chance_is_not_decided_again(world: World) -> None:
    set_filters(world, Filter("all", SAMPLE, percent=0.5))
    pass_on(world, total=5)
    filtered(world)
    assert ending(world).status == "unclear"
    assert "Delivered at the first attempt, or filtered as FILTERED_BY_RULES" in ending(world).text
    assert "A sample decided by chance." in ending(world).text
    set_filters(world, Filter("all", SAMPLE, percent=0))
    assert ending(world).status == "filtered"


def test_what_a_destination_gets_otherwise_is_shown(world: World) -> None:
    set_filters(world, Filter("all", DROP_PROPERTIES, fields={"properties": ("junk",)}))
    world.transformations = (Transformation("t", "web", "all", destination="hook", new_event_name="Sold"),)
    pass_on(world, total=5, junk=[1, {"a": 2}])
    assert ending(world).status == "delivered"
    assert {(one.kind, one.path) for one in ending(world).changes} == {
        ("removed", "properties.junk"),
        ("changed", "event"),
    }
    text = printed(world.tell())
    assert "Its filters and transformations change the event:" in text
    assert '- properties.junk was removed, it was [1,{"a":2}]' in text
    shown = story_json(world.tell())["arrivals"][0]["destinations"][0]["changes"]  # type: ignore[index]
    assert {"kind": "changed", "path": "event", "before": "E", "after": "Sold"} in shown
    assert {"kind": "removed", "path": "properties.junk", "before": [1, {"a": 2}]} in shown


def test_where_the_workspace_of_then_is_not_known_todays_is_asked_with_a_doubt(world: World) -> None:
    set_filters(world, Filter("all", DROP))
    world.accept(world.ingest("m1"), "m1", snapshot="v0")
    filtered(world)
    assert ending(world).status == "unclear"
    assert "this is what today's says" in ending(world).text
    world.past["v0"] = replace(world.snapshot("v0"), destinations={})
    assert ending(world).status == "delivered"


def test_snapshots_are_read_once() -> None:
    asked: list[str] = []
    retracer = Retracer(asked.append)
    event = AcceptedEvent("web", AT_MS, "m1", "track", "E", body_of("m1"))
    assert [retracer.judge(version, "hook", event) for version in ("v0", "v0", "", "v1")] == [None] * 4
    assert asked == ["v0", "v1"]


def test_long_differences_are_cut() -> None:
    before, after = {"a": "x" * 500}, {str(number): number for number in range(30)}
    lines = difference_lines(bodies_differ(msgspec.json.encode(before), msgspec.json.encode(after)))
    assert len(lines) == 21
    assert len(lines[0]) < 160
    assert lines[-1] == "and 11 more changes: --json has them all"
