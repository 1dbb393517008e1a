"""Tracking plans as CSV: what a table says, what it can't, every mistake with its row and column."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.workspace.plan_kit import table_rule_lists
from trunkline.spec.plans import MAX_RULES, Rule
from trunkline.workspace.plan_csv import COLUMNS, MAX_ROWS, format_csv, parse_csv
from trunkline.workspace.plan_file import MAX_FILE_BYTES, FileProblem, PlanFile, PlanFileError
from trunkline.workspace.plan_table import DRAFT, parse_path, path_text

BELOW = "schema.properties.properties.properties"
SMALL = "Rule Type,Event Name,Property Name,Property Status,Property Data Type,Allow Null Values"


def table(*rows: str, columns: str = SMALL) -> bytes:
    return "\n".join((columns, *rows, "")).encode()


def rule(*rows: str, columns: str = SMALL) -> Rule:
    """The one rule of a table."""
    (found,) = parse_csv(table(*rows, columns=columns)).rules
    return found


def properties(*rows: str, columns: str = SMALL) -> Mapping[str, Any]:
    """What the one rule says below ``properties``."""
    found: Mapping[str, Any] = rule("track,A", *rows, columns=columns).schema["properties"]["properties"]
    return found


def refused(content: bytes) -> list[FileProblem]:
    with pytest.raises(PlanFileError) as caught:
        parse_csv(content)
    return list(caught.value.problems)


def unsaid(schema: Mapping[str, Any], kind: str = "track", event: str = "A") -> list[str]:
    """The places of what keeps a schema from becoming a table."""
    with pytest.raises(PlanFileError) as caught:
        format_csv(PlanFile("", "", (Rule(kind, schema, event),)))
    assert all("JSON" in problem.mend for problem in caught.value.problems)
    return [problem.place.partition(") ")[2] for problem in caught.value.problems]


_spelling = msgspec.json.Encoder(order="sorted").encode

# -- there and back ----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(table_rule_lists)
def test_what_a_table_can_say_comes_through(rules: tuple[Rule, ...]) -> None:
    plan = PlanFile("", "", rules)
    again = parse_csv(format_csv(plan))
    assert again == plan
    assert _spelling(again) == _spelling(plan)  # 1 is 1.0 to ==


def test_all_columns() -> None:
    text = (
        ",".join(COLUMNS)
        + '\r\ntrack,Order Completed,2,"Paid, at last","platform:ios, team:growth",,,,,,,\r\n'
        + "track,Order Completed,2,,,season,When,required,string,true,fall|winter,\r\n"
        + "track,Order Completed,2,,,products,,optional,array,,,\r\n"
        + "track,Order Completed,2,,,products.$,,optional,object,,,\r\n"
        + "track,Order Completed,2,,,products.$.a\\.b,,required,enum,,,x|y\r\n"
    )
    (found,) = parse_csv(text.encode()).rules
    assert found == Rule(
        "track",
        {
            "$schema": DRAFT,
            "type": "object",
            "description": "Paid, at last",
            "labels": {"platform": "ios", "team": "growth"},
            "properties": {
                "context": {},
                "traits": {},
                "properties": {
                    "type": "object",
                    "properties": {
                        "season": {"description": "When", "type": ["string", "null"], "pattern": "fall|winter"},
                        "products": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"a.b": {"enum": ["x", "y"]}},
                                "required": ["a.b"],
                            },
                        },
                    },
                    "required": ["season"],
                },
            },
        },
        "Order Completed",
        2,
    )
    assert format_csv(PlanFile("", "", (found,))).decode() == text


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["object"], "properties": {"context": {"type": "object"}, "traits": {}, "properties": {}}},
        {"$schema": "https://json-schema.org/draft-07/schema", "required": [], "labels": {}, "description": ""},
        {"properties": {"properties": {"type": "object", "properties": {"a": {"type": ["string"]}}, "required": []}}},
    ],
)
def test_schemas_that_say_the_same_in_other_words_are_written(schema: dict[str, Any]) -> None:
    once = format_csv(PlanFile("", "", (Rule("track", schema, "A"),)))
    assert format_csv(parse_csv(once)) == once


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"additionalProperties": False}, "schema.additionalProperties"),
        ({"required": ["userId"]}, "schema.required"),
        ({"type": "array"}, "schema.type"),
        ({"labels": {"a": 1}}, "schema.labels"),
        ({"labels": {"a": "b,c"}}, "schema.labels"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "schema.$schema"),
        ({"properties": {"userId": {}}}, "schema.properties.userId"),
        ({"properties": {"traits": {"properties": {"a": {}}}}}, "schema.properties.traits"),
        ({"properties": {"properties": {"minProperties": 1}}}, "schema.properties.properties.minProperties"),
        ({"properties": {"properties": {"type": ["object", "null"]}}}, "schema.properties.properties.type"),
        ({"properties": {"properties": {"required": ["a"]}}}, "schema.properties.properties.required"),
        *(
            ({"properties": {"properties": {"properties": {"a": inner}}}}, f"{BELOW}.a{key}")
            for inner, key in (
                (True, ""),
                ({"minimum": 1}, ".minimum"),
                ({"format": "email"}, ".format"),
                ({"format": "date-time"}, ".format"),
                ({"format": "date-time", "type": ["string", "integer"]}, ".format"),
                ({"pattern": "a"}, ".pattern"),
                ({"items": [{}]}, ".items"),
                ({"type": "nummer"}, ".type"),
                ({"type": []}, ".type"),
                ({"$ref": "#"}, ".$ref"),
                ({"enum": []}, ".enum"),
                ({"properties": {"b": {}, "": {}}}, ".properties."),
            )
        ),
    ],
)
def test_what_a_table_can_not_say_is_never_left_out(schema: dict[str, Any], place: str) -> None:
    assert unsaid(schema) == [place]


def test_a_common_rule_has_no_rows() -> None:
    assert unsaid({}, "common", "") == [""]


# -- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "schema"),
    [
        ("p", {}),
        ("p,optional,any", {}),
        ("p,,string", {"type": "string"}),
        ("p,, Integer ,", {"type": "integer"}),
        ("p,,integer|string", {"type": ["integer", "string"]}),
        ("p,,number,yes", {"type": ["number", "null"]}),
        ("p,,null", {"type": "null"}),
        ("p,,null,true", {"type": "null"}),
        ("p,,any,true", {}),
        ("p,,Date time", {"type": "string", "format": "date-time"}),
        ("p,,date-time,TRUE", {"type": ["string", "null"], "format": "date-time"}),
    ],
)
def test_data_types(row: str, schema: dict[str, Any]) -> None:
    assert properties(f",,{row}")["properties"]["p"] == schema


@pytest.mark.parametrize(
    ("kind", "values", "schema"),
    [
        ("enum", "fall|winter", {"enum": ["fall", "winter"]}),
        ("enum", '"fall, winter"', {"enum": ["fall", "winter"]}),
        ("enum", '"[""a,b"", 1, 1.5, null]"', {"enum": ["a,b", 1, 1.5, None]}),
        ("string", "1|2", {"type": "string", "enum": ["1", "2"]}),
        ("integer", "1|2", {"type": "integer", "enum": [1, 2]}),
        ("number", '"1, 2.5"', {"type": "number", "enum": [1, 2.5]}),
        ("boolean", "true", {"type": "boolean", "enum": [True]}),
    ],
)
def test_lists_of_values(kind: str, values: str, schema: dict[str, Any]) -> None:
    columns = "Event Name,Property Name,Data Type,Enum Values"
    assert rule(f"A,p,{kind},{values}", columns=columns).schema["properties"]["properties"]["properties"]["p"] == schema


def test_null_may_be_added_to_a_list_of_values() -> None:
    columns = "Event Name,Property Name,Data Type,Allow Null Values,Enum Values"
    found = rule("A,p,enum,true,x", columns=columns).schema["properties"]["properties"]["properties"]["p"]
    assert found == {"enum": ["x", None]}


def test_cells_that_are_empty_are_those_above() -> None:
    plan = parse_csv(
        table(
            "track,A", ",,p", "track,,q", "page", ",,r", "page,Home", ",,s", "identify", ",,t", "group,,u", "TRACK,A,v"
        )
    )
    found = {
        (item.type, item.event): [
            *item.schema["properties"]["properties"].get("properties", ()),
            *item.schema["properties"]["traits"].get("properties", ()),
        ]
        for item in plan.rules
    }
    assert found == {
        ("track", "A"): ["p", "q", "v"],
        ("page", ""): ["r"],
        ("page", "Home"): ["s"],
        ("identify", ""): ["t"],
        ("group", ""): ["u"],
    }


def test_versions() -> None:
    plan = parse_csv(table("A,2,", "A,,p", "A,1.0,q", "A,,r", columns="Event Name,Version,Property Name"))
    found = {item.version: list(item.schema["properties"]["properties"]["properties"]) for item in plan.rules}
    assert found == {2: ["p"], 1: ["q", "r"]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_delimiters_and_a_byte_order_mark(delimiter: str) -> None:
    content = table("track,A", ",,p").replace(b",", delimiter.encode())
    assert parse_csv(b"\xef\xbb\xbf" + content) == parse_csv(table("track,A", ",,p"))


def test_short_headings_and_empty_rows() -> None:
    columns = " type ,NAME,property_name,Status,data type,Permitted Values"
    assert rule("track,A", ",,,,", ",,p,required,string,x", columns=columns) == rule(
        "track,A", ",,p,required,string,x", columns=",".join((*COLUMNS[:2], *COLUMNS[5:6], *COLUMNS[7:9], COLUMNS[10]))
    )


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4))
@example(["$", "a$", "\\$", ".", "\\"])
def test_any_path_comes_through(keys: list[str]) -> None:
    assert parse_path(path_text(tuple(keys))) == tuple(keys)


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "place", "reason", "mend"),
    [
        (["trak,A"], "row 2, Rule Type", 'there is no type of rules "trak"', "Use one of: track, identify"),
        (["common"], "row 2, Rule Type", "a table has no rows for the common schema", "Import it as JSON"),
        (["track"], "row 2, Event Name", "missing", "Add the event and the event's name"),
        (["group,A"], "row 2, Event Name", "says nothing in a rule of the type group", "Remove it"),
        ([",,p"], "row 2, Event Name", "missing", "Add"),
        (["track,A,,required"], "row 2, Property Status", "says nothing in the row of an event", "Add a Property Name"),
        (["track,A,p,must"], "row 2, Property Status", '"must" is not required or optional', "Write required or opt"),
        (["track,A,p,,text"], "row 2, Property Data Type", 'there is no data type "text"', "Use one of: any, array"),
        (["track,A,p,,strin"], "row 2, Property Data Type", 'there is no data type "strin"', "Did you mean string?"),
        (["track,A,p,,enum"], "row 2, Enum Values", "missing", "List the values of the enum"),
        (["track,A,p,,string,maybe"], "row 2, Allow Null Values", '"maybe" is not true or false', "Write true or fa"),
        (["track,A,p", ",,p"], "row 3, Property Name", '"p" stands in row 2 already', "Keep one of them"),
        (["track,A,a.b"], "row 2, Property Name", 'no row above is about "a"', "Add a row for a before it"),
        (["track,A,a..b"], "row 2, Property Name", '"a..b" is no path', "Write keys with a dot between them"),
        (["track,A,$"], "row 2, Property Name", "the items of no array", "Write the array's name before it"),
        (["track,A,a", "track,A,a.$,required"], "row 3, Property Status", "items of an array can't be", "Write option"),
        ([f"track,A,{'.'.join('a' * 19)}"], "row 2, Property Name", "a path of more than 18 keys", "Import the plan"),
        (["track,A,p,,,,x"], "row 2", "more cells than there are headings", "Put quotes around cells with commas"),
        (["track,A,p,,a,b", "x,x", "x,x"], "row 2, Property Data Type", "", ""),
    ],
)
def test_each_mistake_has_its_row_and_column(rows: list[str], place: str, reason: str, mend: str) -> None:
    problem = refused(table(*rows))[0]
    assert problem.place == place
    assert problem.row == int(place.split()[1].rstrip(","))
    assert problem.reason.startswith(reason)
    assert problem.mend.startswith(mend)
    assert str(problem).startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("columns", "row", "place", "reason"),
    [
        ("Event Name,Version,Property Name", "A,x,", "row 2, Version", '"x" is no version'),
        ("Event Name,Version,Property Name", "A,0,", "row 2, Version", "not a whole number from 1"),
        ("Event Name,Labels,Property Name", "A,x,", "row 2, Event Labels", "x is no label"),
        ("Event Name,Data Type,Property Name,Enum Values", 'A,integer,p,"1,x"', "row 2, Enum Values", "not a list of"),
        ("Event Name,Data Type,Property Name,Enum Values", "A,boolean,p,ja", "row 2, Enum Values", "not a list of val"),
        ("Event Name,Data Type,Property Name,Enum Values", "A,string,p,[x", "row 2, Enum Values", "not a list of"),
        ("Event Name,Data Type,Property Name,Enum Values", "A,string,p,a||b", "row 2, Enum Values", "not a list of v"),
        ("Event Name,Data Type,Property Name,Pattern", "A", "row 1", 'there is no column "Pattern"'),
        (
            "Event Name,Data Type,Property Name,Permitted Values",
            "A,integer,p,x",
            "row 2, Allowed Property Values",
            "a pat",
        ),
        ("Event Name,Event Name,Property Name", "A", "row 1", "the column Event Name stands here twice"),
        ("Event Name,Version", "A", "row 1", "the column Property Name is missing"),
        ("Event Nam,Property Name", "A", "row 1", 'there is no column "Event Nam"'),
    ],
)
def test_mistakes_in_other_columns(columns: str, row: str, place: str, reason: str) -> None:
    problem = refused(table(row, columns=columns))[0]
    assert (problem.place, problem.reason[: len(reason)]) == (place, reason)


def test_descriptions_that_differ() -> None:
    rows = ["A,one,", "A,one,", "A,two,"]
    (problem,) = refused(table(*rows, columns="Event Name,Event Description,Property Name"))
    assert (problem.row, problem.reason) == (4, "another description of the event than in row 2")


def test_all_mistakes_are_listed_in_the_order_of_the_rows() -> None:
    found = refused(table("track,A,p,must", ",,q,,text", ",,r,,string,maybe"))
    assert [problem.row for problem in found] == [2, 3, 4]


def test_a_schema_that_is_wrong_is_named_by_the_row_of_its_event() -> None:
    columns = "Event Name,Property Name,Data Type,Permitted Values"
    (problem,) = refused(table("A,,,", "B,,,", ",p,string,(", columns=columns))
    assert (problem.row, problem.place) == (3, "row 3")
    assert "properties.properties.properties.p.pattern" in problem.reason


# -- hostile files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file holds nothing"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"x" * (MAX_FILE_BYTES + 1), "larger than 15 MiB"),
        (b"\0", "there is no column"),
        (table('track,"' + "x" * 200_000 + '"'), "not CSV"),
        (table(*[",,"] * MAX_ROWS), "more than 100000 rows"),
        (table(*(f"track,E{number}" for number in range(MAX_RULES + 1))), "2001 rules"),
    ],
)
def test_files_that_are_no_table_or_too_large(content: bytes, reason: str) -> None:
    assert reason in refused(content)[-1 if "rules" in reason else 0].reason


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["", "track", "A", "p", "p.q", "p.$", "string", "true", '"', "[1]"]), max_size=7))
)
def test_any_table_is_a_plan_or_refused(rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([SMALL.split(","), *rows])
    with contextlib.suppress(PlanFileError):
        assert isinstance(parse_csv(out.getvalue().encode()), PlanFile)
