"""The names of properties or traits that a rule's schema plans, compiled to sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from trunkline.pipeline.schema_document import IN_PLACE_MANY, SchemaDocument
from trunkline.pipeline.schema_engine import compile_pattern

Path = tuple[str | int, ...]
_IN_PLACE_ONE: Final = ("if", "then", "else")
_NAMING: Final = frozenset(["properties", "patternProperties", "items"])
_LEADING_ON: Final = frozenset(["$ref", "dependencies"]).union(_NAMING, IN_PLACE_MANY, _IN_PLACE_ONE)
"""Keywords without which a schema says nothing of names; most have none."""


class PlannedNames:
    """What one object or list in an event may have. Where a schema names no properties, all names are planned."""

    __slots__ = ("inner", "items", "names", "patterns")

    def __init__(self) -> None:
        self.names: frozenset[str] | None = None
        self.patterns: tuple[Callable[[Any], bool], ...] = ()
        self.inner: tuple[tuple[str, PlannedNames], ...] = ()
        self.items: PlannedNames | None = None

    def has_all(self, value: Any) -> bool:
        """Whether there is no name in the value that is not planned."""
        if isinstance(value, dict):
            if self.names is not None and not value.keys() <= self.names and any(self._strangers(value)):
                return False
            for name, inner in self.inner:
                if name in value and not inner.has_all(value[name]):
                    return False
        elif self.items is not None and isinstance(value, list):
            for item in value:
                if not self.items.has_all(item):
                    return False
        return True

    def unplanned(self, value: Any, path: Path = ()) -> list[Path]:
        """The paths of what is not planned."""
        found: list[Path] = []
        self._collect(value, path, found)
        return found

    def _collect(self, value: Any, path: Path, found: list[Path]) -> None:
        if isinstance(value, dict):
            if self.names is not None and not value.keys() <= self.names:
                found += [(*path, name) for name in self._strangers(value)]
            for name, inner in self.inner:
                if name in value:
                    inner._collect(value[name], (*path, name), found)
        elif self.items is not None and isinstance(value, list):
            for index, item in enumerate(value):
                self.items._collect(item, (*path, index), found)

    def _strangers(self, value: Mapping[str, Any]) -> Iterator[str]:
        names = self.names or frozenset()
        for name in value:
            if name not in names and not any(matches(name) for matches in self.patterns):
                yield name


def compile_names(document: SchemaDocument, key: str) -> PlannedNames | None:
    """The names below ``key`` (``properties`` or ``traits``) of an event; None if the schema leaves them all open."""
    builder = _Builder(document)
    top = builder.node([document.root])
    return next((inner for name, inner in top.inner if name == key), None)


class _Builder:
    def __init__(self, document: SchemaDocument) -> None:
        self._document = document
        self._known: dict[frozenset[int], PlannedNames] = {}

    def node(self, schemas: list[Any]) -> PlannedNames:
        """For a value that all these schemas look at. Schemas that contain themselves make names that do."""
        together = self._together(schemas)
        key = frozenset(together)
        if key in self._known:
            return self._known[key]
        node = self._known[key] = PlannedNames()
        named: dict[str, list[Any]] = {}
        patterns: list[str] = []
        items: list[Any] = []
        for schema in together.values():
            properties = schema.get("properties")
            if isinstance(properties, Mapping):
                node.names = node.names or frozenset()
                for name, inner in properties.items():
                    named.setdefault(name, []).append(inner)
            patterns += schema.get("patternProperties", ())
            inside = schema.get("items")
            items += inside if isinstance(inside, list) else [inside] if inside is not None else []
        if node.names is not None or patterns:
            node.names = frozenset(named)
        node.patterns = tuple(compile_pattern(pattern) for pattern in dict.fromkeys(patterns))
        node.inner = tuple((name, self.node(inner)) for name, inner in named.items() if self._says(inner))
        node.items = self.node(items) if self._says(items) else None
        return node

    def _says(self, schemas: list[Any]) -> bool:
        """Whether the schemas name anything, right there or in items and properties."""
        if not any(isinstance(schema, dict | Mapping) and not _LEADING_ON.isdisjoint(schema) for schema in schemas):
            return False
        return not all(map(_NAMING.isdisjoint, self._together(schemas).values()))

    def _together(self, schemas: list[Any]) -> dict[int, Mapping[str, Any]]:
        """The schemas and those that look at the same value for them."""
        found: dict[int, Mapping[str, Any]] = {}
        open_schemas = schemas[::-1]
        while open_schemas:
            schema = open_schemas.pop()
            if not isinstance(schema, dict | Mapping) or id(schema) in found:
                continue
            if "$ref" in schema:
                open_schemas.append(self._document.resolve(schema))
                continue
            found[id(schema)] = schema
            if _LEADING_ON.isdisjoint(schema):
                continue
            for keyword in IN_PLACE_MANY:
                open_schemas += reversed(schema.get(keyword, ()))
            open_schemas += [schema[keyword] for keyword in _IN_PLACE_ONE if keyword in schema]
            open_schemas += schema.get("dependencies", {}).values()
        return found
