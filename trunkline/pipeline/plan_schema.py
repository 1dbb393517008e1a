"""Whether a rule's JSON Schema can be used: draft 7, nothing outside of itself, bounded time for every event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from trunkline.pipeline.schema_document import NEVER, SAME, SchemaDocument, UnknownReferenceError, edges
from trunkline.pipeline.schema_engine import (
    MAX_REPEATS,
    Predicate,
    SchemaError,
    compile_engine,
    compile_pattern,
    repeats_of,
    work_of,
)
from trunkline.spec.plans import MAX_SCHEMA_BYTES

Problem = tuple[str, str, str]
"""A path inside the schema such as ``properties.traits.items[0]``, what is wrong there, how to mend it."""

MAX_DEPTH: Final = 100
"""Levels of one schema as JSON."""
MAX_CHECKS: Final = 20_000
"""Schemas that may have to be asked about one event, each reference counted with all that it leads to."""
MAX_LEVELS: Final = 200
"""Schemas in schemas, references followed."""
MAX_PATTERN_WORK: Final = 250_000
"""Microseconds, about, to compile all patterns of one schema, which is done at once when its first event comes."""
MAX_PROBLEMS: Final = 20
TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
DRAFT_7: Final = "http://json-schema.org/draft-07/schema"

_BEING_COUNTED: Final = (1, 0)
_BEING_LOOKED_AT: Final = (0, 0, 0)
_WATCHED: Final = frozenset(["$ref", "$id", "pattern", "patternProperties"])
_SCALARS: Final = frozenset([str, int, float, bool, type(None)])
_LOOK_AROUNDS: Final = ("(?=", "(?!", "(?<=", "(?<!")


def check_schema(schema: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a rule's schema; empty if nothing is. At most 20 problems."""
    return examine_schema(schema)[0]


def examine_schema(schema: Mapping[str, Any]) -> tuple[list[Problem], Predicate | None]:
    """As :func:`check_schema`; and whether a value fits the schema, if nothing is wrong."""
    if _is_plain(schema):
        try:
            return [], compile_engine(schema)
        except SchemaError:
            pass  # what is wrong is said in better words below
    problem = _oversize(schema)
    if problem is not None:
        return [problem], None
    document = SchemaDocument(schema)
    places = _places(document)
    problems = _draft_problems(schema)
    if (work := sum(map(work_of, _patterns(places)))) > MAX_PATTERN_WORK:
        reason = f"its patterns together are {work // MAX_PATTERN_WORK + 1} times as much work as is allowed"
        return [*problems, ("", reason, "Use fewer patterns, or fewer counted repeats such as {1,1000} in them")], None
    for path, inner in places.values():
        problems += _schema_problems(document, path, inner)
        if len(problems) >= MAX_PROBLEMS:
            return problems[:MAX_PROBLEMS], None
    problems = problems or _cost_problems(document, places)
    if problems:
        return problems, None
    try:
        return [], compile_engine(schema)
    except SchemaError as error:
        mend = "Write it as JSON Schema's draft 7 has it"
        return [(written(error.path), str(error)[:300], mend)], None


