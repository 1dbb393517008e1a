"""Tracking plans as JSON, in Segment's shapes."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workspace.plan_kit import names, rule_lists
from trunkline.spec.plans import MAX_RULES, Rule
from trunkline.workspace.plan_file import MAX_FILE_BYTES, FileProblem, PlanFile, PlanFileError
from trunkline.workspace.plan_json import format_json, parse_json

RULE = {"type": "TRACK", "key": "Order Completed", "version": 1, "jsonSchema": {"type": "object"}}
EVENT = {"name": "Order Completed", "rules": {"type": "object"}}
"""The same as the Config API had it."""
READ = Rule("track", {"type": "object"}, "Order Completed")


def parsed(value: Any) -> PlanFile:
    return parse_json(json.dumps(value).encode())


def refused(content: bytes | Any) -> list[FileProblem]:
    with pytest.raises(PlanFileError) as caught:
        parse_json(content if isinstance(content, bytes) else json.dumps(content).encode())
    return list(caught.value.problems)


def test_the_shape_is_that_of_the_public_api() -> None:
    plan = PlanFile("shop", "Shop", (READ, Rule("common", {"required": ["userId"]}, version=2)))
    assert json.loads(format_json(plan)) == {
        "trackingPlan": {"slug": "shop", "name": "Shop", "type": "LIVE"},
        "rules": [RULE, {"type": "COMMON", "key": None, "version": 2, "jsonSchema": {"required": ["userId"]}}],
    }


@settings(max_examples=60, deadline=None)
@given(names, names, rule_lists)
def test_any_plan_comes_through(slug: str, name: str, rules: tuple[Rule, ...]) -> None:
    plan = PlanFile(slug, name, rules)
    again = parse_json(format_json(plan))
    assert again == plan
    assert repr(again) == repr(plan)  # 1 is 1.0 to ==


@pytest.mark.parametrize(
    ("value", "slug", "name"),
    [
        ([RULE], "", ""),
        ({"rules": [RULE]}, "", ""),
        ({"data": {"rules": [RULE], "pagination": {"current": "MA=="}}}, "", ""),
        ({"data": {"trackingPlan": {"slug": "s", "name": "N", "id": "tp_1"}, "rules": [RULE]}}, "s", "N"),
        ({"slug": "s", "name": "N", "rules": [{**RULE, "createdAt": "2026", "deprecatedAt": None}]}, "s", "N"),
        ({"rules": [{**RULE, "version": 1.0}]}, "", ""),
        ({"rules": [{key: value for key, value in RULE.items() if key != "version"}]}, "", ""),
        ({"name": "rs_1", "display_name": "N", "rules": {"events": [EVENT]}}, "", "N"),
    ],
)
def test_what_is_read(value: Any, slug: str, name: str) -> None:
    assert parsed(value) == PlanFile(slug, name, (READ,))


def test_the_shape_of_typewriter() -> None:
    event = {"name": "A", "version": 2, "description": "why", "rules": {"type": "object"}}
    plan = parsed({"rules": {"events": [event], "global": {"required": ["a"]}, "identify": {"x": 1}, "group": {}}})
    assert plan.rules == (
        Rule("track", {"description": "why", "type": "object"}, "A", 2),
        Rule("common", {"required": ["a"]}),
        Rule("identify", {"x": 1}),
    )


def test_a_byte_order_mark_is_no_matter() -> None:
    assert parse_json(b"\xef\xbb\xbf" + json.dumps([RULE]).encode()).rules == (READ,)


@pytest.mark.parametrize(
    ("value", "place", "reason", "mend"),
    [
        ({}, "rules", "there is no list of rules", 'Write {"trackingPlan": '),
        (7, "", "there is no list of rules", "Write"),
        ({"rules": 7}, "rules", "there is no list of rules", "Write"),
        ({"rules": [7]}, "rules[0]", "an object is wanted here", "Write"),
        ([{**RULE, "type": "TRAK"}], "[0].type", 'there is no type of rules "trak"', "Did you mean track?"),
        ([{**RULE, "type": 1}], "[0].type", "text is wanted here", "Use one of"),
        ([{**RULE, "key": None}], "[0].key", "missing", "Add key: and the event's name"),
        ([{**RULE, "key": ["a"]}], "[0].key", "text is wanted here", "Write the event's name"),
        ([{**RULE, "version": 0}], "[0].version", "not a whole number", "Write one such as 1"),
        ([{**RULE, "version": 1.5}], "[0].version", "not a whole number", "Write one such as 1"),
        ([{**RULE, "jsonSchema": None}], "[0].jsonSchema", "missing", "Add jsonSchema: {type: object"),
        (
            {"data": {"rules": [RULE, RULE]}},
            "data.rules[1]",
            "a rule of this type, key and version is data.rules[0]",
            "Ke",
        ),
        ({"rules": {"events": [3]}}, "rules.events[0]", "an object is wanted here", "Write"),
        ({"rules": [RULE], "pagination": {"next": "x"}}, "pagination.next", "this is one page of several", "Fetch the"),
        ([RULE] * (MAX_RULES + 1), "rules", "more than 2000 rules", "A plan has 2000 at most"),
    ],
)
def test_each_mistake_has_its_place(value: Any, place: str, reason: str, mend: str) -> None:
    (problem,) = refused(value)
    assert problem.place == place
    assert problem.reason.startswith(reason)
    assert problem.mend.startswith(mend)
    assert str(problem).startswith(f"{place}: " if place else "there is")


def test_a_bad_schema_is_named_by_its_path() -> None:
    schema = {"properties": {"traits": {"properties": {"a": {"type": "nummer"}}}}}
    (problem,) = refused([{"type": "IDENTIFY", "jsonSchema": schema}])
    assert problem.place.startswith("[0].jsonSchema.properties.traits.properties.a")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the body is empty"),
        (b"{", "malformed JSON"),
        (b'{"rules": [], "rules": []}', 'duplicate key "rules"'),
        (b'{"rules": [NaN]}', "malformed JSON"),
        (b"\xff", "invalid UTF-8"),
        (b" " * (MAX_FILE_BYTES + 1), "larger than 15 MiB"),
        (b"[" * 100_000, "malformed JSON"),
        (b'[{"type": "PAGE", "jsonSchema": ' + b'{"not": ' * 60 + b"{}" + b"}" * 62 + b"]", ""),
    ],
)
def test_hostile_files(content: bytes, reason: str) -> None:
    assert reason in refused(content)[0].reason


def test_a_schema_that_no_workspace_could_hold() -> None:
    schema: dict[str, Any] = {}
    for _ in range(60):
        schema = {"not": schema}
    (problem,) = refused([{"type": "PAGE", "jsonSchema": schema}])
    assert "nested deeper than" in problem.reason


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["rules", "data", "type", "key", "events", "jsonSchema", "name"]), inner)
        ),
        max_leaves=10,
    )
)
def test_any_json_is_a_plan_or_refused(value: Any) -> None:
    with contextlib.suppress(PlanFileError):
        assert isinstance(parsed(value), PlanFile)
