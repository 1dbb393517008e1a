from __future__ import annotations

import socket
import threading
from typing import Any
from unittest.mock import patch

import pytest

from trunkline.pipeline import plan_schema
from trunkline.pipeline.plan_schema import MAX_CHECKS, MAX_PROBLEMS, check_schema, examine_schema
from trunkline.pipeline.schema_engine import SchemaError, check_format, compile_pattern
from trunkline.pipeline.tracking_plan import compile_plan
from trunkline.spec.discards import INVALID_PLAN, Discard
from trunkline.spec.plans import BLOCK, MAX_SCHEMA_BYTES, Enforcement, Rule, SchemaConfiguration, TrackingPlan


def refs(levels: int, twice: bool) -> dict[str, Any]:
    """A schema that refers to one that refers to one …"""
    definitions: dict[str, Any] = {str(levels): {"type": "object"}}
    for level in range(levels):
        one = {"$ref": f"#/definitions/{level + 1}"}
        definitions[str(level)] = {"allOf": [one, one] if twice else [one]}
    return {"definitions": definitions, "$ref": "#/definitions/0"}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def aliases(levels: int) -> dict[str, Any]:
    """A schema that is short as YAML with anchors, and endless as JSON."""
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"anyOf": [schema, schema]}
    return schema


@pytest.mark.parametrize(
    ("schema", "path", "reason"),
    [
        ({"type": "strng"}, "type", "there is no type 'strng'"),
        ({"properties": {"a": {"items": [{"type": ["text"]}]}}}, "properties.a.items[0].type", "no type 'text'"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "$schema", "only draft 7"),
        ({"$schema": 7}, "$schema", "only draft 7"),
        ({"properties": {"a": {"pattern": "^(?!x)"}}}, "properties.a.pattern", "no expression"),
        ({"patternProperties": {"(?<=a)b": {}}}, "patternProperties.(?<=a)b", "no expression"),
        ({"pattern": "("}, "pattern", "no expression"),
        ({"pattern": r"(a)\1"}, "pattern", "no expression"),
        ({"pattern": "((a{1,99}){1,99}b)"}, "pattern", "repeats a part more than 1000 times"),
        ({"pattern": 5}, "pattern", "text is wanted"),
        ({"patternProperties": {f".{{1,1000}}{n}": {} for n in range(10_000)}}, "", "times as much work"),
        ({"allOf": [{"pattern": r"\S" * 200 + str(n)} for n in range(400)]}, "", "times as much work"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "$ref", "leads out of the schema"),
        ({"$ref": "file:///etc/passwd"}, "$ref", "leads out of the schema"),
        ({"properties": {"a": {"$ref": "#/definitions/a"}}}, "properties.a.$ref", "nothing at this place"),
        ({"$ref": "#/type", "type": "object"}, "$ref", "there is no schema"),
        ({"$ref": 5}, "$ref", "not text"),
        ({"$ref": "#"}, "", "back to itself without end"),
        ({"properties": {"a": {"allOf": [{"$ref": "#/properties/a"}]}}}, "properties.a", "back to itself"),
        (
            {"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}},
            "definitions",
            "itself",
        ),
        (
            {"not": {"properties": {"a": {"$ref": "#"}, "b": {"anyOf": [{"$ref": "#/not"}]}}, "if": {"$ref": "#"}}},
            "",
            "it",
        ),
        ({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}, "", "in two ways"),
        ({"items": {"$ref": "#"}, "contains": {"$ref": "#"}}, "", "in two ways"),
        ({"properties": {"a": {"$ref": "#"}}, "patternProperties": {"a": {"$ref": "#"}}}, "", "in two ways"),
        (refs(20, twice=True), "", f"more than {MAX_CHECKS} schemas"),
        (refs(1000, twice=False), "", "more than 200 levels"),
        (aliases(40), "", "more than 262144 values"),
        (nested(200), "not.not", "nested deeper than 100 levels"),
        (nested(20_000), "not.not", "nested deeper than 100 levels"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, "", "bytes as JSON"),
        ({"const": object()}, "const", "no value of JSON"),
        ({"required": True}, "required", "not of type"),
        ({"minLength": -1}, "minLength", "less than the minimum"),
        ({"properties": {"a": 5}}, "properties.a", ""),
    ],
)
def test_what_is_wrong_is_said_with_the_place_and_the_mend(schema: dict[str, Any], path: str, reason: str) -> None:
    [(found, text, mend)] = check_schema(schema)[:1]
    assert found.startswith(path)
    assert reason in text
    assert mend
    assert examine_schema(schema)[1] is None


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        {"$schema": "https://json-schema.org/draft-07/schema"},
        {"properties": {"next": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}},
        {"oneOf": [{"type": "array", "items": {"$ref": "#"}}, {"additionalProperties": {"$ref": "#"}}]},
        {"$id": "https://a.example/s.json", "definitions": {"x": {}}, "not": {"$ref": "s.json#/definitions/x"}},
        {"definitions": {"a": {"$id": "#a", "type": "object"}}, "properties": {"b": {"$ref": "#a"}}},
        {"definitions": {"a/b~c %": {}}, "$ref": "#/definitions/a~1b~0c%20%25"},
        {"pattern": "^.{1,255}$"},
        {"pattern": r"^[\w.+-]{1,64}@[\w-]{1,63}(\.[\w-]{1,63}){1,10}$"},
        {"pattern": r"^[\p{L} .'-]{1,40}$"},
        {"format": "nobody knows"},
        refs(90, twice=False),
    ],
)
def test_nothing_is_wrong(schema: dict[str, Any]) -> None:
    assert check_schema(schema) == []


