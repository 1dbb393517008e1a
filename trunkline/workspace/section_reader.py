"""What the readers of a file's sections have in common: texts, choices, lists, each refused with its mend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.workspace import vocabulary
from trunkline.workspace.problem import nearest, shown
from trunkline.workspace.yaml_tree import At, Broken, Node, items, step

ReadSection = Callable[[At, vocabulary.Section], dict[str, At] | None]
Refuse = Callable[[At, str, str], None]


@dataclass(frozen=True)
class Neighbours:
    """What sections may name, read ahead of them as far as it can be read."""

    sources: Mapping[str, int]
    """The line of each."""
    destinations: Mapping[str, Sequence[str]]
    """The sources of each."""
    storage: frozenset[str]
    """Destinations that get every accepted event."""
    plan_of: Mapping[str, tuple[str, At]]
    """For each source the plan that names it first, and where."""
    configured: frozenset[str]
    """Sources with a schema configuration of their own."""
    disabled: frozenset[str]
    """Sources that are switched off."""


def neighbours(
    sources: At | None, destinations: At | None, plans: At | None, storage_types: Iterable[str]
) -> Neighbours:
    """Reports nothing: what can't be read is reported where it is read in earnest."""
    plan_of: dict[str, tuple[str, At]] = {}
    for plan in items(plans):
        for at in items(_child(plan, "sources")):
            if isinstance(at.node.value, str):
                plan_of.setdefault(at.node.value, (_text_of(plan, "slug"), at))
    storage = set(storage_types)
    listed = {_text_of(item, "slug"): item for item in reversed(items(destinations))}
    lines = {_text_of(item, "slug"): item.node.line for item in reversed(items(sources))}
    configured = {
        _text_of(item, "slug")
        for item in items(sources)
        if (own := _child(item, "schema_configuration")) is not None and own.node.value is not None
    }
    return Neighbours(
        sources={slug: line for slug, line in lines.items() if slug},
        destinations={
            slug: [at.node.value for at in items(_child(item, "sources")) if isinstance(at.node.value, str)]
            for slug, item in listed.items()
            if slug
        },
        storage=frozenset(slug for slug, item in listed.items() if _text_of(item, "type") in storage),
        plan_of=plan_of,
        configured=frozenset(configured),
        disabled=frozenset(
            _text_of(item, "slug")
            for item in items(sources)
            if (enabled := _child(item, "enabled")) is not None and enabled.node.value is False
        ),
    )


def _child(at: At, key: str) -> At | None:
    node = at.node.value.get(key) if isinstance(at.node.value, dict) else None
    return None if node is None else At(node, step(at.path, key))


def _text_of(at: At, key: str) -> str:
    child = _child(at, key)
    return child.node.value if child is not None and isinstance(child.node.value, str) else ""


def plain(node: Node) -> Any:
    """The value without its places; raises ValueError if a part of it is a problem already."""
    match node.value:
        case Broken():
            raise ValueError("a part of it is broken")
        case list() as listed:
            return [plain(item) for item in listed]
        case dict() as entries:
            return {key: plain(item) for key, item in entries.items()}
        case value:
            return value


class SectionReader:
    """``section`` reads a mapping against its vocabulary, ``refuse`` reports a place, a reason and a mend."""

    def __init__(self, section: ReadSection, refuse: Refuse) -> None:
        self._section = section
        self._refuse = refuse

    def _mapping(self, at: At | None, section: vocabulary.Section, example: str) -> Mapping[str, At]:
        if at is None:
            return {}
        if not isinstance(at.node.value, dict | Broken):
            self._refuse(at, "a mapping is wanted here", f"Write {example}")
            return {}
        return self._section(at, section) or {}

    def _list(self, at: At | None, mend: str) -> list[At]:
        if at is not None and not isinstance(at.node.value, list | Broken):
            self._refuse(at, "a list is wanted here", mend)
        return items(at)

    def _text(self, at: At | None, mend: str, most: int | None = None) -> str | None:
        if at is None:
            return None
        value = at.node.value
        if isinstance(value, str) and value:
            if most is None or len(value) <= most:
                return value
            self._refuse(at, f"longer than {most} characters", "Shorten it")
        elif value == "":
            self._refuse(at, "empty", mend)
        elif not isinstance(value, Broken):
            is_plain = isinstance(value, int | float)
            self._refuse(at, "text is wanted here", "Put it in quotes" if is_plain else mend)
        return None

    def _texts(self, at: At | None, what: str, mend: str, most: int) -> list[tuple[At, str]]:
        """The texts of a list, each once; ``what`` is one of them called, such as ``the event``."""
        return self._unique(self._list(at, mend), what, most)

    def _unique(self, listed: Iterable[At], what: str, most: int) -> list[tuple[At, str]]:
        found: dict[str, At] = {}
        for item in listed:
            text = self._text(item, "Write a text here", most)
            if text is not None and text in found:
                self._refuse(item, f"{what} {shown(text)} stands here twice", "Keep one of them")
            elif text is not None:
                found[text] = item
        return [(item, text) for text, item in found.items()]

    def _choice(self, at: At, allowed: Sequence[str], *, mends: Mapping[str, str] | None = None) -> str | None:
        """One of ``allowed``; ``mends`` are for what is often written instead."""
        mend = f"Write one of: {', '.join(allowed)}"
        if isinstance(
            at.node.value, bool
        ):  # as YAML reads `on` and `off`, which are none of the words in quotes either
            self._refuse(at, "text is wanted here", mend)
            return None
        text = self._text(at, mend)
        if text is None or text in allowed:
            return text
        guess = nearest(text.lower(), allowed)
        mend = (mends or {}).get(text) or (f"Did you mean {guess}?" if guess else f"Use one of: {', '.join(allowed)}")
        self._refuse(at, f"{shown(text)} is not one of {', '.join(allowed)}", mend)
        return None

    def _known(self, at: At, slug: str, known: Iterable[str], what: str) -> bool:
        """Whether there is such a ``what``: a source, a destination."""
        listed = list(known)
        if slug in listed:
            return True
        guess = nearest(slug, listed)
        mend = f"Did you mean {guess}?" if guess else f"Name a slug that stands under `{what}s`"
        self._refuse(at, f"there is no {what} {shown(slug)}", mend)
        return False
