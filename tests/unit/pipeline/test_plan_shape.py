"""Types of msgspec in place of schemas: their yes is the engine's yes, and that of the names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.pipeline.plain_patterns import plain_pattern
from trunkline.pipeline.plan_shape import MISFITS, compile_shape
from trunkline.pipeline.schema_engine import compile_pattern
from trunkline.pipeline.tracking_plan import CompiledRule
from trunkline.spec.plans import Rule

JSON = dict[str, Any]

pytestmark = pytest.mark.skip(reason="making types crashes in native code now and then; none are made (decision 0016)")

NAMES = (
    "a",
    "b",
    "properties",
    "traits",
    "class",
    "__init__",
    "__class__",
    "f0",
    "f1",
    "",
    "x y",
    "ü",
    "😀",
    'q"',
    "b\\",
)
TEXTS = (
    "",
    "a",
    "ab",
    "é",
    "😀",
    "S-1",
    "S-",
    "abc",
    "2026-01-02T03:04:05Z",
    "2026-02-30T03:04:05Z",
    "a\n",
    "\x00",
    "٣",
)
PATTERNS = ("^S-", "^[a-c]+$", "^\\d{2}$", "^.$", "^\\w*$", "S", "^a|b", "^(a)", "^[^a]$", "^a?$")
NUMBERS = (
    0,
    1,
    -1,
    5,
    5.0,
    5.5,
    -0.0,
    0.1,
    2**50,
    2**53 + 1,
    -(2**53) - 1,
    2**63,
    2**64,
    -(2**64),
    10**30,
    1e300,
    4.999999,
)
names = st.sampled_from(NAMES)
scalars = st.none() | st.booleans() | st.sampled_from(TEXTS) | st.sampled_from(NUMBERS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
bounds = st.fixed_dictionaries(
    {},
    optional={
        "minimum": st.sampled_from(NUMBERS),
        "maximum": st.sampled_from(NUMBERS),
        "exclusiveMinimum": st.sampled_from(NUMBERS),
        "exclusiveMaximum": st.sampled_from(NUMBERS),
        "multipleOf": st.just(5),
    },
)
lengths = st.fixed_dictionaries(
    {},
    optional={
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 3),
        "pattern": st.sampled_from(PATTERNS),
        "format": st.sampled_from(["date-time", "email", "nothing"]),
    },
)
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
types = st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=4, unique=True)


def _leaves() -> st.SearchStrategy[Any]:
    typed = st.builds(lambda kind, *parts: {"type": kind} | parts[0] | parts[1], types, bounds, lengths)
    numbers = st.builds(lambda kind, part: {"type": kind} | part, st.sampled_from(["integer", "number"]), bounds)
    texts = st.builds(lambda part: {"type": "string"} | part, lengths)
    listed = st.fixed_dictionaries({"enum": st.lists(scalars, min_size=1, max_size=3)}, optional={"type": types})
    const = st.fixed_dictionaries({"const": scalars}, optional={"type": types})
    return st.sampled_from([True, {}, {"title": "x"}]) | typed | numbers | texts | bounds | lengths | listed | const


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.fixed_dictionaries(
        {"properties": st.dictionaries(names, inner, max_size=4)},
        optional={
            "type": st.sampled_from(["object", ["object", "null"], ["array", "object"]]),
            "required": st.lists(names, max_size=2, unique=True),
            "additionalProperties": st.sampled_from([True, False, {}, {"type": "string"}]),
        },
    )
    lists = st.fixed_dictionaries(
        {"type": st.sampled_from(["array", ["array", "string"]])},
        optional={"items": inner, "minItems": st.integers(0, 2), "maxItems": st.integers(0, 3)},
    )
    return objects | objects | lists


subschemas = st.recursive(_leaves(), _nested, max_leaves=8)
schemas = _nested(subschemas) | st.builds(
    lambda inner, required: {"type": "object", "properties": {"properties": inner}, "required": required},
    subschemas,
    st.sampled_from([[], ["properties"], ["a"]]),
)


def _fitting(schema: Any, draw: Any) -> Any:
    """A value that tends to fit, with a near miss now and then."""
    if not isinstance(schema, dict) or draw(st.integers(0, 11)) == 0:
        return draw(values)
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "number" if "minimum" in schema else "string")
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    if kind == "object":
        wanted = {*schema.get("required", ())}
        inside = {
            name: _fitting(inner, draw)
            for name, inner in schema.get("properties", {}).items()
            if name in wanted or draw(st.booleans())
        }
        rest = {name: draw(scalars) for name in wanted - inside.keys() if draw(st.integers(0, 5))}
        return inside | rest | (draw(st.dictionaries(names, scalars, max_size=1)) if draw(st.booleans()) else {})
    if kind == "array":
        return [_fitting(schema.get("items", True), draw) for _ in range(draw(st.integers(0, 3)))]
    by_kind = {"string": st.sampled_from(TEXTS), "boolean": st.booleans(), "null": st.none()}
    return draw(by_kind.get(kind, st.sampled_from(NUMBERS)))


def says_yes(schema: JSON, body: bytes, closed_below: str = "") -> bool:
    read = compile_shape([(schema, closed_below)])
    if read is None:
        return False
    try:
        read(body)
    except MISFITS:
        return False
    return True


def fits(schema: JSON, body: bytes, closed_below: str = "") -> bool:
    rule = CompiledRule(Rule("identify" if closed_below == "traits" else "track", schema, "E"))
    event = msgspec.json.decode(body)
    return rule.accepts(event) and (not closed_below or rule.plans(event))


counted = {"yes": 0, "all": 0}


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), schemas, st.sampled_from(["", "properties", "traits"]))
def _search(data: st.DataObject, schema: JSON, closed_below: str) -> None:
    if compile_shape([(schema, closed_below)]) is None:
        return
    for _ in range(4):
        event = _fitting(schema, data.draw)
        if not isinstance(event, dict):
            continue
        body = msgspec.json.encode(event)
        counted["all"] += 1
        if says_yes(schema, body, closed_below):
            counted["yes"] += 1
            assert fits(schema, body, closed_below), (schema, body)


def test_a_type_takes_only_what_its_schema_takes() -> None:
    _search()
    assert counted["yes"] > 20, "hardly an event was taken, so nothing was compared"


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), schemas, schemas, st.sampled_from(["", "properties"]))
def test_a_type_of_two_schemas_takes_only_what_both_take(
    data: st.DataObject, own: JSON, common: JSON, closed_below: str
) -> None:
    read = compile_shape([(own, closed_below), (common, "")])
    if read is None:
        return
    first, second = _fitting(own, data.draw), _fitting(common, data.draw)
    if not isinstance(first, dict) or not isinstance(second, dict):
        return
    for event in (first, second | first, first | second):
        body = msgspec.json.encode(event)
        try:
            read(body)
        except MISFITS:
            continue
        assert fits(own, body, closed_below)
        assert fits(common, body)


PROPERTY = "properties"


def of(schema: Any, **more: Any) -> JSON:
    return {"properties": {PROPERTY: {"properties": {"p": schema}} | more}}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string"}, '"a"'),
        ({"type": ["string", "null"]}, "null"),
        ({"type": "string", "maxLength": 1}, '"é"'),
        ({"type": "string", "maxLength": 1}, '"\\ud83d\\ude00"'),
        ({"type": "number", "exclusiveMinimum": 0}, "0.5"),
        ({"type": "integer", "minimum": 1, "maximum": 3}, "3"),
        ({"type": "integer"}, "1000000000000000000000000"),
        ({"enum": ["a", None, 4]}, "null"),
        ({"const": "a"}, '"a"'),
        ({"type": "string", "pattern": "^S-[0-9]+$"}, '"S-12"'),
        ({"type": "string", "format": "date-time"}, '"2026-01-02T03:04:05.678Z"'),
        ({"type": "array", "items": {"properties": {"x": {"type": "boolean"}}}}, '[{"x":true}]'),
        ({"type": "object"}, '{"any":[1e3]}'),
        ({}, '{"any":{}}'),
        (True, "4"),
    ],
)
def test_common_schemas_have_types(schema: Any, text: str) -> None:
    body = f'{{"type":"track","properties":{{"p":{text}}}}}'.encode()
    assert says_yes(of(schema), body, PROPERTY)
    assert fits(of(schema), body, PROPERTY)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "true"),
        ({"type": "number"}, '"1"'),
        ({"type": "string"}, "null"),
        ({"type": "boolean"}, "1"),
        ({"type": "number", "exclusiveMinimum": 0}, "0"),
        ({"type": "number", "exclusiveMaximum": 0}, "-0.0"),
        ({"type": "integer", "minimum": 5}, "-100000000000000000000000"),
        ({"type": "string", "minLength": 2}, '"é"'),
        ({"type": "string", "pattern": "^[a-z]+$"}, '"a\\n"'),
        ({"enum": ["a"]}, '"b"'),
        ({"type": "array", "minItems": 1}, "[]"),
        ({"type": "object", "required": [""]}, '{"a":1}'),
        ({"type": "object", "properties": {}}, '{"a":1}'),
        ({"type": "array", "items": {"properties": {"x": {}}}}, '[{"x":1},{"y":1}]'),
        ({"properties": {"class": {"type": "string"}}}, '{"class":1}'),
    ],
)
def test_what_does_not_fit_is_not_taken(schema: Any, text: str) -> None:
    body = f'{{"type":"track","properties":{{"p":{text}}}}}'.encode()
    assert not fits(of(schema), body, PROPERTY)
    assert not says_yes(of(schema), body, PROPERTY)


def test_of_a_name_that_comes_twice_the_last_one_counts() -> None:
    schema = of({"type": "string"}, required=["p"])
    assert not says_yes(schema, b'{"properties":{"p":"a","p":1}}')
    assert not says_yes(schema, b'{"properties":{"p":"a"},"properties":{}}')
    assert says_yes(schema, b'{"properties":{"\\u0070":"a"}}')


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{}]},
        {"$ref": "#"},
        {"type": "object", "patternProperties": {"a": {}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "array", "items": [{}]},
        {"type": "array", "uniqueItems": True},
        {"type": "number", "multipleOf": 2},
        {"type": "number", "minimum": 2**53},
        {"type": "string", "format": "email"},
        {"type": "string", "pattern": "a"},
        {"type": "object", "dependencies": {"a": ["b"]}},
        {"enum": [1, 2]},
        {"unknown": 1},
        {"properties": {'a"': {}}, "additionalProperties": False},
        {"properties": {f"name {number}": {"type": "string"} for number in range(200)}},
        False,
    ],
)
def test_other_schemas_have_none(schema: Any) -> None:
    assert compile_shape([(of(schema), PROPERTY)]) is None


def test_rules_with_the_same_objects_share_their_types() -> None:
    product = {"properties": {"sku": {"type": "string"}, "price": {"type": "number", "minimum": 0}}}
    known: dict[bytes, type] = {}
    for name in ("a", "b"):
        read = compile_shape([({"required": [name], "properties": {"product": product}}, "")], known)
        assert read is not None
        read(f'{{"{name}":1,"product":{{"price":1}}}}'.encode())
        with pytest.raises(msgspec.ValidationError):
            read(f'{{"{name}":1,"product":{{"price":-1}}}}'.encode())
    assert len(known) == 1
    other = {"properties": {"sku": {"type": "string"}, "price": {"type": "number", "minimum": -2}}}
    read = compile_shape([({"properties": {"product": other}}, "")], known)
    assert read is not None
    read(b'{"product":{"price":-1}}')
    assert len(known) == 2


def test_deep_json_is_no_misfit_that_ends_the_worker() -> None:
    body = b'{"properties":{"p":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    assert not says_yes(of({"type": "array"}), body)


@given(
    st.sampled_from(PATTERNS) | st.from_regex(r"\A\^([a-c.]|\\d|\\w|\[[a-c]-[d-f]\]|\\\.)[+*?]?(\{[1-3]\})?\$?\Z"),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_a_plain_pattern_finds_only_what_the_engine_finds(pattern: str, data: st.DataObject) -> None:
    plain = plain_pattern(pattern)
    if plain is None:
        return
    read = msgspec.json.Decoder(msgspec.defstruct("S", [("x", _text(plain))])).decode
    text = data.draw(st.sampled_from(TEXTS) | st.text("abcdef.S-19\n", max_size=4))
    try:
        read(msgspec.json.encode({"x": text}))
    except MISFITS:
        return
    assert compile_pattern(pattern)(text)


def _text(pattern: str) -> Any:
    from typing import Annotated

    return Annotated[str, msgspec.Meta(pattern=pattern)]


@pytest.mark.parametrize(
    "pattern", ["a", "^a+b+$", "^a**", "^(a|b)", "^[^a]", "^\\s", "^\\bx", "^a$b", "^a{1,9}", "^[a-Z]"]
)
def test_patterns_that_are_not_plain(pattern: str) -> None:
    assert plain_pattern(pattern) is None
