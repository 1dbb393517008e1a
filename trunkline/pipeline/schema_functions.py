"""One Python function for a rule's JSON Schema and the names that it plans: whether an event is certainly fine.

::

    properties: {type: object, properties: {total: {type: number}}, required: [total]}

    def predicate(event):
        try:
            if event.properties is missing or (
                type(v1 := event.properties) is dict
                and (
                    (v6 := type(v5 := v1["total"])) is int or v6 is float
                    if len(v1) == 1
                    else v1.keys() <= s2 and ((v4 := type(v3 := v1["total"])) is int or v4 is float)
                )
            ):
                return True
            return False
        except error:
            return False

True means that the schema's engine would say so too, and that no name is unplanned; False means "ask them". Schemas
with keywords that are rare in plans get no function. As in :mod:`trunkline.fql.generator` no source text is made
anywhere: what a user wrote enters as constants of ``ast`` nodes, which are objects to the compiler.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from types import CellType, CodeType, FunctionType
from typing import Any, Final, NamedTuple, TypeVar

from msgspec import UNSET

from trunkline import syntax
from trunkline.pipeline.event_head import OBJECTS, EventHead
from trunkline.pipeline.planned_names import PlannedNames
from trunkline.pipeline.schema_document import SchemaDocument
from trunkline.pipeline.schema_engine import compile_pattern
from trunkline.pipeline.schema_formats import FORMATS

MAX_TESTS: Final = 150
"""Values that one function looks at, and what it asks of them. Generating takes some 60 us for each, and events wait
meanwhile."""
MAX_LEVELS: Final = 10
"""Objects in objects: each nests the code deeper, and Python's compiler has its limits."""
_MAX_BOUND: Final = 1 << 53
"""Integers up to here are the same number for every engine."""


Check = Callable[[Any], bool]
_Shared = TypeVar("_Shared", CodeType, frozenset[str])

