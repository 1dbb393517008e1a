"""The ``transformations`` of a workspace's file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, Final

from trunkline.secrets import is_masked
from trunkline.spec.transformations import PropertyHash, PropertyValue, Transformation
from trunkline.workspace import vocabulary
from trunkline.workspace.model import Destination
from trunkline.workspace.problem import capitalised
from trunkline.workspace.references import References
from trunkline.workspace.section_reader import ReadSection, Refuse, SectionReader, plain
from trunkline.workspace.transformation_rules import Fault, faults, same_condition
from trunkline.workspace.yaml_tree import At, Broken, Node, items, step

ReadSlug = Callable[[At, Mapping[str, At]], str | None]
TextOrReference = Callable[[At, tuple[str, ...]], str | None]

_MAX_NAME_CHARACTERS: Final = 200
_SET: Final = "set: [{paths: [properties.channel], value: web}]"
_HASH: Final = "hash: {paths: [properties.email], algorithm: sha256, encoding: hex}"


class TransformationsSection(SectionReader):
    """``section`` reads a mapping against its vocabulary, ``slug`` the slug of one, ``text`` a text that may be a
    reference; ``refuse`` reports a place, a reason and a mend."""

    def __init__(self, section: ReadSection, slug: ReadSlug, text: TextOrReference, refuse: Refuse) -> None:
        super().__init__(section, self._refuse_part)
        self._slug = slug
        self._secret_text = text
        self._report = refuse
        self._is_whole = True

    def transformations(
        self, at: At | None, sources: Collection[str], destinations: Sequence[Destination], storage: Collection[str]
    ) -> tuple[Transformation, ...]:
        """``sources``: slugs; ``storage``: slugs of destinations that get events as they are. What is wrong is reported
        and left out."""
        if at is None:
            return ()
        if not isinstance(at.node.value, list | Broken):
            self._refuse(at, "a list is wanted here", "Write each on a line of its own after a hyphen")
        found: list[Transformation] = []
        taken: dict[tuple[str, Hashable, str], int] = {}
        by_slug = {item.slug: item for item in destinations}
        for place in items(at):
            item = self._transformation(place, sources, by_slug, storage)
            if item is None:
                continue
            found.append(item)
            condition = same_condition(item.condition) if item.condition and item.source else None
            if condition is None:
                continue
            key = (item.source, condition, item.destination)
            if key in taken:
                reason = f"the one in line {taken[key]} has the same source, condition and destination"
                self._refuse(place, reason, "Put both into one, or narrow a condition")
            taken.setdefault(key, place.node.line)
        return tuple(found)

    def _transformation(
        self, at: At, sources: Collection[str], destinations: Mapping[str, Destination], storage: Collection[str]
    ) -> Transformation | None:
        keys = self._section(at, vocabulary.TRANSFORMATION)
        if keys is None:
            return None
        self._is_whole = True
        slug = self._slug(at, keys) or ""
        source = self._source(at, keys.get("source"), sources)
        new_event_name = self._text(keys.get("rename_event"), "Write the new name") or ""
        item = Transformation(
            slug=slug,
            source=source,
            condition=self._condition(at, keys.get("if")),
            name=self._name(keys.get("name")),
            destination=self._destination(keys.get("destination"), source, destinations, storage),
            enabled=self._flag(keys.get("enabled"), default=True),
            drop=self._flag(keys.get("drop"), default=False),
            new_event_name=new_event_name,
            renames=self._texts_by_path(keys.get("rename_properties"), "rename_properties: {total: revenue}"),
            values=self._values(keys.get("set")),
            fql_properties=self._texts_by_path(
                keys.get("fql_properties"), "fql_properties: {plan: 'lowercase(properties.plan)'}"
            ),
            allow_properties=self._filled_texts(keys.get("allow_properties"), "allow_properties: [revenue, currency]"),
            hash=self._hash(keys.get("hash"), slug),
        )
        for fault in faults(item):
            if fault.steps or self._is_whole:
                self._refuse(_locate(at, fault), fault.reason, capitalised(fault.mend))
        return item

    def _refuse_part(self, at: At, reason: str, mend: str) -> None:
        self._is_whole = False
        self._report(at, reason, mend)

    # Where it applies

    def _source(self, at: At, value: At | None, known: Collection[str]) -> str:
        example = next(iter(known), "web")
        if value is None:
            self._missing(at, "source", f"source: {example}")
            return ""
        slug = self._text(value, f"Write source: {example}")
        return slug if slug is not None and self._known(value, slug, known, "source") else ""

    def _destination(
        self, at: At | None, source: str, known: Mapping[str, Destination], storage: Collection[str]
    ) -> str:
        slug = self._text(at, "Write destination: hook, or leave the key out")
        if at is None or slug is None:
            return ""
        if not self._known(at, slug, known, "destination"):
            return slug
        if slug in storage:
            reason = "storage destinations get every accepted event as it is"
            self._refuse(at, reason, "Leave the key out to change the event for all destinations")
        elif source and source not in known[slug].sources:
            reason = f"the destination {slug} gets nothing from the source {source}"
            self._refuse(at, reason, f"Add {source} to its sources, or name another destination")
        return slug

    def _condition(self, at: At, value: At | None) -> str:
        if value is None:
            self._missing(at, "if", "if: 'event = \"Order Done\"'")
        return self._text(value, "Write a condition in quotes, such as 'event = \"Order Done\"'") or ""

    def _name(self, at: At | None) -> str:
        return self._text(at, "Put it in quotes", _MAX_NAME_CHARACTERS) or ""

    # What it does. A part with a problem is left out as a whole.

    def _values(self, at: At | None) -> tuple[PropertyValue, ...]:
        if at is None:
            return ()
        if not self._is_filled_list(at, _SET):
            return ()
        found = [self._value(item) for item in items(at)]
        whole = tuple(item for item in found if item is not None)
        return whole if len(whole) == len(found) else ()

    def _value(self, at: At) -> PropertyValue | None:
        if not isinstance(at.node.value, dict):
            if not isinstance(at.node.value, Broken):
                self._refuse(at, "a mapping is wanted here", f"Write {_SET}")
            return None
        keys = self._section(at, vocabulary.TRANSFORMATION_VALUE)
        if keys is None:
            return None
        if "paths" not in keys:
            self._missing(at, "paths", "paths: [properties.channel]")
        node = at.node.value.get("value")
        if node is None:
            self._missing(at, "value", "value: web")
        paths = self._filled_texts(keys.get("paths"), "paths: [properties.channel]")
        if node is None or not paths:
            return None
        place = At(node, step(at.path, "value"))
        if References.kind(node) is not None:
            mend = "Write the value itself; {env: …} and {file: …} may stand in `hash.key`"
            self._refuse(place, "a value that all destinations see is no secret", mend)
            return None
        try:
            return PropertyValue(paths, plain(node))
        except ValueError:
            return None

    def _hash(self, at: At | None, slug: str) -> PropertyHash | None:
        if at is None:
            return None
        if not isinstance(at.node.value, dict):
            if not isinstance(at.node.value, Broken):
                self._refuse(at, "a mapping is wanted here", f"Write {_HASH}")
            return None
        keys = self._section(at, vocabulary.TRANSFORMATION_HASH)
        if keys is None:
            return None
        if "paths" not in keys:
            self._missing(at, "paths", "paths: [properties.email]")
        paths = self._filled_texts(keys.get("paths"), "paths: [properties.email]")
        algorithm = self._text(keys.get("algorithm"), "Write algorithm: sha256")
        encoding = self._text(keys.get("encoding"), "Write encoding: hex")
        key = self._key(keys.get("key"), slug)
        if not paths:
            return None
        return PropertyHash(paths, algorithm or "sha256", encoding or "hex", key)

    def _key(self, at: At | None, slug: str) -> str | None:
        key = None if at is None else self._secret_text(at, ("transformations", slug, "hash", "key"))
        if at is not None and key is not None and is_masked(key):
            mend = "Put the key itself here, or a reference such as {env: HASH_KEY}"
            self._refuse(at, "a masked value, as an export shows it", mend)
        return key

    # Values

    def _texts_by_path(self, at: At | None, example: str) -> tuple[tuple[str, str], ...]:
        if at is None or isinstance(at.node.value, Broken):
            return ()
        if not isinstance(at.node.value, dict):
            self._refuse(at, "a mapping is wanted here", f"Write {example}")
            return ()
        if not at.node.value:
            self._refuse(at, "nothing is named", f"Write {example}")
        found = [
            (path, self._text(At(node, step(at.path, path)), f"Write {example}"))
            for path, node in at.node.value.items()
        ]
        whole = tuple((path, text) for path, text in found if text is not None)
        return whole if len(whole) == len(found) else ()

    def _filled_texts(self, at: At | None, example: str) -> tuple[str, ...]:
        if at is None or not self._is_filled_list(at, example):
            return ()
        found = [self._text(item, "Write a text here") for item in items(at)]
        whole = tuple(text for text in found if text is not None)
        return whole if len(whole) == len(found) else ()

    def _is_filled_list(self, at: At, example: str) -> bool:
        if not isinstance(at.node.value, list | Broken):
            self._refuse(at, "a list is wanted here", f"Write {example}")
        elif at.node.value == []:
            self._refuse(at, "nothing is listed", f"Write {example}")
        return bool(items(at))

    def _flag(self, at: At | None, *, default: bool) -> bool:
        if at is None:
            return default
        if not isinstance(at.node.value, bool | Broken):
            self._refuse(at, "true or false is wanted here", "Write true or false, or leave the key out")
        return at.node.value is True

    def _missing(self, at: At, key: str, example: str) -> None:
        self._refuse(At(at.node, step(at.path, key)), "missing", f"Add {example}")


def _locate(at: At, fault: Fault) -> At:
    """The place that a fault speaks of, as near as there is one."""
    node, path = at.node, at.path
    for number, key in enumerate(fault.steps):
        inner: Node | None = None
        if isinstance(key, int):
            path = f"{path}[{key}]"
            inner = node.value[key] if isinstance(node.value, list) else None
        else:
            path = step(path, key)
            inner = node.value.get(key) if isinstance(node.value, dict) else None
            if fault.of_key and number == len(fault.steps) - 1 and key in node.key_places:
                line, column = node.key_places[key]
                inner = Node(line, column, key)
        if inner is None:
            break
        node = inner
    return At(node, path)


def transformation_keys(item: Transformation) -> dict[str, Any]:
    """The keys that :class:`TransformationsSection` reads this from; those that say nothing are left out."""
    keys: dict[str, Any] = {
        "slug": item.slug,
        "name": item.name,
        "source": item.source,
        "destination": item.destination,
        "if": item.condition,
        "enabled": item.enabled,
        "rename_event": item.new_event_name,
        "rename_properties": dict(item.renames),
        "set": [{"paths": list(value.paths), "value": value.value} for value in item.values],
        "fql_properties": dict(item.fql_properties),
        "allow_properties": list(item.allow_properties),
        "hash": _hash_keys(item.hash),
        "drop": item.drop,
    }
    return {key: value for key, value in keys.items() if key == "enabled" or value}


def _hash_keys(item: PropertyHash | None) -> dict[str, Any]:
    if item is None:
        return {}
    keys = {"paths": list(item.paths), "algorithm": item.algorithm, "encoding": item.encoding}
    return keys if item.key is None else {**keys, "key": item.key}
