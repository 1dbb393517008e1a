"""A rehearsal finds exactly what would be different: by examples, and against running both by brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from tests.unit.rehearsal.rehearsal_kit import destination, event, given, rehearse, snapshot, source
from trunkline.delivery.gates import gate_of
from trunkline.delivery.judgement import judge
from trunkline.delivery.programs import source_program_of
from trunkline.log.records import AcceptedEvent, LoggedEvent
from trunkline.rehearsal.findings import Comparison, Connection, Stop
from trunkline.rehearsal.run import Rehearsal, sources_to_read
from trunkline.rehearsal.world import Given
from trunkline.spec.discards import Discard
from trunkline.spec.filters import Filter
from trunkline.spec.plans import ALLOW, BLOCK, OMIT, Enforcement, Rule, SchemaConfiguration, TrackingPlan
from trunkline.spec.schema_filters import IntegrationFilter, SchemaFilters
from trunkline.spec.transformations import PropertyValue, Transformation
from trunkline.workspace.model import Snapshot

DROP_HEARTBEAT = Filter("event = 'Heartbeat'", "drop")
NO_EMAIL = Filter("all", "drop_properties", fields={"properties": ("email",)})
BASE = snapshot([source("web"), source("app")], [destination("hook", "web", "app"), destination("crm", "web")])

EVENTS = [
    given("m1", "Heartbeat"),
    given("m2", "Order", properties={"email": "a@b", "revenue": 1}),
    given("m3", "Order", properties={"revenue": 2}),
    given("m4", "Order", source="app", properties={"email": "c@d"}),
    given("m5", "Heartbeat", accepted=True),
]


def with_destination(base: Snapshot, slug: str, **changes: Any) -> Snapshot:
    changed = replace(base.destinations[slug], **changes)
    return replace(base, destinations={**base.destinations, slug: changed})


def with_source(base: Snapshot, slug: str, **changes: Any) -> Snapshot:
    return replace(base, sources={**base.sources, slug: replace(base.sources[slug], **changes)})


def counts(found: Comparison) -> dict[str, Any]:
    return {
        "stopped": {stop.reason: change.events for stop, change in found.stopped.items()},
        "released": {stop.reason: change.events for stop, change in found.released.items()},
        "changed": found.changed.events,
        "kept": found.kept,
    }


def test_no_change() -> None:
    done = rehearse(BASE, replace(BASE, version="other"), EVENTS)
    assert not done.findings.is_change
    assert done.findings.destinations["hook"].kept == 5
    assert done.findings.destinations["crm"].kept == 4
    assert done.findings.sources["web"].events == 3  # one was accepted already
    assert done.cost.events == 5
    assert done.cost.today_us is not None


def test_a_filter_more_and_the_way_back() -> None:
    new = with_destination(BASE, "hook", filters=(DROP_HEARTBEAT, NO_EMAIL))
    done = rehearse(BASE, new, EVENTS)
    hook = done.findings.destinations["hook"]
    assert counts(hook) == {"stopped": {"FILTERED_BY_RULES": 2}, "released": {}, "changed": 2, "kept": 1}
    assert not done.findings.destinations["crm"].is_change
    assert hook.places == {("removed", "properties.email"): 2}
    [change] = hook.stopped.values()
    assert [sample.message_id for sample in change.samples] == ["m1", "m5"]
    sample = hook.changed.samples[0]
    assert sample.before is not None
    assert b"a@b" in sample.before
    assert sample.after is not None
    assert b"a@b" not in sample.after
    assert [(one.kind, one.path, one.before) for one in sample.differences] == [("removed", "properties.email", "a@b")]
    back = rehearse(new, BASE, EVENTS).findings.destinations["hook"]
    assert counts(back) == {"stopped": {}, "released": {"FILTERED_BY_RULES": 2}, "changed": 2, "kept": 1}
    assert back.places == {("added", "properties.email"): 2}


def test_blocked_at_the_source_is_seen_at_source_and_destinations() -> None:
    new = with_source(BASE, "web", schema_filters=SchemaFilters(blocked_events=("Heartbeat",)))
    done = rehearse(BASE, new, EVENTS)
    # m5 is known only as it was accepted: its source stages are not rehearsed.
    assert counts(done.findings.sources["web"])["stopped"] == {"event_setting": 1}
    for slug in ("hook", "crm"):
        [(stop, change)] = done.findings.destinations[slug].stopped.items()
        assert (stop, change.events) == (Stop("source", "event_setting"), 1)
    back = rehearse(new, BASE, EVENTS)
    assert counts(back.findings.sources["web"])["released"] == {"event_setting": 1}
    assert counts(back.findings.destinations["crm"])["released"] == {"event_setting": 1}


def test_new_source_stages_feed_the_new_lanes() -> None:
    """The new workspace renames at the source and drops the new name at the destination."""
    rename = Transformation("t", "web", "event = 'Order'", new_event_name="Heartbeat")
    new = with_destination(replace(BASE, transformations=(rename,)), "crm", filters=(DROP_HEARTBEAT,))
    done = rehearse(BASE, new, EVENTS)
    assert counts(done.findings.destinations["crm"])["stopped"] == {"FILTERED_BY_RULES": 4}
    assert done.findings.sources["web"].places == {("changed", "event"): 2}
    assert counts(done.findings.destinations["hook"]) == {"stopped": {}, "released": {}, "changed": 2, "kept": 3}


def test_another_reason() -> None:
    items = [given("m1", "Heartbeat", context={"consent": {"categoryPreferences": {"ads": False}}})]
    today = with_destination(BASE, "hook", filters=(DROP_HEARTBEAT,))
    new = with_destination(BASE, "hook", consent_categories=("ads",))
    [(pair, change)] = rehearse(today, new, items).findings.destinations["hook"].other_reason.items()
    assert pair == (Stop("destination", "FILTERED_BY_RULES"), Stop("destination", "FILTERED_BY_END_USER_CONSENT"))
    assert change.events == 1


@pytest.mark.parametrize(
    ("new", "slug", "web", "why"),
    [
        (with_destination(BASE, "crm", enabled=False), "crm", 4, "destination disabled"),
        (replace(BASE, destinations={"hook": BASE.destinations["hook"]}), "crm", 4, "destination removed"),
        (with_destination(BASE, "crm", sources=("app",)), "crm", 4, "source disconnected"),
        (replace(BASE, sources={"app": BASE.sources["app"]}), "crm", 4, "source removed"),
    ],
)
def test_connections(new: Snapshot, slug: str, web: int, why: str) -> None:
    done = rehearse(BASE, new, EVENTS).findings
    found = done.connections[Connection(slug, "web", False, why)]
    assert (found.passing.events, found.stopped) == (web, {})
    appears = {
        "destination disabled": "destination enabled",
        "destination removed": "destination added",
        "source disconnected": "source connected",
        "source removed": "source added",
    }
    back = rehearse(new, BASE, EVENTS).findings
    assert back.connections[Connection(slug, "web", True, appears[why])].passing.events == web
    assert slug not in back.destinations or back.destinations[slug].events == 0


def test_an_event_that_a_new_connection_would_drop_is_counted() -> None:
    today = with_destination(BASE, "crm", enabled=False)
    new = with_destination(BASE, "crm", filters=(DROP_HEARTBEAT,))
    [found] = rehearse(today, new, EVENTS).findings.connections.values()
    assert (found.passing.events, found.stopped) == (2, {Stop("destination", "FILTERED_BY_RULES"): 2})


def test_what_a_source_blocks_does_not_come_to_a_new_connection() -> None:
    today = with_destination(BASE, "crm", enabled=False)
    new = with_source(BASE, "web", schema_filters=SchemaFilters(blocked_events=("Heartbeat",)))
    [found] = rehearse(today, new, EVENTS).findings.connections.values()
    assert (found.passing.events, found.stopped) == (3, {})


def test_a_source_that_is_disabled_takes_nothing() -> None:
    done = rehearse(BASE, with_source(BASE, "app", enabled=False), EVENTS)
    assert counts(done.findings.sources["app"])["stopped"] == {"source_disabled": 1}
    assert counts(done.findings.destinations["hook"])["stopped"] == {"source_disabled": 1}


def test_a_larger_sample_keeps_what_the_smaller_one_kept() -> None:
    items = [given(f"m{number}") for number in range(400)]
    small, large = (
        with_destination(BASE, "hook", filters=(Filter("all", "sample", percent=percent),)) for percent in (0.2, 0.6)
    )
    hook = rehearse(small, large, items).findings.destinations["hook"]
    assert not hook.stopped
    assert 40 < hook.kept < 130
    assert 100 < sum(change.events for change in hook.released.values()) < 220
    assert not rehearse(small, small, items).findings.is_change


def test_chance_at_one_destination_says_nothing_at_another() -> None:
    """The numbers belong to the event and the destination, not to a sequence."""
    items = [given(f"m{number}") for number in range(100)]
    sample = Filter("all", "sample", percent=0.5)
    today = with_destination(BASE, "hook", filters=(sample,))
    new = with_destination(today, "crm", filters=(sample, sample))
    done = rehearse(today, new, items).findings
    assert not done.destinations["hook"].is_change
    assert 20 < done.destinations["hook"].kept < 80
    assert 5 < done.destinations["crm"].kept < 50


def test_samples_and_kinds_are_bounded() -> None:
    items = [given(f"m{number}", f"name {number}", properties={f"p{number}": 1}) for number in range(900)]
    new = with_destination(BASE, "hook", filters=(Filter("all", "allow_properties", fields={"properties": ()}),))
    hook = rehearse(BASE, new, items, samples=2).findings.destinations["hook"]
    assert hook.changed.events == 900
    assert (len(hook.changed.samples), len(hook.changed.kinds), len(hook.places)) == (2, 200, 500)


def forwarding(to: str) -> Snapshot:
    configuration = SchemaConfiguration(
        BLOCK, Enforcement(violations=BLOCK), forward_blocked_events_to=to, forward_violations_to=to
    )
    plan = TrackingPlan("p", "p", ("web",), (Rule("track", SCHEMA, "Order"),), configuration)
    # What is forwarded has been through a plan: that of the other source is not asked.
    strict = TrackingPlan("q", "q", ("app",), (Rule("track", {}, "Nothing else"),), SchemaConfiguration(BLOCK))
    return replace(BASE, tracking_plans={"p": plan, "q": strict})


def test_what_is_forwarded_is_rehearsed() -> None:
    items = [given("m1", "Unknown"), given("m2", "Order", properties={"revenue": "1"}), EVENTS[2]]
    quiet, loud = forwarding(""), forwarding("app")
    done = rehearse(quiet, loud, items)
    assert not done.findings.sources["web"].is_change
    # Two events that the plan blocks and one violation enter the other source, and go on to its destination.
    assert counts(done.findings.sources["app"])["released"] == {"not_forwarded": 3}
    hook = done.findings.destinations["hook"]
    assert counts(hook)["released"] == {"not_forwarded": 3}
    [change] = hook.released.values()
    assert {kind.name for kind in change.kinds} == {"Unknown", "Order", "Violation Generated"}
    back = rehearse(loud, quiet, items)
    assert counts(back.findings.destinations["hook"])["stopped"] == {"not_forwarded": 3}
    assert not rehearse(loud, loud, items).findings.is_change
    apart = [msgspec.structs.replace(item, forwards=False) for item in items]
    assert not rehearse(quiet, loud, apart).findings.is_change


def test_a_stage_that_fails_ends_no_rehearsal() -> None:
    broken = LoggedEvent("m1", "identify", "", b"no json")
    new = with_source(BASE, "web", schema_filters=SchemaFilters((), (), ("email",)))
    done = rehearse(BASE, new, [Given("web", 0, broken)])
    assert counts(done.findings.sources["web"])["stopped"] == {"unreadable_event": 1}


def test_which_sources_are_read() -> None:
    plan = TrackingPlan("p", "p", ("app",), (), SchemaConfiguration(forward_blocked_events_to="web"))
    forwarding = replace(BASE, tracking_plans={"p": plan})
    assert sources_to_read((BASE, BASE)) is None
    assert sources_to_read((BASE, BASE), ["web"], ["hook"]) == frozenset({"web"})
    assert sources_to_read((BASE, BASE), (), ["crm"]) == frozenset({"web"})
    assert sources_to_read((BASE, forwarding), (), ["crm"]) == frozenset({"web", "app"})
    assert sources_to_read((BASE, with_destination(BASE, "crm", sources=("app",))), (), ["crm"]) == frozenset(
        {"web", "app"}
    )


# -- against brute force -----------------------------------------------------------------------------------------

NAMES = ("Order", "Heartbeat", "Page Read")
values = st.sampled_from([1, 2.5, "a", "b", True, None, [1], {"x": 1}])
properties = st.dictionaries(st.sampled_from(["email", "revenue", "plan"]), values, max_size=3)
consents = st.none() | st.dictionaries(st.sampled_from(["ads", "stats"]), st.booleans(), max_size=2)
integrations = st.sampled_from([{}, {"All": False}, {"hook": False}, {"All": False, "crm": True}, {"crm": {"x": 1}}])


@st.composite
def given_events(draw: st.DrawFn, number: int) -> Given:
    kind = draw(st.sampled_from(["track", "track", "track", "identify", "page"]))
    more: dict[str, Any] = {"userId": draw(st.sampled_from(["u1", "u2", "u3"]))}
    more["traits" if kind == "identify" else "properties"] = draw(properties)
    preferences = draw(consents)
    if preferences is not None:
        more["context"] = {"consent": {"categoryPreferences": preferences}}
    said = draw(integrations)
    if said:
        more["integrations"] = said
    logged = event(f"m{number}", draw(st.sampled_from(NAMES)), kind=kind, **more)
    return Given(draw(st.sampled_from(["web", "app"])), 1_760_000_000_000, logged, draw(st.booleans()))


@st.composite
def traffic(draw: st.DrawFn) -> list[Given]:
    return [draw(given_events(number)) for number in range(draw(st.integers(1, 12)))]


conditions = st.sampled_from(
    ["all", "event = 'Order'", "type = 'identify'", "properties.revenue > 1", "userId = 'u1' or event = 'Heartbeat'"]
)
fields = st.sampled_from(
    [{"properties": ("email",)}, {"": ("userId",)}, {"traits": ("plan",), "properties": ("plan",)}]
)


def filters(*, by_chance: bool) -> st.SearchStrategy[list[Filter]]:
    paths = st.sampled_from(["userId", "properties.plan", *([""] if by_chance else [])])
    one = (
        st.builds(Filter, conditions, st.sampled_from(["drop", "only_send"]), enabled=st.booleans())
        | st.builds(Filter, conditions, st.just("sample"), percent=st.sampled_from([0.0, 0.3, 0.7, 1.0]), path=paths)
        | st.builds(Filter, conditions, st.sampled_from(["drop_properties", "allow_properties"]), fields=fields)
    )
    return st.lists(one, max_size=2)


transformations = st.lists(
    st.builds(
        Transformation,
        st.sampled_from(["t1", "t2"]),
        st.sampled_from(["web", "app"]),
        conditions.filter(lambda text: text != "all"),
        destination=st.sampled_from(["", "hook"]),
        enabled=st.booleans(),
        new_event_name=st.sampled_from(["", "Heartbeat"]),
        values=st.sampled_from([(), (PropertyValue(("properties.plan",), "gold"),)]),
    ),
    max_size=2,
)
schema_filters = st.builds(
    SchemaFilters,
    st.sampled_from([(), ("Heartbeat",)]),
    st.sampled_from([(), ("page",)]),
    st.sampled_from([(), ("email",)]),
    st.just(()),
    st.sampled_from([(), (IntegrationFilter("track", "Order", ("crm",)),)]),
)
enforcements = st.builds(
    Enforcement, st.sampled_from([ALLOW, OMIT]), st.sampled_from([ALLOW, BLOCK, OMIT]), st.sampled_from([ALLOW, BLOCK])
)
SCHEMA = {
    "type": "object",
    "properties": {
        "properties": {
            "type": "object",
            "properties": {"revenue": {"type": "number"}, "email": {"type": "string"}},
            "required": ["revenue"],
        }
    },
}
plans = st.builds(
    TrackingPlan,
    st.just("p"),
    st.just("P"),
    st.sampled_from([("web",), ("web", "app")]),
    st.just((Rule("track", SCHEMA, "Order"), Rule("identify", {"type": "object"}))),
    st.builds(SchemaConfiguration, st.sampled_from([ALLOW, BLOCK]), enforcements, enforcements),
)


@st.composite
def workspaces(draw: st.DrawFn, *, by_chance: bool) -> Snapshot:
    plan = draw(st.none() | plans)
    return snapshot(
        [
            source("web", filters=draw(schema_filters)),
            source("app", enabled=draw(st.sampled_from([True, True, False]))),
        ],
        [
            destination(
                slug,
                *draw(st.sampled_from([("web", "app"), ("web",)])),
                filters=draw(filters(by_chance=by_chance)),
                enabled=draw(st.sampled_from([True, True, True, False])),
                consent=draw(st.sampled_from([(), ("ads",), ("ads", "stats")])),
            )
            for slug in ("hook", "crm")
        ],
        transformations=tuple(draw(transformations)),
        tracking_plans={"p": plan} if plan else {},
    )


@settings(max_examples=40, deadline=None)
@drawn(workspaces(by_chance=True), traffic())
def test_an_unchanged_workspace_shows_no_change(workspace: Snapshot, items: list[Given]) -> None:
    done = rehearse(workspace, replace(workspace, version="another"), items)
    assert not done.findings.is_change
    for found in (*done.findings.sources.values(), *done.findings.destinations.values()):
        assert found.passed_today == found.passed_new == found.kept


def by_hand(workspace: Snapshot, item: Given) -> dict[tuple[str, str], Any]:
    """What each enabled destination gets of an event: a body decoded, or where it ended."""
    logged: Any = item.event
    if not workspace.sources[item.source].enabled:
        logged = Discard("source_disabled")
    elif not item.accepted:
        logged = source_program_of(workspace, item.source).run(logged).event
    found: dict[tuple[str, str], Any] = {}
    for slug, one in workspace.destinations.items():
        if not one.enabled or item.source not in one.sources:
            continue
        verdict: Any = logged
        if not isinstance(logged, Discard):
            head = (item.source, item.received_at_ms, logged.message_id, logged.type, logged.name)
            verdict = judge(AcceptedEvent(*head, logged.body), gate_of(workspace, one, item.source, Random(0)))
        if isinstance(verdict, Discard):
            found[item.source, slug] = Stop("source" if verdict is logged else "destination", verdict.reason)
        else:
            found[item.source, slug] = msgspec.json.decode(verdict.body)
    return found


def findings_of(done: Rehearsal) -> Counter[tuple[str, str, str]]:
    """By destination, kind of change and reason."""
    found: Counter[tuple[str, str, str]] = Counter()
    for slug, one in done.findings.destinations.items():
        for stop, change in one.stopped.items():
            found[slug, "stopped", stop.reason] += change.events
        for stop, change in one.released.items():
            found[slug, "released", stop.reason] += change.events
        for (before, after), change in one.other_reason.items():
            found[slug, "other", f"{before.reason} {after.reason}"] += change.events
        found[slug, "changed", ""] += one.changed.events
        found[slug, "kept", ""] += one.kept
    for connection, sent in done.findings.connections.items():
        found[connection.destination, "appears" if connection.appears else "disappears", ""] += sent.passing.events
    return +found


@settings(max_examples=80, deadline=None)
@drawn(workspaces(by_chance=False), workspaces(by_chance=False), traffic())
def test_changes_are_those_that_running_both_by_hand_gives(today: Snapshot, new: Snapshot, items: list[Given]) -> None:
    expected: Counter[tuple[str, str, str]] = Counter()
    for item in items:
        before, after = by_hand(today, item), by_hand(new, item)
        for key in before.keys() | after.keys():
            slug = key[1]
            if key not in before or key not in after:
                verdict, kind = (after[key], "appears") if key in after else (before[key], "disappears")
                expected[slug, kind, ""] += not isinstance(verdict, Stop)
                continue
            one, other = before[key], after[key]
            if isinstance(one, Stop) and isinstance(other, Stop):
                # Blocked at the source both times, it never came to the destination.
                if (one.stage, other.stage) != ("source", "source"):
                    expected[slug, "other", f"{one.reason} {other.reason}"] += one != other
            elif isinstance(other, Stop):
                expected[slug, "stopped", other.reason] += 1
            elif isinstance(one, Stop):
                expected[slug, "released", one.reason] += 1
            else:
                same = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
                expected[slug, "kept" if same else "changed", ""] += 1
    assert findings_of(rehearse(today, new, items)) == +expected
