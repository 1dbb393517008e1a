"""The keys of a destination that say which events it gets and what they hold: filters and consent categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trunkline.fql import FqlError, parse_fql
from trunkline.spec.filters import (
    ACTIONS,
    ALL,
    ALLOW_PROPERTIES,
    DROP_PROPERTIES,
    MAX_FILTERS,
    MAX_PATH_KEYS,
    MAX_TITLE_CHARACTERS,
    SAMPLE,
    Filter,
)
from trunkline.workspace import vocabulary
from trunkline.workspace.problem import capitalised, nearest, shown
from trunkline.workspace.section_reader import SectionReader
from trunkline.workspace.yaml_tree import At, Broken, step

MAX_CATEGORIES: Final = 100
_MAX_PATH_CHARACTERS: Final = 1000
_EXAMPLE: Final = "filters: [{if: 'event = \"Heartbeat\"', action: drop}]"
_FIELDS: Final = "fields: {properties: [email], context.traits: [phone]}"
_OF_ACTION: Final = {
    "percent": (SAMPLE,),
    "path": (SAMPLE,),
    "fields": (DROP_PROPERTIES, ALLOW_PROPERTIES),
}
"""Keys that belong to some actions only."""


class FiltersSection(SectionReader):
    """What a destination gets."""

    def filters(self, at: At | None, sources: Sequence[str], *, storage: bool) -> tuple[Filter, ...]:
        """``sources``: the destination's. What is wrong is reported and left out."""
        if at is None or self._for_storage(at, storage, "filters"):
            return ()
        listed = self._list(at, f"Write {_EXAMPLE}")
        found = [checked for item in listed if (checked := self._filter(item, sources)) is not None]
        for source in sources:
            count = sum(not item.sources or source in item.sources for item in found)
            if count > MAX_FILTERS:
                reason = f"{count} filters for the source {source}; {MAX_FILTERS} are the most"
                self._refuse(at, reason, "Join conditions with `or`, and fields of one condition in one filter")
                break
        return tuple(found)

    def consent_categories(self, at: At | None, *, storage: bool) -> tuple[str, ...]:
        """The categories that the destination is mapped to. What is wrong is reported and left out."""
        if at is None or self._for_storage(at, storage, "consent_categories"):
            return ()
        listed = self._list(at, "Write consent_categories: [advertising]")
        found = tuple(text for _, text in self._unique(listed, "the category", _MAX_PATH_CHARACTERS))
        if len(listed) > MAX_CATEGORIES:
            self._refuse(at, f"{len(listed)} categories; {MAX_CATEGORIES} are the most", "Take some out")
        return found

    def _for_storage(self, at: At, storage: bool, key: str) -> bool:
        if storage:
            reason = "storage destinations get every accepted event as it is"
            self._refuse(at, reason, f"Remove {key}")
        return storage

    def _filter(self, at: At, sources: Sequence[str]) -> Filter | None:
        if not isinstance(at.node.value, dict | Broken):
            self._refuse(at, "a mapping is wanted here", f"Write {_EXAMPLE}")
            return None
        keys = self._section(at, vocabulary.FILTER)
        if keys is None:
            return None
        action = self._action(at, keys.get("action"))
        condition = self._condition(at, keys.get("if"))
        if action is not None:
            self._refuse_foreign_keys(keys, action)
        return Filter(
            condition=condition or "",
            action=action or "",
            title=self._title(keys.get("title")),
            enabled=self._enabled(keys.get("enabled")),
            percent=self._percent(at, keys.get("percent")) if action == SAMPLE else None,
            path=self._path(keys.get("path")) if action == SAMPLE else "",
            fields=self._fields(at, keys.get("fields"), action) if action in _OF_ACTION["fields"] else {},
            sources=self._sources(keys.get("sources"), sources),
        )

    def _action(self, at: At, value: At | None) -> str | None:
        if value is None:
            self._refuse(At(at.node, step(at.path, "action")), "missing", f"Add action: one of {', '.join(ACTIONS)}")
            return None
        action = self._text(value, "Write action: drop")
        if action is None or action in ACTIONS:
            return action
        guess = nearest(action.lower(), ACTIONS)
        mend = f"Did you mean {guess}?" if guess else f"Use one of: {', '.join(ACTIONS)}"
        self._refuse(value, f"there is no action {shown(action)}", mend)
        return None

    def _condition(self, at: At, value: At | None) -> str | None:
        if value is None:
            mend = f"Add if: {ALL}, or a condition such as if: 'event = \"Heartbeat\"'"
            self._refuse(At(at.node, step(at.path, "if")), "missing", mend)
            return None
        text = self._text(value, f"Write a condition in quotes, or {ALL}")
        if text is None:
            return None
        try:
            parse_fql(text)
        except FqlError as error:
            expected = f", expected {error.expected}" if error.expected else ""
            place = f"line {error.line}, " if "\n" in text else ""
            reason = f"not a condition: {place}character {error.column}: {error.problem}{expected}"
            self._refuse(value, reason, capitalised(error.mend))
            return None
        return text

    def _refuse_foreign_keys(self, keys: Mapping[str, At], action: str) -> None:
        for key, actions in _OF_ACTION.items():
            if key in keys and action not in actions:
                reason = f"says nothing with action {action}; it belongs to {' and '.join(actions)}"
                self._refuse(keys[key], reason, f"Remove it, or write action: {actions[0]}")

    def _title(self, at: At | None) -> str:
        return self._text(at, "Put it in quotes", MAX_TITLE_CHARACTERS) or ""

    def _enabled(self, at: At | None) -> bool:
        if at is not None and not isinstance(at.node.value, bool | Broken):
            self._refuse(at, "true or false is wanted here", "Write enabled: false, or leave the key out")
        return at is None or at.node.value is True

    def _percent(self, at: At, value: At | None) -> float | None:
        example = "percent: 0.1, which keeps a tenth"
        if value is None:
            self._refuse(At(at.node, step(at.path, "percent")), "missing", f"Add {example}")
            return None
        number = value.node.value
        if isinstance(number, Broken):
            return None
        if isinstance(number, bool) or not isinstance(number, int | float):
            self._refuse(value, "not a number from 0 to 1", f"Write {example}")
        elif not 0 <= number <= 1:
            mend = f"Write {number / 100:g} for {number:g} %" if 1 < number <= 100 else f"Write {example}"
            self._refuse(value, f"{number:g} is not a number from 0 to 1", mend)
        else:
            return float(number)
        return None

    def _path(self, at: At | None) -> str:
        text = self._text(at, "Write path: userId, or leave the key out")
        return text if at is not None and text is not None and self._is_path(at, text) else ""

    def _is_path(self, at: At, path: str) -> bool:
        if len(path) > _MAX_PATH_CHARACTERS or path.count(".") >= MAX_PATH_KEYS:
            self._refuse(at, f"a path of more than {MAX_PATH_KEYS} keys", "Name a place higher up")
        elif path and not all(path.split(".")):
            self._refuse(at, f"not a path: {shown(path)}", "Write keys with a dot between them: context.traits")
        else:
            return True
        return False

    def _fields(self, at: At, value: At | None, action: str | None) -> dict[str, tuple[str, ...]]:
        if value is None:
            self._refuse(At(at.node, step(at.path, "fields")), "missing", f"Add {_FIELDS}")
            return {}
        if not isinstance(value.node.value, dict):
            if not isinstance(value.node.value, Broken):
                mend = f"Write the parent's path and its keys: {_FIELDS}"
                self._refuse(value, "a mapping is wanted here", mend)
            return {}
        if not value.node.value:
            self._refuse(value, "no fields are named", f"Write {_FIELDS}")
        found = {}
        for path, node in value.node.value.items():
            place = At(node, step(value.path, path))
            line, column = value.node.key_places.get(path, (node.line, node.column))
            key_place = At(type(node)(line, column, path), place.path)
            if self._is_path(key_place, path):
                listed = self._list(place, "Write the keys as [one, another]")
                if not listed and isinstance(node.value, list) and action == DROP_PROPERTIES:
                    self._refuse(place, "no keys are named", "Write the keys as [one, another]")
                found[path] = tuple(text for _, text in self._unique(listed, "the key", _MAX_PATH_CHARACTERS))
        return found

    def _sources(self, at: At | None, known: Sequence[str]) -> tuple[str, ...]:
        if at is None:
            return ()
        listed = self._list(at, f"Write sources: [{next(iter(known), 'web')}], or leave the key out")
        if not listed and isinstance(at.node.value, list):
            self._refuse(at, "no source is listed", "Leave the key out to mean all sources of the destination")
        found = self._unique(listed, "the source", _MAX_PATH_CHARACTERS)
        for item, slug in found:
            if slug not in known:
                guess = nearest(slug, known)
                mend = f"Did you mean {guess}?" if guess else "Name one that stands under the destination's `sources`"
                self._refuse(item, f"{shown(slug)} is not a source of this destination", mend)
        return tuple(slug for _, slug in found)


def filter_keys(item: Filter) -> dict[str, Any]:
    """The keys that :class:`FiltersSection` reads this from; those that say nothing are left out."""
    keys: dict[str, Any] = {
        "if": item.condition,
        "action": item.action,
        "title": item.title,
        "percent": _plain(item.percent),
        "path": item.path,
        "fields": {path: list(names) for path, names in item.fields.items()},
        "sources": list(item.sources),
    }
    keys = {key: value for key, value in keys.items() if value not in (None, "", [], {})}
    return keys if item.enabled else {**keys, "enabled": False}


def filters_keys(filters: Sequence[Filter], categories: Sequence[str]) -> dict[str, Any]:
    """The keys of the destination; those that say nothing are left out."""
    keys: dict[str, Any] = {
        "consent_categories": list(categories),
        "filters": [filter_keys(item) for item in filters],
    }
    return {key: value for key, value in keys.items() if value}


def _plain(number: float | None) -> float | None:
    return int(number) if number is not None and number.is_integer() else number
