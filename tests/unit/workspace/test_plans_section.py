"""Tracking plans in the workspace's file: what is read, each mistake with its line and mend, hostile files."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings

from tests.unit.workspace.plan_kit import SOURCES, configurations, rule_lists, with_plan, with_rules, with_source
from tests.unit.workspace.workspace_kit import SECRETS, TYPES, check, good, only, problems
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.spec.plans import (
    ALLOW,
    BLOCK,
    MAX_RULES,
    MAX_SCHEMA_BYTES,
    OMIT,
    Enforcement,
    Rule,
    SchemaConfiguration,
    TrackingPlan,
)
from trunkline.workspace import vocabulary
from trunkline.workspace.codec import decode_snapshot, encode_snapshot, make_snapshot
from trunkline.workspace.loader import load
from trunkline.workspace.model import Source
from trunkline.workspace.plan_file import PlanFile
from trunkline.workspace.plan_json import format_json
from trunkline.workspace.yaml_out import to_yaml

DOCUMENT = Path(__file__).parents[3] / "docs" / "tracking-plans.md"
RULE = "{type: track, event: Order Completed, schema: {type: object}}"


def plan_of(text: str) -> TrackingPlan:
    return good(text).tracking_plans["shop"]


def test_all_of_it() -> None:
    text = with_plan(
        "name: Shop",
        "enforce:",
        "  unplanned_events: block",
        "  unplanned_properties: {identify: omit}",
        "  violations: block",
        "  common_violations: {track: omit, group: block}",
        "  forward_violations_to: monitor",
        "  forward_blocked_events_to: api",
        "rules:",
        "  - {type: track, event: Order Completed, version: 2, schema: {type: object, minProperties: 1}}",
        "  - {type: page, schema: {}}",
        "  - {type: page, event: Home, schema: {}}",
        "  - {type: common, schema: {properties: {userId: {enum: [null, 1.0, true]}}}}",
    )
    assert plan_of(text) == TrackingPlan(
        "shop",
        "Shop",
        ("web",),
        (
            Rule("track", {"type": "object", "minProperties": 1}, "Order Completed", 2),
            Rule("page", {}),
            Rule("page", {}, "Home"),
            Rule("common", {"properties": {"userId": {"enum": [None, 1.0, True]}}}),
        ),
        SchemaConfiguration(
            BLOCK,
            track=Enforcement(ALLOW, BLOCK, OMIT),
            identify=Enforcement(OMIT, BLOCK, ALLOW),
            group=Enforcement(ALLOW, BLOCK, BLOCK),
            forward_violations_to="monitor",
            forward_blocked_events_to="api",
        ),
    )
    assert good(text).plan_by_source["web"].slug == "shop"


def test_numbers_in_schemas_stay_what_they_are() -> None:
    schema = plan_of(with_rules("{type: page, schema: {maximum: 1.0, minimum: 1, const: 1.0e+2}}")).rules[0].schema
    assert {key: type(value) for key, value in schema.items()} == {"maximum": float, "minimum": int, "const": float}
    ones = good(with_rules("{type: page, schema: {maximum: 1}}"))
    assert ones.version != good(with_rules("{type: page, schema: {maximum: 1.0}}")).version


def test_a_plan_without_sources_or_rules_is_noted() -> None:
    snapshot, report = check(SOURCES + "tracking_plans:\n  - {slug: shop, rules: []}\n")
    assert snapshot is not None
    assert snapshot.tracking_plans["shop"] == TrackingPlan("shop", "shop", (), ())
    assert [(note.line, note.path, note.reason) for note in report.notes] == [
        (11, "tracking_plans[0]", "no source has this plan"),
        (11, "tracking_plans[0].rules", "there is no rule, so every event is unplanned"),
    ]


@pytest.mark.parametrize(
    ("schema", "noted"),
    [
        ("{properties: {revenue: {type: number}}, required: [revenue]}", True),
        ("{required: [revenue]}", True),
        ("{required: [userId, revenue]}", False),
        ("{properties: {properties: {required: [revenue]}}}", False),
        ("{type: object}", False),
    ],
)
def test_a_schema_that_means_the_properties_alone_is_noted(schema: str, noted: bool) -> None:
    snapshot, report = check(with_rules(f"{{type: track, event: E, schema: {schema}}}"))
    assert snapshot is not None
    notes = [note.reason for note in report.notes]
    assert notes == ['it is for the whole event, and no event has "revenue" at its top'] * noted


@pytest.mark.parametrize(
    ("line", "path", "reason", "mend"),
    [
        ("rules: {}", "rules", "a list is wanted here", "Write rules: [{type: track, event: Order Completed"),
        ("name: x", "rules", "missing", "Add rules: [{type: track, event: Order Completed, schema: {type: object}}]"),
        ("rules: [7]", "rules[0]", "a mapping is wanted here", "Write rules: "),
        (
            "rules: [{schema: {}}]",
            "rules[0].type",
            "missing",
            "Add type: one of track, identify, group, page, screen, common",
        ),
        (
            "rules: [{type: trak, event: A, schema: {}}]",
            "rules[0].type",
            'there is no type of rules "trak"',
            "Did you m",
        ),
        ("rules: [{type: TRACK, event: A, schema: {}}]", "rules[0].type", "there is no type", "Did you mean track?"),
        ("rules: [{type: 1, event: A, schema: {}}]", "rules[0].type", "text is wanted here", "Use one of: track"),
        ("rules: [{type: track, schema: {}}]", "rules[0].event", "missing", "Add event: and the event's name"),
        ("rules: [{type: track, event: '', schema: {}}]", "rules[0].event", "empty", "Write the event's name"),
        ("rules: [{type: track, event: 12, schema: {}}]", "rules[0].event", "text is wanted here", "Put it in quotes"),
        (
            f"rules: [{{type: page, event: {'x' * 1001}, schema: {{}}}}]",
            "rules[0].event",
            "longer than 1000",
            "Shorten",
        ),
        (
            "rules: [{type: group, event: A, schema: {}}]",
            "rules[0].event",
            "says nothing in a rule of the",
            "Remove it",
        ),
        ("rules: [{type: page, version: 0, schema: {}}]", "rules[0].version", "not a whole number from 1", "Write one"),
        ("rules: [{type: page, version: 1.5, schema: {}}]", "rules[0].version", "not a whole number", "Write one such"),
        (
            "rules: [{type: page, version: true, schema: {}}]",
            "rules[0].version",
            "not a whole number",
            "Write one such",
        ),
        ("rules: [{type: page}]", "rules[0].schema", "missing", "Add schema: {type: object, properties: "),
        ("rules: [{type: page, schema: true}]", "rules[0].schema", "a mapping is wanted here", "Write schema: {type"),
        ("rules: [{type: page, schema: []}]", "rules[0].schema", "a mapping is wanted here", "Write schema: {type"),
        ("rules: [{type: page, name: Home, schema: {}}]", "rules[0].name", "there is no such key", "Write event"),
        (
            "rules: [{type: page, jsonSchema: {}, schema: {}}]",
            "rules[0].jsonSchema",
            "there is no such key",
            "Write sch",
        ),
        ("file: x\n    rules: []", "file", "the rules stand in line 14 already", "Remove rules, or file"),
        ("file: 7", "file", "a path is wanted here", "Write the path of an exported plan: file: plans/shop.json"),
        ("file: no/such.json", "file", "the file no/such.json can't be read (No such file", "Put the plan in /nonex"),
        ("enforce: block\n    rules: []", "enforce", "a mapping is wanted here", "Write {unplanned_events: block"),
        (
            "enforce: {unplanned_events: omit}\n    rules: []",
            "enforce.unplanned_events",
            '"omit" is not one',
            "Write bl",
        ),
        (
            "enforce: {unplanned_properties: block}\n    rules: []",
            "enforce.unplanned_properties",
            "",
            "Write omit: unpl",
        ),
        (
            "enforce: {violations: blok}\n    rules: []",
            "enforce.violations",
            '"blok" is not one of',
            "Did you mean blo",
        ),
        (
            "enforce: {violations: true}\n    rules: []",
            "enforce.violations",
            "text is wanted here",
            "Write one of: allo",
        ),
        (
            "enforce: {violations: {page: block}}\n    rules: []",
            "enforce.violations.page",
            "there is no",
            "Page and scr",
        ),
        (
            "enforce: {violations: {group: 1}}\n    rules: []",
            "enforce.violations.group",
            "text is wanted",
            "Put it in qu",
        ),
        (
            "enforce: {unplanned_traits: omit}\n    rules: []",
            "enforce.unplanned_traits",
            "there is no",
            "Write unplanned_",
        ),
        ("enforce: {track: {}}\n    rules: []", "enforce.track", "there is no such key", "Kinds stand below what"),
        (
            "enforce: {forward_violations_to: web}\n    rules: []",
            "enforce.forward_violations_to",
            "the source web",
            "Nam",
        ),
        (
            "enforce: {forward_violations_to: mon}\n    rules: []",
            "enforce.forward_violations_to",
            "there is no",
            "Did yo",
        ),
        (
            "enforce: {forward_violations_to: []}\n    rules: []",
            "enforce.forward_violations_to",
            "text is",
            "Write the sl",
        ),
    ],
)
def test_a_mistake_is_one_problem_with_its_place(line: str, path: str, reason: str, mend: str) -> None:
    problem = only(with_plan(line))
    assert problem.path == f"tracking_plans[0].{path}"
    assert problem.line == (11 if reason == "missing" and path == "rules" else 13)
    assert reason in problem.reason
    assert problem.mend.startswith(mend)


def test_a_schema_is_refused_on_the_very_line() -> None:
    problem = only(
        with_plan(
            "rules:",
            "  - type: track",
            "    event: Order Completed",
            "    schema:",
            "      type: object",
            "      properties:",
            "        properties:",
            "          properties:",
            "            revenue:",
            "              type: nummer",
        )
    )
    assert problem.line == 22
    assert problem.path.startswith("tracking_plans[0].rules[0].schema.properties.properties.properties.revenue")


@pytest.mark.parametrize(
    "lines",
    [
        ("    sources: [web]", "    rules: []"),
        ("    sources: [api, web]", "    rules: []"),
    ],
)
def test_a_source_has_one_plan(lines: tuple[str, ...]) -> None:
    text = with_plan("rules: []") + "\n".join(("  - slug: second", *lines, ""))
    problem = only(text)
    assert (problem.line, problem.reason) == (15, "the source web has the plan shop already, by line 12")
    assert problem.mend == "A source has one plan: take it out of one of them"


def test_an_alias_does_not_hide_a_second_plan() -> None:
    text = with_plan("rules: []").replace("sources: [web]\n    rules", "sources: &all [web]\n    rules")
    problem = only(text + "  - {slug: second, sources: *all, rules: []}\n")
    assert problem.reason == "the source web has the plan shop already, by line 12"


@pytest.mark.parametrize(
    ("sources", "reason", "mend"),
    [
        ("[wep]", 'there is no source "wep"', "Did you mean web?"),
        ("[web, web]", 'the source "web" stands here twice', "Keep one of them"),
        ("web", "a list is wanted here", "Write sources: [web]"),
    ],
)
def test_sources_that_are_none(sources: str, reason: str, mend: str) -> None:
    problem = only(with_plan("rules: []").replace("[web]\n    rules", f"{sources}\n    rules"))
    assert (problem.line, problem.reason, problem.mend) == (12, reason, mend)


def test_rules_are_told_apart_by_type_event_and_version() -> None:
    rules = [RULE, RULE.replace("Completed,", "Completed, version: 2,"), RULE.replace("track", "page")]
    assert len(plan_of(with_rules(*rules)).rules) == 3
    problem = only(with_rules(*rules, RULE))
    assert (problem.line, problem.path) == (17, "tracking_plans[0].rules[3]")
    assert problem.reason == "a rule of this type, event and version stands in line 14 already"


def test_a_slug_is_taken_once() -> None:
    problem = only(with_plan("rules: []") + "  - {slug: shop, sources: [api], rules: []}\n")
    assert (problem.line, problem.path) == (14, "tracking_plans[1].slug")


@pytest.mark.parametrize(
    "key", [*vocabulary.TRACKING_PLAN.unbuilt, *vocabulary.TRACKING_PLAN.elsewhere, "enforced", "rulez"]
)
def test_other_keys_are_refused(key: str) -> None:
    assert key in only(with_plan("rules: []", f"{key}: x")).path


def test_forwarding_in_turn_is_no_circle() -> None:
    text = with_plan("enforce: {forward_blocked_events_to: api}", "rules: []")
    text += "  - {slug: second, sources: [api], enforce: {forward_blocked_events_to: web}, rules: []}\n"
    assert len(good(text).tracking_plans) == 2


def test_a_source_of_its_own_configuration_may_be_forwarded_to() -> None:
    lines = ("enforce: {forward_violations_to: web}", "rules: []")
    assert "would forward to itself" in only(with_plan(*lines)).reason
    own = with_source(schema_configuration="{}")
    assert good(with_plan(*lines).replace(SOURCES, own)).schema_configuration_of("web") == SchemaConfiguration()


# -- plans in files of their own ---------------------------------------------------------------------------------


def test_a_plan_in_a_file(tmp_path: Path) -> None:
    rules = (Rule("track", {"maximum": 1.0}, "A"), Rule("identify", {"type": "object"}, version=3))
    (tmp_path / "shop.json").write_bytes(format_json(PlanFile("other", "Other", rules)))
    text = with_plan("file: shop.json", "enforce: {violations: block}")
    snapshot = good(text, base=tmp_path)
    plan = snapshot.tracking_plans["shop"]
    assert (plan.rules, plan.sources, plan.name, plan.enforce.track.violations) == (rules, ("web",), "shop", BLOCK)
    exported = to_yaml(snapshot, TYPES, show_secrets=False)
    assert "file: shop.json" in exported
    assert "maximum" not in exported
    assert good(exported, base=tmp_path) == snapshot
    alone = to_yaml(snapshot, TYPES, show_secrets=True)
    assert "shop.json" not in alone
    assert good(alone).version == snapshot.version


def test_the_file_of_a_plan_is_watched(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text('{"rules": []}')
    (tmp_path / "acme.yaml").write_text(with_plan("file: shop.json").replace("type: post", "type: inbox"))
    assert tmp_path / "shop.json" in load(tmp_path / "acme.yaml", NATIVE_DESTINATIONS, SECRETS).files


def test_a_plan_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "shop.CSV").write_text("Event Name,Property Name,Data Type\nA,,\n,b,string\n")
    (rule,) = good(with_plan("file: shop.CSV"), base=tmp_path).tracking_plans["shop"].rules
    assert (rule.event, rule.schema["properties"]["properties"]["properties"]) == ("A", {"b": {"type": "string"}})


def test_a_file_with_problems_names_them_all_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text('{"rules": [{"type": "TRACK"}, {"type": "PAGE", "jsonSchema": 1}]}')
    found = problems(with_plan("file: shop.json"), base=tmp_path)
    assert {problem.line for problem in found} == {13}
    assert [problem.reason for problem in found] == [
        "shop.json: rules[0].key: missing",
        "shop.json: rules[0].jsonSchema: missing",
        "shop.json: rules[1].jsonSchema: a mapping is wanted here",
    ]


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    assert "can't be read" in only(with_plan("file: plan"), base=tmp_path).reason


# -- there and back ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(rule_lists, configurations)
def test_any_plan_comes_through(rules: tuple[Rule, ...], enforce: SchemaConfiguration) -> None:
    snapshot = make_snapshot(
        SECRETS,
        slug="a",
        name="A",
        sources=[
            Source("web", "W", "http", ("k",), schema_configuration=enforce),
            Source("monitor", "M", "http", ("m",)),
        ],
        destinations=[],
        tracking_plans=[TrackingPlan("shop", "Shop", ("web",), rules, enforce)],
    )
    again = good(to_yaml(snapshot, TYPES, show_secrets=False))
    assert again.version == snapshot.version
    assert again == snapshot
    assert decode_snapshot(encode_snapshot(again)) == snapshot


def test_a_configuration_that_allows_all_is_not_none() -> None:
    text = with_plan("enforce: {violations: block}", "rules: []").replace(
        SOURCES, with_source(schema_configuration="{}")
    )
    snapshot = good(text)
    assert good(to_yaml(snapshot, TYPES, show_secrets=False)) == snapshot
    assert snapshot.schema_configuration_of("web") == SchemaConfiguration()


# -- hostile files -----------------------------------------------------------------------------------------------


def test_too_many_rules_are_not_even_looked_at() -> None:
    problem = only(with_rules(*["{}"] * (MAX_RULES + 1)))
    assert problem.reason == f"{MAX_RULES + 1} rules"


def test_as_many_rules_as_there_may_be_by_an_alias() -> None:
    rules = ["{type: track, event: A, schema: &s {type: object, required: [revenue]}}"]
    rules += [f"{{type: track, event: E{number}, schema: *s}}" for number in range(MAX_RULES - 1)]
    plan = plan_of(with_rules(*rules))
    assert len(plan.rules) == MAX_RULES
    assert len({id(rule.schema) for rule in plan.rules}) == 1


def test_aliases_can_not_multiply() -> None:
    lines = ["a0: &a0 {x: y}"]
    for number in range(1, 9):
        again = ", ".join(f"k{key}: *a{number - 1}" for key in range(10))
        lines.append(f"a{number}: &a{number} {{{again}}}")
    found = problems(with_rules("{type: page, schema: {" + ", ".join(lines) + "}}"))
    assert "too many values" in found[0].reason


def test_a_huge_schema() -> None:
    huge = "x" * MAX_SCHEMA_BYTES
    problem = only(with_rules(f"{{type: page, schema: {{description: {huge}}}}}"))
    assert problem.path == "tracking_plans[0].rules[0].schema"
    assert f"{MAX_SCHEMA_BYTES} are the most" in problem.reason


@pytest.mark.parametrize("depth", [45, 60, 5000])
def test_a_deep_schema(depth: int) -> None:
    found = problems(with_rules("{type: page, schema: " + "{not: " * depth + "{}" + "}" * depth + "}"))
    assert "nested deeper than" in found[0].reason


def test_many_mistakes_in_one_schema_are_not_all_listed() -> None:
    wrong = "{" + ", ".join(f"p{number}: {{type: 7}}" for number in range(1000)) + "}"
    assert 0 < len(problems(with_rules(f"{{type: page, schema: {{properties: {wrong}}}}}"))) <= 20


def test_what_is_broken_already_is_reported_once() -> None:
    problem = only(with_rules("{type: page, schema: {const: 2026-01-01}}"))
    assert problem.reason == "a date can't be a value"


# -- the page ----------------------------------------------------------------------------------------------------


def test_the_page_says_every_key_and_its_examples_load() -> None:
    text = DOCUMENT.read_text("utf-8")
    for section in (vocabulary.TRACKING_PLAN, vocabulary.ENFORCE, vocabulary.RULE):
        for key in section.known:
            assert f"`{key}`" in text, key
    below = text[text.index("## In the workspace's file") :]
    plan, source = re.findall(r"```yaml\n(.*?)```", below, re.DOTALL)
    others = "  - {slug: monitor, type: http, write_keys: [m]}\n  - {slug: blocked, type: http, write_keys: [b]}\n"
    snapshot, report = check(f"workspace: {{slug: a, name: A}}\n{source}{others}{plan}")
    assert [str(item) for item in (*report.problems, *report.notes)] == []
    assert snapshot is not None
    assert msgspec.json.encode(snapshot.tracking_plans["shop"].enforce) != msgspec.json.encode(SchemaConfiguration())
