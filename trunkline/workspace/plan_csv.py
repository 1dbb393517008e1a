"""Tracking plans as CSV: one row for each event and one for each of its properties, below a row of headings.

The columns are those of Segment's editor, by the names that its documentation gives for downloads where it gives any
(``spec/event_path.md`` §4.1); the limits are Segment's. What a table can't say is refused, never left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from trunkline.spec.plans import COMMON, MAX_RULES, RULE_TYPES, TRACK, Rule
from trunkline.workspace.plan_file import MAX_FILE_BYTES, MAX_PROBLEMS, FileProblem, PlanFile, PlanFileError
from trunkline.workspace.plan_rules import TOO_MANY, RuleKey, check_heading, check_rule_schema, make_rule
from trunkline.workspace.plan_table import (
    DATA_TYPES,
    DATE_TIME,
    ENUM,
    MAX_PATH_KEYS,
    Property,
    RuleRows,
    data_type_text,
    is_items,
    labels_text,
    parse_labels,
    parse_path,
    parse_values,
    path_text,
    rows_of,
    schema_of,
    values_text,
)
from trunkline.workspace.problem import nearest, shown

MAX_ROWS: Final = 100_000
TYPE: Final = "Rule Type"
EVENT: Final = "Event Name"
VERSION: Final = "Version"
EVENT_DESCRIPTION: Final = "Event Description"
LABELS: Final = "Event Labels"
PROPERTY: Final = "Property Name"
DESCRIPTION: Final = "Property Description"
STATUS: Final = "Property Status"
DATA_TYPE: Final = "Property Data Type"
NULLABLE: Final = "Allow Null Values"
PATTERN: Final = "Allowed Property Values"
VALUES: Final = "Enum Values"
COLUMNS: Final = (
    TYPE,
    EVENT,
    VERSION,
    EVENT_DESCRIPTION,
    LABELS,
    PROPERTY,
    DESCRIPTION,
    STATUS,
    DATA_TYPE,
    NULLABLE,
    PATTERN,
    VALUES,
)
_ALSO: Final[Mapping[str, str]] = {
    "call type": TYPE,
    "type": TYPE,
    "event type": TYPE,
    "event": EVENT,
    "name": EVENT,
    "event version": VERSION,
    "labels": LABELS,
    "property": PROPERTY,
    "property path": PROPERTY,
    "trait name": PROPERTY,
    "trait description": DESCRIPTION,
    "status": STATUS,
    "trait status": STATUS,
    "data type": DATA_TYPE,
    "property type": DATA_TYPE,
    "trait data type": DATA_TYPE,
    "allow null": NULLABLE,
    "permitted values": PATTERN,
    "property permitted values": PATTERN,
    "enum": VALUES,
}
"""Headings that are taken too, in small letters."""
_REQUIRED: Final = {"required": True, "true": True, "yes": True, "optional": False, "false": False, "no": False}
_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_DATE_TIMES: Final = ("date-time", "date time", "datetime")
_KEY_COLUMNS: Final = {"type": TYPE, "event": EVENT, "version": VERSION}


_JSON: Final = "Export the plan as JSON"


def format_csv(plan: PlanFile) -> bytes:
    """Raises PlanFileError for what CSV can't say."""
    problems: list[FileProblem] = []
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="")
    writer.writeheader()
    for index, rule in enumerate(plan.rules):
        place = f"rules[{index}] ({' '.join(filter(None, (rule.type, rule.event)))})"
        if rule.type == COMMON:
            problems.append(FileProblem(place, "a table has no rows for the common schema", _JSON))
            continue
        rows, unsaid = rows_of(rule)
        problems += [
            FileProblem(f"{place} schema.{item.path}", f"a table can't say {item.what}", _JSON) for item in unsaid
        ]
        heading = {TYPE: rows.type, EVENT: rows.event, VERSION: str(rows.version)}
        writer.writerow({**heading, EVENT_DESCRIPTION: rows.description, LABELS: labels_text(rows.labels)})
        writer.writerows({**heading, **_cells(row)} for row in rows.properties)
    if problems:
        raise PlanFileError(problems)
    return out.getvalue().encode()


def _cells(row: Property) -> dict[str, str]:
    data_type, nullable = data_type_text(row)
    return {
        PROPERTY: path_text(row.path),
        DESCRIPTION: row.description,
        STATUS: "required" if row.required else "optional",
        DATA_TYPE: data_type,
        NULLABLE: "true" if nullable else "",
        PATTERN: row.pattern,
        VALUES: "" if row.values is None else values_text(row.values, row.types),
    }


def parse_csv(content: bytes) -> PlanFile:
    """The rules; a table does not say what the plan is called. Raises PlanFileError."""
    if len(content) > MAX_FILE_BYTES:
        _refuse_file(f"larger than {MAX_FILE_BYTES // 2**20} MiB", "Take rules out, or make two plans")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse_file("not UTF-8 text", "Save it as CSV UTF-8")
    return _Reader(text).read()


