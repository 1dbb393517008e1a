"""One JSON Schema (draft 7) as a graph: its subschemas, and where each ``$ref`` leads.

References lead to places in the same document only. Nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

IN_PLACE_ONE: Final = ("not", "if", "then", "else")
IN_PLACE_MANY: Final = ("allOf", "anyOf", "oneOf")
"""Keywords whose schemas look at the same value as the schema that has them."""

_HOLDERS: Final = frozenset(
    [
        "definitions",
        "dependencies",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "items",
        "contains",
    ]
).union(IN_PLACE_ONE, IN_PLACE_MANY)
"""Keywords without which a schema has no others in it; most have none."""

SAME: Final = ""
"""The label of an edge to a schema that looks at the same value."""
NAMES: Final = "n"
NEVER: Final = "-"
"""Labels of edges to schemas of an object's keys, and to definitions, which look at nothing by themselves."""


class Edge(NamedTuple):
    """From a schema to one in it. ``path``: keys and indexes; ``label``: which values the inner one looks at:
    ``SAME``, ``p:name``, ``p~`` (keys by pattern), ``p*`` (all other keys), ``i:0``, ``i+`` (all later items), ``i*``
    (any item), ``NAMES``, ``NEVER``."""

    path: tuple[str | int, ...]
    label: str
    schema: Any


class UnknownReferenceError(Exception):
    """A ``$ref`` to nothing in this document."""


def edges(schema: Any) -> Iterator[Edge]:
    """The schemas right inside one. Beside ``$ref`` only definitions count, as draft 7 has it."""
    if not isinstance(schema, Mapping) or _HOLDERS.isdisjoint(schema):
        return
    yield from _members(schema, "definitions", lambda _: NEVER)
    if "$ref" in schema:
        return
    for keyword in IN_PLACE_ONE:
        if keyword in schema:
            yield Edge((keyword,), SAME, schema[keyword])
    for keyword in IN_PLACE_MANY:
        branches = schema.get(keyword)
        if isinstance(branches, list):
            yield from (Edge((keyword, index), SAME, branch) for index, branch in enumerate(branches))
    for edge in _members(schema, "dependencies", lambda _: SAME):
        if not isinstance(edge.schema, list):
            yield edge
    yield from _members(schema, "properties", lambda name: f"p:{name}")
    yield from _members(schema, "patternProperties", lambda _: "p~")
    if "additionalProperties" in schema:
        yield Edge(("additionalProperties",), "p*", schema["additionalProperties"])
    if "propertyNames" in schema:
        yield Edge(("propertyNames",), NAMES, schema["propertyNames"])
    items = schema.get("items")
    if isinstance(items, list):
        yield from (Edge(("items", index), f"i:{index}", item) for index, item in enumerate(items))
        if "additionalItems" in schema:
            yield Edge(("additionalItems",), "i+", schema["additionalItems"])
    elif "items" in schema:
        yield Edge(("items",), "i*", items)
    if "contains" in schema:
        yield Edge(("contains",), "i*", schema["contains"])


def _members(schema: Mapping[str, Any], keyword: str, label: Any) -> Iterator[Edge]:
    members = schema.get(keyword)
    if isinstance(members, Mapping):
        yield from (Edge((keyword, name), label(name), inner) for name, inner in members.items())


class SchemaDocument:
    """A schema, and what its references mean. It must not be changed while this object lives."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self._bases: dict[int, str] = {}
        self._targets: dict[str, Any] = {}
        self._resolved: dict[int, Any] = {}
        self._followed: dict[tuple[str, str], Any] = {}

    def _index(self, top: Any, base: str) -> None:
        """Note under which names the schemas from ``top`` on can be meant. The first one of a name has it."""
        open_schemas: list[tuple[Any, str]] = [(top, base)]
        while open_schemas:
            schema, base = open_schemas.pop()
            if not isinstance(schema, Mapping) or id(schema) in self._bases:
                continue
            name = schema.get("$id")
            if isinstance(name, str) and "$ref" not in schema:
                document, fragment = urldefrag(_join(base, name))
                if fragment:
                    self._targets.setdefault(f"{document}#{fragment}", schema)
                else:
                    self._targets.setdefault(document, schema)
                    base = document
            self._bases[id(schema)] = base
            open_schemas += [(edge.schema, base) for edge in edges(schema)]

    def resolve(self, schema: Mapping[str, Any]) -> Any:
        """What the ``$ref`` of one of the document's schemas leads to. Raises UnknownReferenceError."""
        known = self._resolved.get(id(schema))
        if known is None:
            known = self._resolved[id(schema)] = self._follow(schema)
        return known

    def _follow(self, schema: Mapping[str, Any]) -> Any:
        if not self._targets:
            self._targets[""] = self.root
            self._index(self.root, "")
        reference = schema["$ref"]
        if not isinstance(reference, str):
            raise UnknownReferenceError("not text")
        base = self._bases.get(id(schema), "")
        known = self._followed.get((base, reference))
        if known is None:
            known = self._followed[base, reference] = self._find(base, reference)
        return known

    def _find(self, base: str, reference: str) -> Any:
        document, fragment = urldefrag(_join(base, reference))
        fragment = unquote(fragment)
        if f"{document}#{fragment}" in self._targets:
            return self._targets[f"{document}#{fragment}"]
        if document not in self._targets:
            raise UnknownReferenceError("it leads out of the schema")
        target = self._targets[document]
        if fragment:
            if not fragment.startswith("/"):
                raise UnknownReferenceError("no $id has this name")
            for token in fragment[1:].split("/"):
                target = _step(target, token.replace("~1", "/").replace("~0", "~"))
        if not isinstance(target, Mapping | bool):
            raise UnknownReferenceError("there is no schema")
        self._index(target, document)
        return target


def _join(base: str, reference: str) -> str:
    return base + reference if reference.startswith("#") else urljoin(base, reference)


def _step(value: Any, token: str) -> Any:
    if isinstance(value, Mapping) and token in value:
        return value[token]
    if isinstance(value, list) and token.isdecimal() and token.isascii() and int(token) < len(value):
        return value[int(token)]
    raise UnknownReferenceError("there is nothing at this place")
