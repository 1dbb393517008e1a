"""How a destination says in the file which events it gets, and what they hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workspace.workspace_kit import GOOD, SECRETS, TYPES, good, only, problems
from trunkline.destinations.registry import NATIVE_DESTINATIONS
from trunkline.spec.filters import Filter
from trunkline.workspace import vocabulary
from trunkline.workspace.codec import decode_snapshot, encode_snapshot, make_snapshot
from trunkline.workspace.loader import load
from trunkline.workspace.model import Destination, Snapshot, Source
from trunkline.workspace.yaml_out import to_yaml

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "filters.md"


def with_keys(*lines: str) -> str:
    """The good workspace whose first destination, of two sources, has these lines too, from line 8 on."""
    return GOOD.replace("    type: post\n", "    type: post\n" + "".join(f"    {line}\n" for line in lines))


def with_filters(*filters: str) -> str:
    """Filters from line 9 on."""
    return with_keys("filters:", *(f"  - {line}" for line in filters))


def test_all_of_them() -> None:
    snapshot = good(
        with_keys(
            "consent_categories: [advertising, analytics]",
            "filters:",
            "  - {if: 'event = \"Heartbeat\"', action: drop, title: No noise, enabled: false}",
            "  - {if: all, action: sample, percent: 0.25, path: userId, sources: [web]}",
            "  - {if: all, action: sample, percent: 1}",
            "  - {if: 'type = \"track\"', action: only_send}",
            "  - if: all",
            "    action: drop_properties",
            '    fields: {"": [userId], context.traits: [email, "a.b"]}',
            "  - {if: all, action: allow_properties, fields: {properties: []}}",
        )
    )
    hook = snapshot.destinations["hook"]
    assert hook.consent_categories == ("advertising", "analytics")
    assert hook.filters == (
        Filter('event = "Heartbeat"', "drop", title="No noise", enabled=False),
        Filter("all", "sample", percent=0.25, path="userId", sources=("web",)),
        Filter("all", "sample", percent=1.0),
        Filter('type = "track"', "only_send"),
        Filter("all", "drop_properties", fields={"": ("userId",), "context.traits": ("email", "a.b")}),
        Filter("all", "allow_properties", fields={"properties": ()}),
    )
    assert snapshot.destinations["shelf"].filters == ()
    assert snapshot.consent_categories == {"advertising", "analytics"}


@pytest.mark.parametrize("line", ["filters: []", "filters:", "consent_categories: []", "consent_categories: null"])
def test_what_has_no_value_says_nothing(line: str) -> None:
    assert good(with_keys(line)) == good(GOOD)


DROP = "{if: all, action: drop"


@pytest.mark.parametrize(
    ("line", "path", "reason", "mend"),
    [
        ("drop", "", "a mapping is wanted here", "Write filters: [{if: "),
        ("{}", ".action", "missing", "Add action: one of drop, only_send, sample, drop_properties, allow_properties"),
        ("{if: all}", ".action", "missing", "Add action"),
        ("{action: drop}", ".if", "missing", "Add if: all, or a condition such as"),
        ("{if: all, action: explode}", ".action", 'there is no action "explode"', "Use one of: drop, only_send"),
        ("{if: all, action: Drop}", ".action", 'there is no action "Drop"', "Did you mean drop?"),
        ("{if: all, action: [drop]}", ".action", "text is wanted here", "Write action: drop"),
        ("{if: true, action: drop}", ".if", "text is wanted here", "Put it in quotes"),
        ("{if: '', action: drop}", ".if", "empty", "Write a condition in quotes, or all"),
        ("{if: 'event == 1', action: drop}", ".if", "not a condition: character 8: ", ""),
        ("{if: 'event = \"A\" and', action: drop}", ".if", "not a condition: character ", ""),
        (f"{{if: 'event = \"{'x' * 6000}\"', action: drop}}", ".if", "5,120", "Split it into several filters"),
        (f"{DROP}, title: {'x' * 65}}}", ".title", "longer than 64 characters", "Shorten it"),
        (f"{DROP}, title: 1}}", ".title", "text is wanted here", "Put it in quotes"),
        (f"{DROP}, enabled: 1}}", ".enabled", "true or false is wanted here", "Write enabled: false"),
        (
            f"{DROP}, percent: 0.5}}",
            ".percent",
            "says nothing with action drop; it belongs to sample",
            "action: sample",
        ),
        (f"{DROP}, path: userId}}", ".path", "says nothing with action drop", "action: sample"),
        (f"{DROP}, fields: {{a: [b]}}}}", ".fields", "belongs to drop_properties and allow_properties", "Remove it"),
        (f"{DROP}, actions: []}}", ".actions", "there is no such key", "Write one action: drop"),
        (f"{DROP}, map_properties: []}}", ".map_properties", "not built in this version", "Remove the key"),
        (f"{DROP}, sorces: []}}", ".sorces", "there is no such key", "Did you mean sources?"),
        (f"{DROP}, sources: []}}", ".sources", "no source is listed", "Leave the key out"),
        (f"{DROP}, sources: web}}", ".sources", "a list is wanted here", "Write sources: [web]"),
        (f"{DROP}, sources: [wbe]}}", ".sources[0]", '"wbe" is not a source of this', "Did you mean web?"),
        (f"{DROP}, sources: [web, web]}}", ".sources[1]", 'the source "web" stands here twice', "Keep one"),
        ("{if: all, action: sample}", ".percent", "missing", "Add percent: 0.1, which keeps a tenth"),
        ("{if: all, action: sample, percent: 10}", ".percent", "10 is not a number from 0 to 1", "Write 0.1 for 10 %"),
        ("{if: all, action: sample, percent: -1}", ".percent", "-1 is not a number from 0 to 1", "percent: 0.1"),
        ("{if: all, action: sample, percent: '0.1'}", ".percent", "not a number from 0 to 1", "percent: 0.1"),
        ("{if: all, action: sample, percent: true}", ".percent", "not a number from 0 to 1", "percent: 0.1"),
        ("{if: all, action: sample, percent: 1, path: a..b}", ".path", 'not a path: "a..b"', "with a dot between"),
        (
            f"{{if: all, action: sample, percent: 1, path: {'.'.join('a' * 51)}}}",
            ".path",
            "more than 50 keys",
            "higher",
        ),
        ("{if: all, action: drop_properties}", ".fields", "missing", "Add fields: {properties: [email]"),
        ("{if: all, action: drop_properties, fields: {}}", ".fields", "no fields are named", "Write fields"),
        (
            "{if: all, action: drop_properties, fields: [a]}",
            ".fields",
            "a mapping is wanted here",
            "Write the parent's",
        ),
        ("{if: all, action: drop_properties, fields: {a: []}}", ".fields.a", "no keys are named", "[one, another]"),
        ("{if: all, action: drop_properties, fields: {a: b}}", ".fields.a", "a list is wanted here", "[one, another]"),
        ("{if: all, action: drop_properties, fields: {a: [1]}}", ".fields.a[0]", "text is wanted here", "in quotes"),
        ("{if: all, action: drop_properties, fields: {a.: [b]}}", ".fields.a.", 'not a path: "a."', "with a dot"),
        ("{if: all, action: drop_properties, fields: {a: [b, b]}}", ".fields.a[1]", "stands here twice", "Keep one"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_line_and_a_mend(line: str, path: str, reason: str, mend: str) -> None:
    found = problems(with_filters(line))
    problem = next(item for item in found if item.path == f"destinations[0].filters[0]{path}")
    assert problem.line == 9
    assert reason in problem.reason
    assert mend in problem.mend
    assert len(found) == (2 if line == "{}" else 1)


def test_the_place_in_a_condition_of_several_lines_is_told() -> None:
    problem = only(with_filters("action: drop", "  if: |", "    event = ", "    ) and").replace("  -   ", "    "))
    assert "not a condition: line 2, character 1: " in problem.reason


@pytest.mark.parametrize(
    ("line", "path", "reason", "mend"),
    [
        ("filters: {}", "filters", "a list is wanted here", "Write filters: [{if: "),
        ("consent_categories: ads", "consent_categories", "a list is wanted here", "Write consent_categories: [adv"),
        ("consent_categories: [1]", "consent_categories[0]", "text is wanted here", "Put it in quotes"),
        ("consent_categories: [a, a]", "consent_categories[1]", 'the category "a" stands here twice', "Keep one"),
        (f"consent_categories: {[f'c{n}' for n in range(101)]}", "consent_categories", "101 categories", "Take some"),
        ("consent: {a: true}", "consent", "there is no such key", "Write consent_categories: [advertising]"),
        ("filter: []", "filter", "there is no such key", "Write filters: "),
    ],
)
def test_wrong_keys_of_the_destination(line: str, path: str, reason: str, mend: str) -> None:
    problem = only(with_keys(line))
    assert (problem.line, problem.path) == (8, f"destinations[0].{path}")
    assert reason in problem.reason
    assert mend in problem.mend


def test_ten_filters_for_each_source_are_the_most() -> None:
    one, web, api = (
        "{if: all, action: drop}",
        "{if: all, action: drop, sources: [web]}",
        "{if: all, action: drop, sources: [api]}",
    )
    assert len(good(with_filters(*[web] * 10, *[api] * 10)).destinations["hook"].filters) == 20
    assert len(good(with_filters(*[one] * 10)).destinations["hook"].filters) == 10
    problem = only(with_filters(*[web] * 10, *[api] * 4, one))
    assert problem.path == "destinations[0].filters"
    assert problem.reason == "11 filters for the source web; 10 are the most"


@pytest.mark.parametrize("key", ["filters: [{if: all, action: drop}]", "consent_categories: [a]"])
def test_storage_has_neither(key: str) -> None:
    problem = only(GOOD.replace("type: shelf,", f"type: shelf, {key},"))
    assert problem.path == f"destinations[1].{key.partition(':')[0]}"
    assert problem.reason == "storage destinations get every accepted event as it is"


def test_every_wrong_filter_is_reported() -> None:
    found = problems(with_filters("{if: '(', action: x}", "{if: all, action: drop}", "{if: all, action: sample}"))
    assert [(item.line, item.path.rpartition(".")[2]) for item in found] == [(9, "if"), (9, "action"), (11, "percent")]


@pytest.mark.parametrize("level", ["top", "source"])
@pytest.mark.parametrize("key", ["filters", "consent"])
def test_at_other_levels_they_are_refused_by_name(level: str, key: str) -> None:
    assert key in (vocabulary.TOP if level == "top" else vocabulary.SOURCE).unbuilt


# Snapshots

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
names = st.lists(texts, max_size=3, unique=True).map(tuple)
path_texts = st.lists(texts.map(lambda text: text.replace(".", "-")), max_size=3).map(".".join)
fields = st.dictionaries(path_texts, names.filter(bool), min_size=1, max_size=3)
filters = st.one_of(
    st.builds(Filter, st.just("all"), st.sampled_from(["drop", "only_send"]), texts, st.booleans()),
    st.builds(
        Filter,
        st.just('event = "A"'),
        st.just("sample"),
        enabled=st.booleans(),
        percent=st.floats(0, 1) | st.sampled_from([0.0, 1.0]),
        path=path_texts,
        sources=st.sampled_from([(), ("s",)]),
    ),
    st.builds(Filter, st.just("all"), st.sampled_from(["drop_properties", "allow_properties"]), fields=fields),
)


def snapshot_with(found: tuple[Filter, ...], categories: tuple[str, ...]) -> Snapshot:
    return make_snapshot(
        SECRETS,
        slug="a",
        name="A",
        sources=[Source("s", "S", "http", ("k",))],
        destinations=[
            Destination(
                "d", "D", "post", ("s",), True, {"url": "http://x"}, filters=found, consent_categories=categories
            )
        ],
    )


@given(st.lists(filters, max_size=4).map(tuple), names)
def test_any_filters_survive_the_way_out_and_in(found: tuple[Filter, ...], categories: tuple[str, ...]) -> None:
    snapshot = snapshot_with(found, categories)
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot
    assert good(to_yaml(snapshot, TYPES, show_secrets=True)) == snapshot


def test_a_workspace_without_filters_is_stored_as_before_they_were_known() -> None:
    stored = msgspec.msgpack.decode(encode_snapshot(good(GOOD)))
    for destination in stored[1]["content"]["destinations"]:
        assert not {"filters", "consent_categories"} & set(destination)
    assert decode_snapshot(msgspec.msgpack.encode(stored)).destinations["hook"].filters == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("action: drop", "action: only_send"),
        ("'event = \"A\"'", "'event = \"B\"'"),
        ("action: drop", "action: drop, enabled: false"),
        ("action: drop", "action: drop, title: T"),
        ("action: drop", "action: drop, sources: [web]"),
        ("[a, b]", "[a]"),
    ],
)
def test_any_change_of_a_filter_changes_the_version(old: str, new: str) -> None:
    text = with_keys("filters: [{if: 'event = \"A\"', action: drop}]", "consent_categories: [a, b]")
    assert text.count(old) == 1
    assert good(text).version != good(text.replace(old, new)).version


def test_what_says_nothing_is_not_exported() -> None:
    text = with_keys("filters: [{if: all, action: sample, percent: 0, enabled: true}]", "consent_categories: [a]")
    exported: dict[str, Any] = yaml.safe_load(to_yaml(good(text), TYPES, show_secrets=False))
    first, second = exported["destinations"]
    assert first["filters"] == [{"if": "all", "action": "sample", "percent": 0}]
    assert first["consent_categories"] == ["a"]
    assert not {"filters", "consent_categories"} & set(second)


# The documentation


def test_the_examples_of_the_documentation_pass_the_check(tmp_path: Path) -> None:
    filters, integration_filters = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    crm = "  - {slug: crm, type: webhook, sources: [web], enabled: true, settings: {url: 'https://crm.example.com'}}\n"
    head = "workspace: {slug: a, name: A}\n"
    (tmp_path / "acme.yaml").write_text(head + integration_filters + filters + crm)
    loaded = load(tmp_path / "acme.yaml", NATIVE_DESTINATIONS, SECRETS, {})
    assert [*map(str, loaded.problems), *map(str, loaded.notes)] == []


def test_every_key_of_a_filter_is_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    for key in vocabulary.FILTER.known:
        assert f"| `{key}` |" in text