def quickly_fine(schema: dict[str, Any]) -> bool:
    """Whether nothing but the quick look and the engine was asked."""
    with patch.object(plan_schema, "_oversize", return_value=("", "a closer look", "")):
        return examine_schema(schema)[0] == []


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$id": "https://a.example/s.json", "not": {"type": "string"}},
        {"properties": {"$id": {}, "pattern": {"pattern": "^a{1,9}$"}, "patternProperties": {"patternProperties": {}}}},
        {"patternProperties": {"^a": False}, "items": [True, {"enum": [1, None, {"a": []}]}]},
        {"properties": {f"k{n}": {"$ref": "#/definitions/a"} for n in range(4000)}, "definitions": {"a": {}}},
        refs(20, twice=False),
    ],
)
def test_most_schemas_need_no_closer_look(schema: dict[str, Any]) -> None:
    assert quickly_fine(schema)
    assert check_schema(schema) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#"}}},
        {"definitions": {"a": {"$ref": "#/definitions/b"}}},
        {"enum": [{"$ref": 5}]},
        {"definitions": {"a": {"$id": "#a"}, "b": {"$ref": "#/definitions/a"}}},
        {"definitions": {"unused": {"pattern": "(a{2}){501}"}}},
        {"patternProperties": {"(a{2}){501}": True}},
        {"properties": {str(number): {} for number in range(MAX_CHECKS)}},
        {"allOf": [True] * MAX_CHECKS},
        {"type": "strng"},
        {"pattern": "("},
        {"const": object()},
        refs(20, twice=True),
        refs(1000, twice=False),
        aliases(40),
        nested(200),
    ],
)
def test_what_may_be_against_a_limit_gets_a_closer_look(schema: dict[str, Any]) -> None:
    assert not quickly_fine(schema)


def test_many_patterns_as_people_write_them_are_allowed() -> None:
    patterns = [f"^[A-Z]{{2}}-{number}[0-9]{{1,40}}$" for number in range(400)]
    patterns += [rf"^(\d{{1,3}}|\w+)@\S+ {number}$" for number in range(400)]
    assert check_schema({"properties": {pattern: {"pattern": pattern} for pattern in patterns}}) == []


def test_there_is_an_end_to_problems() -> None:
    schema = {"properties": {str(number): {"type": "x"} for number in range(1000)}}
    assert len(check_schema(schema)) == MAX_PROBLEMS