def _refuse_file(reason: str, mend: str) -> NoReturn:
    raise PlanFileError([FileProblem("", reason, mend)])


@dataclass
class _Draft:
    """A rule whose rows are being read."""

    row: int
    rows: RuleRows
    places: dict[tuple[str, ...], int]
    """The row of each property."""


class _Refused(Exception):
    """A cell can't be read; its row is left out."""

    def __init__(self, column: str, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.column, self.reason, self.mend = column, reason, mend


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._problems: list[FileProblem] = []
        self._drafts: dict[RuleKey, _Draft] = {}
        self._last: RuleKey | None = None
        """The rule of the row before."""

    def read(self) -> PlanFile:
        first = self._text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        number = 0
        try:
            columns: list[str] = []
            for number, cells in enumerate(csv.reader(io.StringIO(self._text, newline=""), delimiter=delimiter), 1):
                if not columns:
                    columns = self._columns(cells)
                elif number > MAX_ROWS:
                    _refuse_file(f"more than {MAX_ROWS} rows", "Take rules out, or make two plans")
                elif any(cells) and len(self._problems) < MAX_PROBLEMS:
                    self._take(number, columns, cells)
        except csv.Error as error:
            self._refuse(number + 1, "", f"not CSV: {error}", "Mend the row, or export the table again")
        if not columns:
            _refuse_file("the file holds nothing", f"Start with a row of headings: {', '.join(COLUMNS)}")
        drafts = [] if self._problems else list(self._drafts.values())
        rules = [rule for draft in drafts if (rule := self._rule(draft)) is not None]
        if len(self._drafts) > MAX_RULES:
            self._refuse(0, "", f"{len(self._drafts)} rules", TOO_MANY)
        if self._problems:
            raise PlanFileError(sorted(self._problems, key=lambda problem: problem.row))
        return PlanFile("", "", tuple(rules))

    def _columns(self, cells: list[str]) -> list[str]:
        known = {**{column.lower(): column for column in COLUMNS}, **_ALSO}
        found = []
        for cell in cells:
            word = " ".join(re.split(r"[\s_/-]+", cell.strip().lower()))
            column = known.get(word)
            if column is None:
                guess = nearest(word, known)
                mend = f"Did you mean {known[guess]}?" if guess else f"Use only: {', '.join(COLUMNS)}"
                self._refuse(1, "", f"there is no column {shown(cell)}", mend)
            elif column in found:
                self._refuse(1, "", f"the column {column} stands here twice", "Keep one of them")
            found.append(column or "")
        for column in (EVENT, PROPERTY):
            if column not in found and not self._problems:
                self._refuse(1, "", f"the column {column} is missing", f"Use the headings {', '.join(COLUMNS)}")
        if self._problems:
            raise PlanFileError(self._problems)
        return found

    def _take(self, number: int, columns: list[str], cells: list[str]) -> None:
        row = dict.fromkeys(COLUMNS, "") | dict(zip(columns, cells, strict=False))
        try:
            if any(cells[len(columns) :]):
                raise _Refused("", "more cells than there are headings", "Put quotes around cells with commas in them")
            draft = self._draft(number, row)
            if row[PROPERTY]:
                self._take_property(number, row, draft)
            else:
                self._take_event(row, draft)
        except _Refused as refused:
            self._refuse(number, refused.column, refused.reason, refused.mend)

    def _draft(self, number: int, row: Mapping[str, str]) -> _Draft:
        """The rule that this row is about."""
        kind, event, version = row[TYPE].strip().lower(), row[EVENT], self._version(row[VERSION])
        last = self._last
        if not kind and not event and last is not None:
            kind, event = last[:2]
        kind = kind or TRACK
        if kind == TRACK and not event and row[PROPERTY] and last is not None and last[0] == TRACK:
            event = last[1]
        if kind == COMMON:
            raise _Refused(TYPE, "a table has no rows for the common schema", "Import it as JSON")
        if version is None:
            version = last[2] if last is not None and row[PROPERTY] and last[:2] == (kind, event) else 1
        key = (kind, event, version)
        if key not in self._drafts:
            for problem in check_heading(kind, event or None, version):
                mend = f"Use one of: {', '.join(RULE_TYPES[:-1])}" if problem.key == "type" else problem.mend
                raise _Refused(_KEY_COLUMNS[problem.key], problem.reason, mend.replace("event:", "the event"))
            self._drafts[key] = _Draft(number, RuleRows(kind, event, version), {})
        self._last = key
        return self._drafts[key]

    @staticmethod
    def _version(cell: str) -> int | None:
        text = cell.strip()
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,9}(\.0+)?", text):
            raise _Refused(VERSION, f"{shown(text)} is no version", "Write a whole number, or nothing for 1")
        return int(text.partition(".")[0])

    @staticmethod
    def _take_event(row: Mapping[str, str], draft: _Draft) -> None:
        for column in (DESCRIPTION, STATUS, DATA_TYPE, NULLABLE, PATTERN, VALUES):
            if row[column].strip():
                raise _Refused(column, "says nothing in the row of an event", f"Add a {PROPERTY}, or empty the cell")
        if row[EVENT_DESCRIPTION]:
            if draft.rows.description not in ("", row[EVENT_DESCRIPTION]):
                reason = f"another description of the event than in row {draft.row}"
                raise _Refused(EVENT_DESCRIPTION, reason, "Keep one of them")
            draft.rows.description = row[EVENT_DESCRIPTION]
        if row[LABELS].strip():
            try:
                draft.rows.labels |= parse_labels(row[LABELS])
            except ValueError as error:
                raise _Refused(LABELS, str(error), "Write platform:ios, team:growth") from None

    def _take_property(self, number: int, row: Mapping[str, str], draft: _Draft) -> None:
        try:
            path = parse_path(row[PROPERTY])
        except ValueError:
            reason = f"{shown(row[PROPERTY])} is no path"
            raise _Refused(PROPERTY, reason, "Write keys with a dot between them: address.city") from None
        if len(path) > MAX_PATH_KEYS:
            raise _Refused(PROPERTY, f"a path of more than {MAX_PATH_KEYS} keys", "Import the plan as JSON")
        if path in draft.places:
            reason = f"{shown(row[PROPERTY])} stands in row {draft.places[path]} already"
            raise _Refused(PROPERTY, reason, "Keep one of them")
        draft.places[path] = number  # also if the rest of the row is wrong, so that its children are not refused too
        if len(path) == 1 and is_items(path):
            raise _Refused(PROPERTY, "the items of no array", "Write the array's name before it: products.$")
        if len(path) > 1 and path[:-1] not in draft.places:
            parent = path_text(path[:-1])
            raise _Refused(PROPERTY, f"no row above is about {shown(parent)}", f"Add a row for {parent} before it")
        draft.rows.properties.append(self._property(row, path))

    def _property(self, row: Mapping[str, str], path: tuple[str, ...]) -> Property:
        required = self._flag(row, STATUS, _REQUIRED, "required or optional")
        if required and is_items(path):
            raise _Refused(STATUS, "items of an array can't be required", "Write optional, or require the array")
        types, is_date_time = self._types(row)
        values = self._values(row, types)
        word = " ".join(row[DATA_TYPE].split()).lower()
        if word == ENUM and values is None:
            raise _Refused(VALUES, "missing", f"List the values of the {ENUM}: fall|winter")
        nullable = self._flag(row, NULLABLE, _FLAGS, "true or false")
        if nullable and types and "null" not in types:
            types = (*types, "null")
        elif nullable and not types and values is not None and None not in values:
            values = (*values, None)
        pattern = row[PATTERN]
        if pattern and "string" not in types:
            reason = "a pattern is for strings"
            raise _Refused(PATTERN, reason, f"Write string under {DATA_TYPE}, or use {VALUES}")
        return Property(path, row[DESCRIPTION], required, types, is_date_time, pattern, values)

    @staticmethod
    def _flag(row: Mapping[str, str], column: str, words: Mapping[str, bool], allowed: str) -> bool:
        text = row[column].strip().lower()
        if text and text not in words:
            raise _Refused(column, f"{shown(text)} is not {allowed}", f"Write {allowed}")
        return words.get(text, False)

    @staticmethod
    def _types(row: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
        """JSON's types, none for any; and whether it is a date and time."""
        text = " ".join(row[DATA_TYPE].split()).lower()
        if text in ("", "any", ENUM):
            return (), False
        if text in _DATE_TIMES:
            return ("string",), True
        words = list(dict.fromkeys(word.strip() for word in re.split(r"[|,]", text)))
        allowed = [word for word in DATA_TYPES if word not in ("any", ENUM, DATE_TIME)]
        for word in words:
            if word not in allowed:
                guess = nearest(word, DATA_TYPES)
                mend = f"Did you mean {guess}?" if guess else f"Use one of: {', '.join(DATA_TYPES)}"
                raise _Refused(DATA_TYPE, f"there is no data type {shown(word)}", mend)
        return tuple(words), False

    @staticmethod
    def _values(row: Mapping[str, str], types: tuple[str, ...]) -> tuple[object, ...] | None:
        if not row[VALUES].strip():
            return None
        try:
            return parse_values(row[VALUES], types) or None
        except ValueError as error:
            mend = 'Write fall|winter, or a JSON array such as ["fall", "winter"]'
            raise _Refused(VALUES, f"not a list of values: {error}", mend) from None

    def _rule(self, draft: _Draft) -> Rule | None:
        rows = draft.rows
        schema = schema_of(rows)
        problems = check_rule_schema(schema)
        for problem in problems:
            self._refuse(draft.row, "", f"the schema of the rule, at {problem.inner}: {problem.reason}", problem.mend)
        return None if problems else make_rule(rows.type, rows.event, rows.version, schema)

    def _refuse(self, row: int, column: str, reason: str, mend: str) -> None:
        place = f"row {row}, {column}" if column else f"row {row}" if row else ""
        self._problems.append(FileProblem(place, reason, mend, row))