def written(path: Iterable[str | int]) -> str:
    """A path as people write it: ``a.b[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


class _OddError(Exception):
    """Nothing need be wrong, but it takes a closer look to tell."""


class _Survey:
    """One quick look at everything in a schema, each object once. Whatever could be against the limits is odd."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._known: dict[int, tuple[int, int, int]] = {}
        self.patterns: set[str] = set()
        self.has_names = self.has_references = False

    def look(self, value: Any, level: int) -> tuple[int, int, int]:
        """For an object or a list: how many values are in it, how many at most may be schemas that are asked,
        references followed, and how deep it goes with these. Raises _OddError."""
        known = self._known.get(id(value))
        if known is not None:
            if known is _BEING_LOOKED_AT:
                raise _OddError
            return known
        if level > MAX_DEPTH:
            raise _OddError
        self._known[id(value)] = _BEING_LOOKED_AT
        values = schemas = 1
        levels = 0
        inside: Iterable[Any] = value
        if type(value) is dict:
            inside = value.values()
            if not _WATCHED.isdisjoint(value):
                schemas, levels = self._note(value, level)
        for inner in inside:
            kind = type(inner)
            if kind is dict or kind is list:
                number, asked_inside, below = self.look(inner, level + 1)
                values += number
                schemas += asked_inside
                levels = max(levels, below)
            elif kind in _SCALARS:
                values += 1
                schemas += kind is bool
            else:
                raise _OddError
        if values > MAX_SCHEMA_BYTES or schemas > MAX_CHECKS or levels >= MAX_DEPTH:
            raise _OddError
        known = self._known[id(value)] = values, schemas, levels + 1
        return known

    def _note(self, schema: Mapping[str, Any], level: int) -> tuple[int, int]:
        """Schemas and levels, as :meth:`look` has them, that a reference leads to."""
        self.has_names = self.has_names or "$id" in schema
        if isinstance(pattern := schema.get("pattern"), str):
            self.patterns.add(pattern)
        if isinstance(by_pattern := schema.get("patternProperties"), dict):
            self.patterns.update(by_pattern)
        if "$ref" not in schema:
            return 1, 0
        self.has_references = True
        try:
            target = self._document.resolve(schema)
        except UnknownReferenceError as error:
            raise _OddError from error
        if type(target) is not dict:
            raise _OddError
        _, schemas, levels = self.look(target, level + 1)
        return schemas + 1, levels


def _is_plain(schema: Mapping[str, Any]) -> bool:
    """Whether the schema is certainly within all limits, so that the engine alone has to be asked. Most are, and to
    tell takes a tenth of the time of the checks that know where and why one is not."""
    if type(schema) is not dict or _draft_problems(schema):
        return False
    survey = _Survey(SchemaDocument(schema))
    try:
        survey.look(schema, 1)
        size_bytes = len(msgspec.json.encode(schema))
    except (_OddError, UnicodeEncodeError, TypeError):
        return False
    return (
        size_bytes <= MAX_SCHEMA_BYTES
        and not (survey.has_names and survey.has_references)
        and sum(map(work_of, survey.patterns)) <= MAX_PATTERN_WORK
        and not any("{" in pattern and repeats_of(pattern) > MAX_REPEATS for pattern in survey.patterns)
    )


def _oversize(schema: Mapping[str, Any]) -> Problem | None:
    open_values: list[tuple[Any, tuple[str | int, ...]]] = [(schema, ())]
    count = 0
    while open_values:
        value, path = open_values.pop()
        count += 1
        if count > MAX_SCHEMA_BYTES:
            return "", f"more than {MAX_SCHEMA_BYTES} values", "Make it smaller, such as by `definitions` and `$ref`"
        if len(path) > MAX_DEPTH:
            return written(path), f"nested deeper than {MAX_DEPTH} levels", "Flatten it, such as by `definitions`"
        if isinstance(value, Mapping):
            open_values += [(inner, (*path, str(key))) for key, inner in value.items()]
        elif isinstance(value, list):
            open_values += [(inner, (*path, index)) for index, inner in enumerate(value)]
        elif not isinstance(value, str | int | float | bool | None):
            return written(path), f"{type(value).__name__} is no value of JSON", "Put it in quotes"
    try:
        size_bytes = len(msgspec.json.encode(schema))
    except UnicodeEncodeError:
        return "", "half of a surrogate pair stands alone", "Write the character itself, or remove it"
    if size_bytes > MAX_SCHEMA_BYTES:
        reason = f"{size_bytes} bytes as JSON; {MAX_SCHEMA_BYTES} are the most for one schema"
        return "", reason, "Make it smaller, such as by `definitions` and `$ref`"
    return None


Places = dict[int, tuple[tuple[str | int, ...], Any]]
"""Of each schema that there is or that a reference leads to: where it was found first."""


def _places(document: SchemaDocument) -> Places:
    places: Places = {}
    open_schemas: list[tuple[tuple[str | int, ...], Any]] = [((), document.root)]
    while open_schemas:
        path, schema = open_schemas.pop()
        if id(schema) in places or not isinstance(schema, Mapping):
            continue
        places[id(schema)] = (path, schema)
        open_schemas += [((*path, *edge.path), edge.schema) for edge in reversed([*edges(schema)])]
        if isinstance(schema.get("$ref"), str):
            try:
                open_schemas.append(((*path, "$ref"), document.resolve(schema)))
            except UnknownReferenceError:
                continue
    return places