def test_nothing_is_ever_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        visitors: list[Any] = []

        def listen() -> None:
            try:
                visitors.append(server.accept())
            except TimeoutError:
                return

        listener = threading.Thread(target=listen)
        listener.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for schema in ({"$ref": url}, {"$id": url, "$ref": "other.json"}, {"$schema": url}, {"not": {"$ref": url}}):
            assert check_schema(schema)
            plan = TrackingPlan("p", "P", ("web",), (Rule("track", schema, "A"),))
            stage = compile_plan(plan, SchemaConfiguration(track=Enforcement(violations=BLOCK)), "web")
            verdict = stage.verdict({"type": "track", "event": "A"}, b'{"type":"track","event":"A"}')
            assert isinstance(verdict.body, Discard)
            assert verdict.body.reason == INVALID_PLAN
        listener.join()
    assert visitors == []


@pytest.mark.parametrize(
    "pattern",
    ["^(a+)+$", "(x+x+)+y", "(a|aa)+b", "(.*)(.*)(.*)(.*)[^a]$", "^((a?){30}a{30})$", "(a{1,30}){1,30}b"],
)
def test_no_pattern_takes_more_than_time_in_proportion(pattern: str) -> None:
    """A backtracking engine would not come back within the test's limit."""
    compile_pattern(pattern)("a" * 32_000 + "!")


@pytest.mark.parametrize("pattern", ["a{1001}", "(a{2}){501}", "((a{10}){10}){11}", "[a{2}]{1001}", "(a{,9}){999}"])
def test_repeats_multiply(pattern: str) -> None:
    with pytest.raises(SchemaError):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a{1000}", "a{500}b{500}", r"\{9999\}", "[{]{3}", "(a{31}){32}"])
def test_repeats_in_a_row_do_not(pattern: str) -> None:
    compile_pattern(pattern)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        (
            "date-time",
            "2024-02-29T10:00:00Z 2024-01-01T1:00:00,5+02:00 2024-01-01 12:00:00",
            "2023-02-29T10:00:00Z now",
        ),
        ("date", "2024-02-29 0000-01-01", "2023-02-29 2024-1-01 2024-13-01"),
        ("time", "5:04:05 12:00:00.123Z", "24:00:00 12:00 12:00:60Z 12:00:00z"),
        ("email", "a@b joe.x@acme.com <a@b>", "a@ @b a..b@c a.@b"),
        ("hostname", "a a.b", "-a a_b a. " + "a" * 64),
        ("ipv4", "1.2.3.4 ::ffff:1.2.3.4", "1.2.3 01.2.3.4 ::1"),
        ("ipv6", "::1 ::ffff:1.2.3.4", "1::2::3 fe80::1%eth0 1.2.3.4"),
        ("uri", "http://a/b mailto:x@y urn:x:y http://[::1]:80/", "/a 1a:b http://a:x/ http://a/%zz a\\b"),
        ("uri-reference", "/a ?x #f a/b:c", "1a:b %zz a\\b"),
        ("uri-template", "/a/{b} /a}b", "/a/{b"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123E4567-e89b-12d3-a456-426614174000 x"),
        ("json-pointer", "/a /a~0b", "a /a~ /~2"),
        ("relative-json-pointer", "0 0# 1/a", "01 a /a"),
        (
            "regex",
            r"a ^[a-z]+$ .{1,1000} [(?=] \\1 \(?=a a|b\d (?:a)",
            r"( (?!a) (?<=a)b (a)\1 [] a[^] a{1001} (?=a) \\\1 [a",
        ),
        ("idn-hostname", "〮", ""),
    ],
)
def test_formats(name: str, right: str, wrong: str) -> None:
    assert [text for text in right.split() if not check_format(name, text)] == []
    assert [text for text in wrong.split() if check_format(name, text)] == []


@pytest.mark.parametrize(
    "text", ["a" * 60_000, " " * 60_000, '"' * 60_000, "a." * 30_000, "/~0" * 20_000 + "~", "%" * 60_000]
)
def test_formats_take_time_in_proportion(text: str) -> None:
    for name in ("email", "uri", "uri-template", "hostname", "json-pointer", "date-time", "ipv6", "uuid"):
        check_format(name, text)
