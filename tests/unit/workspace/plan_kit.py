"""What the tests of tracking plans share: a workspace with one, plans of any shape."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from trunkline.spec.plans import (
    ALLOW,
    BLOCK,
    COMMON,
    OMIT,
    RULE_TYPES,
    TRACK,
    Enforcement,
    Rule,
    SchemaConfiguration,
)
from trunkline.workspace.plan_rules import NAMED_TYPES
from trunkline.workspace.plan_table import JSON_TYPES, Property, RuleRows, schema_of

SOURCES = """\
workspace: {slug: acme, name: Acme}
sources:
  - {slug: web, type: javascript, write_keys: [wk_web]}
  - {slug: api, type: http, write_keys: [wk_api]}
  - {slug: monitor, type: http, write_keys: [wk_monitor]}
destinations:
  - {slug: hook, type: post, sources: [web, api], enabled: true, settings: {url: "http://127.0.0.1:9000"}}
  - {slug: other, type: post, sources: [api], enabled: true, settings: {url: "http://127.0.0.1:9000"}}
  - {slug: shelf, type: shelf, sources: [web], enabled: true}
"""
"""Nine lines."""


def with_plan(*lines: str) -> str:
    """A plan of the source ``web`` with these lines too, from line 12 on."""
    start = f"{SOURCES}tracking_plans:\n  - slug: shop\n"
    return start + "".join(f"    {line}\n" for line in ("sources: [web]", *lines))


def with_rules(*rules: str) -> str:
    """Rules from line 14 on."""
    return with_plan("rules:", *(f"  - {rule}" for rule in rules))


def with_source(**keys: str) -> str:
    """The source ``web``, in line 3, has these keys too."""
    more = "".join(f", {key}: {value}" for key, value in keys.items())
    return SOURCES.replace("write_keys: [wk_web]", f"write_keys: [wk_web]{more}")


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_leaves: st.SearchStrategy[Any] = st.sampled_from(
    [{}, *({"type": name} for name in JSON_TYPES)]
) | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", ["string", "null"]]),
        "description": names,
        "enum": st.lists(
            names | st.integers(-5, 5) | st.floats(0, 2) | st.none() | st.booleans(), min_size=1, max_size=4
        ),
        "minLength": st.integers(0, 5),
        "maximum": st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        "default": st.none() | names | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 3),
        "const": st.none() | st.just(1.0) | st.just(1),
    },
)
schemas: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.fixed_dictionaries(
        {}, optional={"properties": st.dictionaries(names, inner, max_size=3), "items": inner, "not": inner}
    ),
    max_leaves=8,
)


@st.composite
def _headings(draw: st.DrawFn, types: tuple[str, ...] = RULE_TYPES) -> tuple[str, str, int]:
    kind = draw(st.sampled_from(types))
    named = kind == TRACK or (kind in NAMED_TYPES and draw(st.booleans()))
    return kind, draw(names) if named else "", draw(st.integers(1, 3))


def _rules(headings: st.SearchStrategy[tuple[str, str, int]], of: Any) -> st.SearchStrategy[tuple[Rule, ...]]:
    return st.lists(headings, unique=True, max_size=4).flatmap(
        lambda found: st.tuples(*(of(*heading) for heading in found))
    )


rule_lists = _rules(
    _headings(), lambda kind, event, version: schemas.map(lambda schema: Rule(kind, schema, event, version))
)
"""Any rules: more than a table can say."""

_choices = {
    "unplanned_properties": st.sampled_from([ALLOW, OMIT]),
    "violations": st.sampled_from([ALLOW, BLOCK, OMIT]),
    "common_violations": st.sampled_from([ALLOW, BLOCK, OMIT]),
}
_enforcements = st.builds(Enforcement, **_choices)
configurations = st.builds(
    SchemaConfiguration,
    unplanned_events=st.sampled_from([ALLOW, BLOCK]),
    track=_enforcements,
    identify=_enforcements,
    group=_enforcements,
    forward_violations_to=st.sampled_from(["", "monitor"]),
    forward_blocked_events_to=st.sampled_from(["", "monitor"]),
)

# -- rules that a table can say ----------------------------------------------------------------------------------

_cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=10)
_label_texts = st.text("ab-é\"' ", min_size=1, max_size=6).map(str.strip).filter(bool)
_values = st.lists(
    _cells | st.integers(-9, 9) | st.floats(-1, 1) | st.booleans() | st.none() | st.just({"a": [1]}),
    min_size=1,
    max_size=4,
    unique_by=repr,
).map(tuple)


@st.composite
def _properties(draw: st.DrawFn, path: tuple[str, ...]) -> Property:
    some = draw(st.sets(st.sampled_from([name for name in JSON_TYPES if name != "null"]), max_size=2))
    types = tuple(sorted(some)) + (("null",) if draw(st.booleans()) else ())
    is_date_time = types in (("string",), ("string", "null")) and draw(st.booleans())
    return Property(
        path=path,
        description=draw(st.just("") | _cells),
        required=path[-1] != "\0items" and draw(st.booleans()),
        types=types,
        is_date_time=is_date_time,
        pattern=draw(st.sampled_from(["", "fall|winter", " ^a,b;\t$"])) if "string" in types else "",
        values=draw(st.none() | _values),
    )


@st.composite
def _table_rules(draw: st.DrawFn, kind: str, event: str, version: int) -> Rule:
    paths: list[tuple[str, ...]] = []
    for key in draw(st.lists(_cells | st.sampled_from(["\0items", "$", "a.b", "\\", "\\."]), max_size=6)):
        parent = draw(st.sampled_from([(), *paths]))
        if (*parent, key) not in paths and (parent or key != "\0items"):
            paths.append((*parent, key))
    rows = RuleRows(
        kind,
        event,
        version,
        draw(st.just("") | _cells),
        draw(st.dictionaries(_label_texts, _label_texts, max_size=2)),
        [draw(_properties(path)) for path in paths],
    )
    return Rule(kind, schema_of(rows), event, version)


table_rule_lists = _rules(
    _headings(tuple(kind for kind in RULE_TYPES if kind != COMMON)).filter(lambda heading: "\0" not in heading[1]),
    _table_rules,
)
"""Rules that a table can say, as an import makes them."""
