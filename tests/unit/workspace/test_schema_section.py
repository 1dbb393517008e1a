"""What sources do about their schema, in the workspace's file: configurations of their own, schema filters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workspace.plan_kit import SOURCES, names, with_plan, with_source
from tests.unit.workspace.workspace_kit import SECRETS, TYPES, check, good, only
from trunkline.spec.plans import BLOCK, OMIT, Enforcement, SchemaConfiguration
from trunkline.spec.schema_filters import BLOCKABLE_TYPES, IntegrationFilter, SchemaFilters
from trunkline.workspace import vocabulary
from trunkline.workspace.codec import decode_snapshot, encode_snapshot, make_snapshot
from trunkline.workspace.model import Destination, Source
from trunkline.workspace.schema_section import INTEGRATION_TYPES, MAX_NAMES
from trunkline.workspace.yaml_out import to_yaml

DOCUMENT = Path(__file__).parents[3] / "docs" / "schema.md"


def with_filters(filters: str) -> str:
    return with_source(schema_filters=filters)


def planned(**keys: str) -> str:
    """The source ``web`` has a plan, and these keys."""
    return with_plan("rules: []").replace(SOURCES, with_source(**keys))


def test_all_filters() -> None:
    filters = (
        "{blocked_events: [Secret Event], blocked_types: [screen], omitted_traits: {identify: [ssn], group: [vat]}, "
        "integrations: [{type: track, event: Order Completed, destinations: [hook]}, "
        "{type: page, destinations: [hook]}]}"
    )
    assert good(with_filters(filters)).sources["web"].schema_filters == SchemaFilters(
        ("Secret Event",),
        ("screen",),
        ("ssn",),
        ("vat",),
        (IntegrationFilter("track", "Order Completed", ("hook",)), IntegrationFilter("page", "", ("hook",))),
    )
    both = good(with_filters("{omitted_traits: [ssn]}")).sources["web"].schema_filters
    assert both == SchemaFilters(omitted_identify_traits=("ssn",), omitted_group_traits=("ssn",))
    for nothing in ("", "{}", "{blocked_events: []}"):
        assert good(with_filters(nothing)) == good(SOURCES)


def test_a_configuration_of_its_own() -> None:
    own = "{unplanned_events: block, violations: {group: omit}, forward_violations_to: monitor}"
    snapshot = good(planned(schema_configuration=own))
    assert snapshot.schema_configuration_of("web") == SchemaConfiguration(
        BLOCK, group=Enforcement(violations=OMIT), forward_violations_to="monitor"
    )


@pytest.mark.parametrize(
    ("filters", "path", "reason", "mend"),
    [
        ("[screen]", "", "a mapping is wanted here", "Write {blocked_events: [Secret Event]}"),
        ("{blocked_events: Secret}", ".blocked_events", "a list is wanted here", "Write blocked_events: [Secret"),
        ("{blocked_events: [1]}", ".blocked_events[0]", "text is wanted here", "Put it in quotes"),
        ("{blocked_events: [A, A]}", ".blocked_events[1]", 'the event "A" stands here twice', "Keep one of them"),
        ("{blocked_types: [scren]}", ".blocked_types[0]", '"scren" is not one of track, page', "Did you mean screen?"),
        ("{blocked_types: [group]}", ".blocked_types[0]", '"group" is not one of', "Identify and group calls lose"),
        ("{omitted_traits: {track: [a]}}", ".omitted_traits.track", "there is no such key", "Use one of: identify, g"),
        ("{omitted_traits: a}", ".omitted_traits", "a list is wanted here", "Write omitted_traits: [ssn], or {id"),
        (
            "{omitted_identify_traits: []}",
            ".omitted_identify_traits",
            "there is no such key",
            "Write omitted_traits: {i",
        ),
        ("{integrations: {}}", ".integrations", "a list is wanted here", "Write integrations: [{type: track"),
        ("{integrations: [hook]}", ".integrations[0]", "a mapping is wanted here", "Write integrations: [{type: track"),
        ("{integrations: [{type: page}]}", ".integrations[0].destinations", "missing", "Add destinations: [hook]"),
        ("{integrations: [{destinations: [hook]}]}", ".integrations[0].type", "missing", "Add type: one of track"),
        (
            "{integrations: [{type: track, destinations: [hook]}]}",
            ".integrations[0].event",
            "missing",
            "Add event: and the event's name",
        ),
        (
            "{integrations: [{type: page, event: Home, destinations: [hook]}]}",
            ".integrations[0].event",
            "says nothing with the type page: only track events have a name of their own here",
            "Remove it, or write type: track",
        ),
        (
            "{integrations: [{type: pag, destinations: [hook]}]}",
            ".integrations[0].type",
            '"pag" is not one of track, identify',
            "Did you mean page?",
        ),
        (
            "{integrations: [{type: page, destinations: []}]}",
            ".integrations[0].destinations",
            "no destination is listed",
            "Write destinations: [hook]",
        ),
        (
            "{integrations: [{type: page, destinations: [hok]}]}",
            ".integrations[0].destinations[0]",
            'there is no destination "hok"',
            "Did you mean hook?",
        ),
        (
            "{integrations: [{type: page, destinations: [shelf]}]}",
            ".integrations[0].destinations[0]",
            "shelf gets every accepted event: integration filters are not for storage destinations",
            "Remove it, or block the event",
        ),
        (
            "{integrations: [{type: page, destinations: [other]}]}",
            ".integrations[0].destinations[0]",
            "other gets nothing from the source web, so this would do nothing",
            "Remove it, or list the source",
        ),
        (
            "{integrations: [{type: page, destinations: [hook]}, {type: page, destinations: [hook]}]}",
            ".integrations[1]",
            "these events have a filter already in line 3",
            "List the destinations of both in one filter",
        ),
    ],
)
def test_a_mistake_is_one_problem_with_its_place(filters: str, path: str, reason: str, mend: str) -> None:
    problem = only(with_filters(filters))
    assert (problem.line, problem.path) == (3, f"sources[0].schema_filters{path}")
    assert problem.reason.startswith(reason)
    assert problem.mend.startswith(mend)


@pytest.mark.parametrize(
    ("key", "value", "better"),
    [
        ("blocked_events", "[A]", "unplanned_events: block"),
        ("blocked_types", "[page]", "unplanned_events: block"),
        ("omitted_traits", "[a]", "unplanned_properties: omit"),
    ],
)
def test_event_filters_are_for_sources_without_a_plan(key: str, value: str, better: str) -> None:
    problem = only(planned(schema_filters=f"{{{key}: {value}}}"))
    assert (problem.line, problem.path) == (3, f"sources[0].schema_filters.{key}")
    assert problem.reason == "does nothing beside the tracking plan shop, which names the source in line 12"
    assert better in problem.mend


def test_integration_filters_are_for_sources_with_a_plan_too() -> None:
    filters = "{integrations: [{type: page, destinations: [hook]}]}"
    assert good(planned(schema_filters=filters)).sources["web"].schema_filters.integrations


def test_a_configuration_without_a_plan_would_do_nothing() -> None:
    problem = only(with_source(schema_configuration="{violations: block}"))
    assert (problem.line, problem.path) == (3, "sources[0].schema_configuration")
    assert problem.reason == "no tracking plan names the source web, so this would do nothing"
    assert problem.mend == "List the source under `sources` of a plan, or remove schema_configuration"


def test_a_source_can_not_forward_to_itself() -> None:
    problem = only(planned(schema_configuration="{forward_blocked_events_to: web}"))
    assert problem.path == "sources[0].schema_configuration.forward_blocked_events_to"
    assert problem.reason == "the source web would forward to itself"


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ("{forward_blocked_events_to: monitor}", "nothing is blocked, so nothing is forwarded"),
        (
            "{violations: {track: omit}, forward_blocked_events_to: monitor}",
            "nothing is blocked, so nothing is forwarded",
        ),
        ("{violations: {track: block}, forward_blocked_events_to: monitor}", ""),
        ("{unplanned_events: block, forward_blocked_events_to: monitor}", ""),
        ("{common_violations: block, forward_blocked_events_to: monitor}", ""),
        ("{forward_violations_to: off}", "the source off is off, and takes nothing that is forwarded"),
    ],
)
def test_forwarding_that_does_nothing_is_noted(own: str, reason: str) -> None:
    text = planned(schema_configuration=own.replace(" off}", " 'off'}")).replace(
        "destinations:", "  - {slug: 'off', type: http, write_keys: [wk_off], enabled: false}\ndestinations:"
    )
    snapshot, report = check(text)
    assert snapshot is not None
    notes = [
        (note.line, note.path.rpartition(".")[2], note.reason) for note in report.notes if "no rule" not in note.reason
    ]
    assert notes == ([(3, own.rpartition(":")[0].rpartition(" ")[2].lstrip("{"), reason)] if reason else [])


def test_there_are_only_so_many_names() -> None:
    many = ", ".join(f"e{number}" for number in range(MAX_NAMES + 1))
    assert only(with_filters(f"{{blocked_events: [{many}]}}")).reason == "4001 names; 4000 are the most"


@pytest.mark.parametrize("key", ["tracking_plan", "event_filters", "schema", "forward_violations"])
def test_other_words_for_it_have_a_mend(key: str) -> None:
    problem = only(with_source(**{key: "x"}))
    assert problem.path == f"sources[0].{key}"
    assert problem.mend.startswith(("Write schema_", "List the source under"))


some = st.lists(names, max_size=3, unique=True).map(tuple)
headings = st.tuples(st.sampled_from(INTEGRATION_TYPES), names).map(
    lambda heading: heading if heading[0] == "track" else (heading[0], "")
)
filters_of_sources = st.builds(
    SchemaFilters,
    blocked_events=some,
    blocked_types=st.lists(st.sampled_from(BLOCKABLE_TYPES), unique=True).map(tuple),
    omitted_identify_traits=some,
    omitted_group_traits=some,
    integrations=st.lists(headings, unique=True, max_size=3).map(
        lambda found: tuple(IntegrationFilter(*heading, ("hook",)) for heading in found)
    ),
)


@settings(max_examples=50, deadline=None)
@given(filters_of_sources)
def test_any_filters_come_through(filters: SchemaFilters) -> None:
    snapshot = make_snapshot(
        SECRETS,
        slug="a",
        name="A",
        sources=[Source("web", "W", "http", ("k",), schema_filters=filters)],
        destinations=[Destination("hook", "H", "post", ("web",), True, {"url": "http://127.0.0.1"})],
    )
    again = good(to_yaml(snapshot, TYPES, show_secrets=True))
    assert again == snapshot
    assert decode_snapshot(encode_snapshot(again)) == snapshot


def test_the_page_says_every_key_and_its_example_loads() -> None:
    below = DOCUMENT.read_text("utf-8").partition("## Schema filters\n")[2]
    (example,) = re.findall(r"```yaml\n(.*?)```", below, re.DOTALL)
    for key in vocabulary.SCHEMA_FILTERS.known:
        assert f"`{key}`" in below
    hook = "destinations: [{slug: hook, type: post, sources: [api], enabled: true, settings: {url: 'http://a'}}]\n"
    snapshot, report = check(f"workspace: {{slug: a, name: A}}\n{example}{hook}")
    assert [str(item) for item in (*report.problems, *report.notes)] == []
    assert snapshot is not None
    assert snapshot.sources["api"].schema_filters.integrations