def _draft_problems(schema: Mapping[str, Any]) -> list[Problem]:
    draft = schema.get("$schema", DRAFT_7)
    if isinstance(draft, str) and draft.rstrip("#").replace("https:", "http:") == DRAFT_7:
        return []
    return [("$schema", "only draft 7 of JSON Schema is known", f"Write {DRAFT_7}#, or remove it")]


def _schema_problems(document: SchemaDocument, path: tuple[str | int, ...], schema: Mapping[str, Any]) -> list[Problem]:
    """What is wrong in one schema itself, in words that its own engine would not find."""
    problems = []
    if "$ref" in schema:
        try:
            document.resolve(schema)
        except UnknownReferenceError as error:
            reason = f"{str(schema['$ref'])[:100]!r} can't be followed: {error}"
            mend = "Put the schema below `definitions` and refer to it with `#/definitions/NAME`; nothing is fetched"
            problems.append((written((*path, "$ref")), reason, mend))
        return problems
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in TYPES:
            reason = f"there is no type {str(name)[:60]!r}"
            problems.append((written((*path, "type")), reason, f"Use one of: {', '.join(TYPES)}"))
    if "pattern" in schema:
        problems += _pattern_problems((*path, "pattern"), schema["pattern"])
    by_pattern = schema.get("patternProperties")
    if isinstance(by_pattern, Mapping):
        for pattern in by_pattern:
            problems += _pattern_problems((*path, "patternProperties", pattern), pattern)
    return problems


def _patterns(places: Places) -> set[str]:
    found: set[str] = set()
    for _, schema in places.values():
        by_pattern = schema.get("patternProperties")
        of_names = by_pattern if isinstance(by_pattern, Mapping) else ()
        found.update(pattern for pattern in (schema.get("pattern"), *of_names) if isinstance(pattern, str))
    return found


def _pattern_problems(path: tuple[str | int, ...], pattern: Any) -> list[Problem]:
    if not isinstance(pattern, str):
        return [(written(path), "text is wanted here", "Put the pattern in quotes")]
    try:
        compile_pattern(pattern)
    except SchemaError as error:
        if any(mark in pattern for mark in _LOOK_AROUNDS):
            mend = "Look-arounds are not in RE2: leave them out, or use `not` with a pattern of its own"
        elif "(?i" in pattern:
            mend = "Flags are not known: write both letters, such as [Aa]"
        else:
            mend = "Write an expression of RE2: no look-arounds, no references to groups, few repeats"
        return [(written(path), f"{pattern[:60]!r} {error}", mend)]
    return []


class _Costs:
    """How many schemas one schema can ask, references counted with what they lead to; those back into a schema that
    is being counted once."""

    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._known: dict[int, tuple[int, int]] = {}
        self.is_recursive = False

    def count(self, schema: Any, level: int = 1) -> tuple[int, int]:
        """The number, at most MAX_CHECKS + 1, and the levels of schemas in schemas. Both stand for too many of them
        once MAX_LEVELS is passed."""
        if id(schema) in self._known:
            self.is_recursive = self.is_recursive or self._known[id(schema)] == _BEING_COUNTED
            return self._known[id(schema)]
        self._known[id(schema)] = _BEING_COUNTED
        total = levels = 1
        for _, inner in asked(self._document, schema):
            if level > MAX_LEVELS:
                return total, MAX_LEVELS + 1
            number, below = self.count(inner, level + 1)
            total = min(total + number, MAX_CHECKS + 1)
            levels = max(levels, below + 1)
        self._known[id(schema)] = total, levels
        return total, levels


def asked(document: SchemaDocument, schema: Any) -> list[tuple[str, Any]]:
    """The schemas that one schema asks, and the label of what each looks at. Raises UnknownReferenceError."""
    if isinstance(schema, Mapping) and "$ref" in schema:
        return [(SAME, document.resolve(schema))]
    return [(edge.label, edge.schema) for edge in edges(schema) if edge.label != NEVER]


