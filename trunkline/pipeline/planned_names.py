"""The names of properties or traits that a rule's schema plans, compiled to sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from trunkline.pipeline.schema_document import IN_PLACE_MANY, SchemaDocument
from trunkline.pipeline.schema_engine import compile_pattern

Path = tuple[str | int, ...]
MAX_CHARACTERS_BELOW: Final = 64 << 10
"""Of all paths to unplanned names that are deeper in an event than its properties or traits. What has more of them is
unplanned as a whole: an event with 32 KB of names in 150 levels would become one of a megabyte."""
_CHARACTERS_OF_A_PATH: Final = 48
"""In time, what a path costs however short it is."""
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
            if self.names is not None and not value.keys() <= self.names and self._strangers(value):
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
        """The paths of what is not planned. Of a member with too much of that in it, the path of the whole member."""
        found: list[Path] = []
        if not isinstance(value, dict):
            self._collect(value, path, 0, found, _Room())
            return found
        if self.names is not None and not value.keys() <= self.names:
            found += [(*path, name) for name in self._strangers(value)]
        room = _Room()
        for name, inner in self.inner:
            if name in value:
                below: list[Path] = []
                characters_left = room.characters_left
                try:
                    inner._collect(value[name], (*path, name), len(name), below, room)
                except _FullError:
                    below = [(*path, name)]
                    room.characters_left = characters_left
                found += below
        return found

    def _collect(self, value: Any, path: Path, path_characters: int, found: list[Path], room: _Room) -> None:
        if isinstance(value, dict):
            if self.names is not None and not value.keys() <= self.names:
                for name in self._strangers(value):
                    room.take(path_characters + len(name))
                    found.append((*path, name))
            for name, inner in self.inner:
                if name in value:
                    inner._collect(value[name], (*path, name), path_characters + len(name) + 1, found, room)
        elif self.items is not None and isinstance(value, list):
            for index, item in enumerate(value):
                self.items._collect(item, (*path, index), path_characters + 2, found, room)

    def _strangers(self, value: Mapping[str, Any]) -> list[str]:
        names = self.names or frozenset()
        strangers = [name for name in value if name not in names]
        if not self.patterns:
            return strangers
        return [name for name in strangers if not any(matches(name) for matches in self.patterns)]


class _FullError(Exception):
    """There are too many paths, or too long ones."""


class _Room:
    """For the paths of one event that go deeper than its properties: each is written into the event."""

    __slots__ = ("characters_left",)

    def __init__(self) -> None:
        self.characters_left = MAX_CHARACTERS_BELOW

    def take(self, characters: int) -> None:
        self.characters_left -= characters + _CHARACTERS_OF_A_PATH
        if self.characters_left < 0:
            raise _FullError


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