_KNOWN_FIELDS: Final = frozenset(EventHead.__struct_fields__)
_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "array": frozenset(["list"]),
    "boolean": frozenset(["bool"]),
    "integer": frozenset(["int"]),
    "null": frozenset(["none"]),
    "number": frozenset(["int", "float"]),
    "object": frozenset(["dict"]),
    "string": frozenset(["str"]),
}
"""Python's types of decoded JSON. A float such as 1.0 is an integer to JSON Schema: the engine is asked about it."""
_ALL_TYPES: Final = frozenset().union(*_TYPES.values())
_NUMBERS: Final = _TYPES["number"]
_CELLS: Final[Mapping[str, CellType]] = {
    name: CellType(value)
    for name, value in {
        "type": type,
        "len": len,
        "dict": dict,
        "list": list,
        "str": str,
        "int": int,
        "float": float,
        "bool": bool,
        "none": type(None),
        "missing": UNSET,
        "error": (KeyError, TypeError, AttributeError, ValueError),
    }.items()
}
"""What the functions of all rules share. What is a rule's own is in cells too, not in globals: looking there takes
longer, and more code."""
_NO_GLOBALS: Final[dict[str, Any]] = {"__builtins__": {}}
_IGNORED: Final = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "id",
        "title",
        "description",
        "default",
        "examples",
        "readOnly",
        "writeOnly",
        "definitions",
        "labels",
    ]
)
_BOUNDS: Final[Mapping[str, str]] = {
    "minimum": ">=",
    "maximum": "<=",
    "exclusiveMinimum": ">",
    "exclusiveMaximum": "<",
}
_SIZES: Final[Mapping[str, tuple[str, str]]] = {
    "minLength": ("str", ">="),
    "maxLength": ("str", "<="),
    "minItems": ("list", ">="),
    "maxItems": ("list", "<="),
    "minProperties": ("dict", ">="),
    "maxProperties": ("dict", "<="),
}
_KNOWN: Final = frozenset(
    ["type", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern", "format", "allOf"]
).union(_BOUNDS, _SIZES)
_MAY_SAY: Final = _KNOWN.union(_IGNORED)
_TESTED: Final = _KNOWN - {"type", "properties"}
_KNOWN_OF_EVENTS: Final = _IGNORED.union(["type", "properties", "required", "additionalProperties", "allOf"])
_STARTSWITH: Final = "startswith"
_PLAIN_BEGINNING: Final = re.compile(r"\^([A-Za-z0-9 _:/-]+)")


class _UnsupportedError(Exception):
    """The schema says something that is left to the engine."""


def generate_check(document: SchemaDocument, names: Mapping[str, PlannedNames], *, of_head: bool) -> Check | None:
    """None for a schema that is left to its engine. The schema is one that the engine takes.

    ``names``: what is planned below fields of the event, where that matters. ``of_head``: the function takes an
    :class:`EventHead`, not the event as a mapping. The function never raises for either.
    """
    try:
        writer = _Writer(document)
        test = writer.event(names, of_head=of_head)
    except _UnsupportedError:
        return None
    return writer.function(syntax.checked_predicate("event", test, writer.names))


class _Place(NamedTuple):
    """Where a property is read, and how it is told whether it is there."""

    read: ast.expr
    is_there: ast.expr
    is_absent: ast.expr


def _field_of_head(field: str) -> _Place:
    read = syntax.attribute(syntax.name("event"), field)
    missing = syntax.name("missing")
    return _Place(read, syntax.compared(read, "is not", missing), syntax.compared(read, "is", missing))


def _key_of(variable: str, key: str) -> _Place:
    subject, name = syntax.name(variable), syntax.constant(key)
    is_there, is_absent = syntax.compared(name, "in", subject), syntax.compared(name, "not in", subject)
    return _Place(syntax.item(subject, name), is_there, is_absent)


class _Writer:
    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._cells = dict(_CELLS)
        self._names = 0
        self._tests = 0
        self._objects = 0
        """Inside each other in the code that is being written."""
        self._functions: dict[tuple[int, ...], str] = {}
        """Those of items, by their schemas and names."""

    @property
    def names(self) -> Collection[str]:
        """What code may name beside its own variables."""
        return self._cells.keys()

    def function(self, code: CodeType) -> Check:
        closure = tuple(self._cells[name] for name in code.co_freevars)
        return FunctionType(_shared(code), _NO_GLOBALS, "predicate", None, closure)

    def event(self, names: Mapping[str, PlannedNames], *, of_head: bool) -> ast.expr:
        """The test of a whole event, which is an object."""
        schemas = self._together([self._document.root])
        self._count(len(schemas))
        named, required, closed = _members(schemas)
        for schema in schemas:
            if closed or not _types_of(schema) >= _TYPES["object"] or not _KNOWN_OF_EVENTS.issuperset(schema):
                raise _UnsupportedError
        tests: list[ast.expr] = []
        for field in dict.fromkeys([*named, *required]):
            if of_head and field not in _KNOWN_FIELDS:
                raise _UnsupportedError
            place = _field_of_head(field) if of_head else _key_of("event", field)
            if of_head and field in OBJECTS:
                tests += self._opaque(place, named.get(field, ()), is_required=field in required)
            else:
                tests += self._member(place, named.get(field, ()), names.get(field), 1, is_required=field in required)
        return syntax.every(tests) if tests else syntax.constant(value=True)

    def _opaque(self, place: _Place, schemas: Sequence[Any], *, is_required: bool) -> list[ast.expr]:
        """For a field that is an object if it is there; more of it is not decoded."""
        if not all(inner in (True, {}, {"type": "object"}) for inner in schemas):
            raise _UnsupportedError
        return [place.is_there] if is_required else []

    def _member(
        self, place: _Place, schemas: Sequence[Any], names: PlannedNames | None, level: int, *, is_required: bool
    ) -> list[ast.expr]:
        """The tests of a property. One that is absent fails those of its type, or reading it raises KeyError."""
        variable = self._new("v")
        tests = self._value(schemas, variable, place.read, names, level)
        if is_required:
            return tests or [place.is_there]
        return [syntax.any_of([place.is_absent, syntax.every(tests)])] if tests else []

    def _value(
        self, schemas: Sequence[Any], variable: str, read: ast.expr | None, names: PlannedNames | None, level: int
    ) -> list[ast.expr]:
        """The tests of a value, which must all hold. The first puts into the variable what is ``read``, if it is not
        there already."""
        self._count(1)
        if level > MAX_LEVELS:
            raise _UnsupportedError
        together = self._together(schemas)
        for schema in together:
            if not _MAY_SAY.issuperset(schema):
                raise _UnsupportedError
            self._count(len(_TESTED.intersection(schema)))
        types = frozenset.intersection(_ALL_TYPES, *map(_types_of, together))
        tests: list[ast.expr] = []
        for schema in together:
            for choices in _choices(schema):
                types &= {"none", "str"} if None in choices else {"str"}
                tests.append(self._is_chosen(choices, types, variable))
        if not types:
            raise _UnsupportedError
        for kinds, inner in self._by_kind(together, variable, names, level):
            if not inner or not types & kinds:
                continue
            if types <= kinds:
                tests += inner
            else:
                is_other = syntax.negated(self._is_one_of(kinds, syntax.name(variable)))
                tests.append(syntax.any_of([is_other, syntax.every(inner)]))
        it = syntax.name(variable) if read is None else syntax.assigned(variable, read)
        proof = next((test for test in tests if _only_text_passes(test)), None) if types == _TYPES["string"] else None
        if proof is not None:
            tests.remove(proof)
            return [_asked_of(it, proof), *tests]
        if types != _ALL_TYPES:
            return [self._is_one_of(types, it), *tests]
        return [syntax.compared(it, "is not", syntax.name("missing")), *tests] if tests else []

    def _by_kind(
        self, schemas: Sequence[Mapping[str, Any]], variable: str, names: PlannedNames | None, level: int
    ) -> list[tuple[frozenset[str], list[ast.expr]]]:
        """What values of some types must fulfil."""
        it = syntax.name(variable)
        text: list[ast.expr] = []
        number: list[ast.expr] = []
        sizes: dict[str, list[ast.expr]] = {"str": text, "list": [], "dict": []}
        for schema in schemas:
            for keyword, operator in _BOUNDS.items():
                if keyword in schema:
                    bound = syntax.constant(_bound(schema[keyword]))
                    number.append(syntax.compared(it, operator, bound))
            for keyword, (kind, operator) in _SIZES.items():
                if keyword in schema:
                    size = syntax.constant(_bound(schema[keyword]))
                    sizes[kind].append(syntax.compared(syntax.called(syntax.name("len"), it), operator, size))
            if "pattern" in schema:
                text.append(self._matches(schema["pattern"], it))
            if "format" in schema:
                text.append(self._is_of_format(schema["format"], it))
        return [
            (_TYPES["string"], text),
            (_NUMBERS, number),
            (_TYPES["object"], sizes["dict"] + self._members_of(schemas, variable, names, level)),
            (_TYPES["array"], sizes["list"] + self._items_of(schemas, variable, names, level)),
        ]

    def _members_of(
        self, schemas: Sequence[Mapping[str, Any]], variable: str, names: PlannedNames | None, level: int
    ) -> list[ast.expr]:
        named, required, closed = _members(schemas)
        planned: Mapping[str, PlannedNames] = {}
        if names is not None:
            if names.patterns:
                raise _UnsupportedError
            if names.names is not None:
                closed = [*closed, names.names]
            planned = dict(names.inner)
        closed = list(dict.fromkeys(closed))
        members = dict.fromkeys([*named, *required])
        if members or closed:
            self._objects += 1
        objects = self._objects

        def tests_of(needed: Collection[str]) -> list[ast.expr]:
            tests: list[ast.expr] = []
            for key in members:
                place, schemas_of = _key_of(variable, key), named.get(key, ())
                tests += self._member(place, schemas_of, planned.get(key), level + 1, is_required=key in needed)
            return tests

        it = syntax.name(variable)
        keys = syntax.called(syntax.method(it, "keys"))
        tests: list[ast.expr] = [syntax.compared(keys, "<=", self._set(found)) for found in closed]
        before = self._tests
        tests += tests_of(required)
        is_flat = self._objects == objects
        fits_twice = 2 * self._tests - before <= MAX_TESTS
        if not (is_flat and fits_twice and closed == [frozenset(members)]):
            return tests
        # Most events have all that is planned for them. Then nobody needs to ask what is there and what is not.
        is_complete = syntax.compared(syntax.called(syntax.name("len"), it), "==", syntax.constant(len(members)))
        complete = tests_of(members) or [syntax.constant(value=True)]
        return [syntax.choice(is_complete, syntax.every(complete), syntax.every(tests))]

    def _items_of(
        self, schemas: Sequence[Mapping[str, Any]], variable: str, names: PlannedNames | None, level: int
    ) -> list[ast.expr]:
        """One call of a function for all items."""
        inner = [schema["items"] for schema in schemas if "items" in schema]
        if not all(isinstance(one, Mapping | bool) for one in inner):
            raise _UnsupportedError
        if not inner:
            return []
        names_of_items = names.items if names is not None else None
        key = (id(names_of_items), *map(id, inner))
        if key not in self._functions:
            self._functions[key] = self._function_of_items(inner, names_of_items, level + 1)
        function = self._functions[key]
        if not function:
            return []
        return [syntax.called(syntax.name(function), syntax.name(variable))]

    def _function_of_items(self, schemas: Sequence[Any], names: PlannedNames | None, level: int) -> str:
        """Its name; empty if every item is fine."""
        objects = self._objects
        tests = self._value(schemas, "item", None, names, level)
        self._objects = objects
        if not tests:
            return ""
        return self._named("f", self.function(syntax.predicate_of_items(syntax.every(tests), self.names)))

    def _is_chosen(self, choices: Sequence[str | None], types: frozenset[str], variable: str) -> ast.expr:
        it = syntax.name(variable)
        chosen = syntax.compared(it, "in", self._set(frozenset(text for text in choices if text is not None)))
        if types <= {"str"}:
            return chosen
        return syntax.any_of([syntax.compared(it, "is", syntax.constant(None)), chosen])

    def _is_one_of(self, types: frozenset[str], it: ast.expr) -> ast.expr:
        self._count(len(types) - 1)
        found = syntax.called(syntax.name("type"), it)
        if len(types) == 1:
            return syntax.compared(found, "is", syntax.name(*types))
        kind = self._new("v")
        first, *others = sorted(types, reverse=True)
        return syntax.any_of(
            [
                syntax.compared(syntax.assigned(kind, found), "is", syntax.name(first)),
                *(syntax.compared(syntax.name(kind), "is", syntax.name(other)) for other in others),
            ]
        )

    def _matches(self, pattern: str, it: ast.expr) -> ast.expr:
        if (plain := _PLAIN_BEGINNING.fullmatch(pattern)) is not None:
            return syntax.called(syntax.method(it, _STARTSWITH), syntax.constant(plain[1]))
        return syntax.called(syntax.name(self._named("f", compile_pattern(pattern))), it)

    def _is_of_format(self, name: Any, it: ast.expr) -> ast.expr:
        if not isinstance(name, str) or name not in FORMATS or name == "regex":  # the engine's own
            raise _UnsupportedError
        return syntax.called(syntax.name(self._named("f", FORMATS[name])), it)

    def _together(self, schemas: Sequence[Any]) -> list[Mapping[str, Any]]:
        """The schemas and those that look at the same value for them."""
        found: list[Mapping[str, Any]] = []
        open_schemas = list(reversed(schemas))
        while open_schemas:
            schema = open_schemas.pop()
            if schema is True:
                continue
            if not isinstance(schema, Mapping) or len(found) > MAX_TESTS:
                raise _UnsupportedError
            if "$ref" in schema:
                open_schemas.append(self._document.resolve(schema))
                self._count(1)
                continue
            found.append(schema)
            open_schemas += reversed(schema.get("allOf", ()))
        return found

    def _count(self, tests: int) -> None:
        self._tests += tests
        if self._tests > MAX_TESTS:
            raise _UnsupportedError

    def _set(self, members: frozenset[str]) -> ast.expr:
        return syntax.name(self._named("s", _shared(members)))

    def _named(self, kind: str, value: object) -> str:
        """The name of what is no constant of the code."""
        name = self._new(kind)
        self._cells[name] = CellType(value)
        return name

    def _new(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"


@lru_cache(1024)
def _shared(constant: _Shared) -> _Shared:
    """One and the same for all rules that say the same: hundreds of copies would be in nobody's cache."""
    return constant


def _only_text_passes(test: ast.expr) -> bool:
    """Whether whatever else is asked fails, or raises what the function takes for "ask the engine"."""
    return (isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In)) or _is_beginning(test)


def _is_beginning(test: ast.expr) -> bool:
    return isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr == _STARTSWITH


def _asked_of(it: ast.expr, test: ast.expr) -> ast.expr:
    """The same test of another operand."""
    if isinstance(test, ast.Compare):
        return syntax.compared(it, "in", test.comparators[0])
    assert isinstance(test, ast.Call)
    return syntax.called(syntax.method(it, _STARTSWITH), *test.args)


def _choices(schema: Mapping[str, Any]) -> list[Sequence[str | None]]:
    """``enum`` and ``const``, of texts and null."""
    found = [schema["enum"]] if "enum" in schema else []
    if "const" in schema:
        found.append([schema["const"]])
    if not all(value is None or isinstance(value, str) for choices in found for value in choices):
        raise _UnsupportedError
    return found


def _types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    if "type" not in schema:
        return _ALL_TYPES
    names = schema["type"]
    return frozenset().union(*(_TYPES[name] for name in ([names] if isinstance(names, str) else names)))


def _members(
    schemas: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Any]], frozenset[str], list[frozenset[str]]]:
    """The schemas of each property, which ones are required, and what an object is confined to."""
    named: dict[str, list[Any]] = {}
    required: set[str] = set()
    closed: list[frozenset[str]] = []
    for schema in schemas:
        properties = schema.get("properties", {})
        for key, inner in properties.items():
            named.setdefault(key, []).append(inner)
        required.update(schema.get("required", ()))
        rest = schema.get("additionalProperties", True)
        if rest is False:
            closed.append(frozenset(properties))
        elif rest is not True and rest != {}:
            raise _UnsupportedError
    return named, frozenset(required), closed


def _bound(value: float) -> float:
    """A number that is the same for every engine."""
    if isinstance(value, bool) or not -_MAX_BOUND <= value <= _MAX_BOUND:
        raise _UnsupportedError
    return value