def _cost_problems(document: SchemaDocument, places: Places) -> list[Problem]:
    if len(places) <= MAX_CHECKS and not any("$ref" in schema for _, schema in places.values()):
        return []
    endless = _endless(document, places)
    if endless is not None:
        mend = "Let a schema refer to itself only for what is inside the value, as in `properties` or `items`"
        return [(written(endless), "a `$ref` that leads back to itself without end", mend)]
    costs = _Costs(document)
    number, levels = costs.count(document.root)
    if levels > MAX_LEVELS:
        return [
            ("", f"schemas in schemas, more than {MAX_LEVELS} levels of them", "Flatten it: shorter ways of `$ref`")
        ]
    if number > MAX_CHECKS:
        reason = f"an event may have to be checked against more than {MAX_CHECKS} schemas"
        return [("", reason, "Take out alternatives, or references that lead to references")]
    if costs.is_recursive and (doubled := _doubled(document, places)) is not None:
        reason = "refers to itself in two ways for the same value, so the time doubles with each level of an event"
        return [(written(doubled), reason, "Refer to it once for each property or item")]
    return []


def _endless(document: SchemaDocument, places: Places) -> tuple[str | int, ...] | None:
    """Where a schema asks itself about the same value."""
    done: set[int] = set()
    for path, top in places.values():
        open_ids: set[int] = set()
        steps: list[tuple[Any, bool]] = [(top, False)]
        while steps:
            schema, is_left = steps.pop()
            if is_left:
                open_ids.discard(id(schema))
                done.add(id(schema))
                continue
            if id(schema) in open_ids:
                return path
            if id(schema) in done or not isinstance(schema, Mapping):
                continue
            open_ids.add(id(schema))
            steps.append((schema, True))
            steps += [(inner, False) for label, inner in asked(document, schema) if label == SAME]
    return None


def _doubled(document: SchemaDocument, places: Places) -> tuple[str | int, ...] | None:
    """Where a schema that contains itself asks about one value inside in two ways, both of which lead back to it."""
    component = _components(document, places)
    for path, top in places.values():
        inside: list[tuple[int, str]] = []
        open_schemas = [top]
        while open_schemas:
            schema = open_schemas.pop()
            for label, inner in asked(document, schema):
                if component.get(id(inner), -1) != component[id(top)]:
                    continue
                if label == SAME:
                    open_schemas.append(inner)
                    continue
                if any(_overlap(seen, (id(schema), label)) for seen in inside):
                    return path
                inside.append((id(schema), label))
    return None


def _overlap(one: tuple[int, str], other: tuple[int, str]) -> bool:
    """Whether two edges can look at the same value. In one schema, "all other keys" are not those that are named."""
    is_same_schema = one[0] == other[0]
    first, second = sorted((one[1], other[1]))
    if first[0] != second[0]:
        return False
    if first == second:
        return not is_same_schema or first in ("p~", "i*")
    if is_same_schema:
        return ("p~" in (first, second) and "p*" not in (first, second)) or first == "i*"
    return not (first[1] == second[1] == ":")


def _components(document: SchemaDocument, places: Places) -> dict[int, int]:
    """Number of the strongly connected part that each schema is in; parts of one schema that does not ask itself have
    a number of their own too (Tarjan's algorithm without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    part: dict[int, int] = {}
    waiting: list[int] = []
    for _, top in places.values():
        if id(top) in index:
            continue
        calls: list[tuple[Any, list[Any]]] = []
        _open(top, document, index, low, waiting, calls)
        while calls:
            schema, rest = calls[-1]
            if rest:
                inner = rest.pop()
                if id(inner) not in index:
                    _open(inner, document, index, low, waiting, calls)
                elif id(inner) not in part:
                    low[id(schema)] = min(low[id(schema)], index[id(inner)])
                continue
            calls.pop()
            if calls:
                outer = id(calls[-1][0])
                low[outer] = min(low[outer], low[id(schema)])
            if low[id(schema)] == index[id(schema)]:
                while True:
                    member = waiting.pop()
                    part[member] = index[id(schema)]
                    if member == id(schema):
                        break
    return part


def _open(
    schema: Any,
    document: SchemaDocument,
    index: dict[int, int],
    low: dict[int, int],
    waiting: list[int],
    calls: list[tuple[Any, list[Any]]],
) -> None:
    index[id(schema)] = low[id(schema)] = len(index)
    waiting.append(id(schema))
    inner = [one for _, one in asked(document, schema) if isinstance(one, Mapping)]
    calls.append((schema, inner))
