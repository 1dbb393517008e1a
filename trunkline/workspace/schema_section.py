"""What a source does about its schema: the configuration of its tracking plan, and schema filters.

A configuration stands under ``enforce`` of a plan, and under ``schema_configuration`` of a source that does otherwise
than its plan says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from trunkline.spec.plans import ALLOW, BLOCK, GROUP, IDENTIFY, OMIT, TRACK, Enforcement, SchemaConfiguration
from trunkline.spec.schema_filters import BLOCKABLE_TYPES, IntegrationFilter, SchemaFilters
from trunkline.workspace import vocabulary
from trunkline.workspace.section_reader import Neighbours, ReadSection, Refuse, SectionReader
from trunkline.workspace.yaml_tree import At, Broken, step

MAX_NAMES: Final = 4000
"""Events, traits or integration filters that one source may list."""
MAX_NAME_CHARACTERS: Final = 1000
INTEGRATION_TYPES: Final = ("track", "identify", "group", "page", "screen", "alias")

_KINDS: Final = (TRACK, IDENTIFY, GROUP)
_ENFORCE: Final = "{unplanned_events: block, violations: block}"
_NOT_BLOCKED: Final = {BLOCK: "Write omit: unplanned properties are taken out, the event itself goes on"}
_NOT_OMITTED: Final = {OMIT: "Write block: an event is sent or not"}
_FILTER: Final = "integrations: [{type: track, event: Order Completed, destinations: [hook]}]"


class SchemaSection(SectionReader):
    """Reads configurations and filters; what is wrong is reported and left out."""

    def __init__(self, section: ReadSection, refuse: Refuse, note: Refuse, near: Neighbours) -> None:
        super().__init__(section, refuse)
        self._note = note
        self._near = near

    def source_configuration(self, at: At | None, source: str) -> SchemaConfiguration | None:
        """``at``: ``schema_configuration`` of this source."""
        if at is None:
            return None
        if source and source not in self._near.plan_of:
            reason = f"no tracking plan names the source {source}, so this would do nothing"
            self._refuse(at, reason, "List the source under `sources` of a plan, or remove schema_configuration")
        return self.configuration(at, [source])

    def configuration(self, at: At | None, sources: Sequence[str]) -> SchemaConfiguration:
        """``sources``: those that it holds for."""
        keys = self._mapping(at, vocabulary.ENFORCE, _ENFORCE)
        events = keys.get("unplanned_events")
        unplanned = self._by_kind(keys.get("unplanned_properties"), (ALLOW, OMIT), _NOT_BLOCKED)
        violations = self._by_kind(keys.get("violations"), (ALLOW, BLOCK, OMIT))
        common = self._by_kind(keys.get("common_violations"), (ALLOW, BLOCK, OMIT))
        forward_blocked = keys.get("forward_blocked_events_to")
        chosen = (*violations.values(), *common.values(), events.node.value if events else ALLOW)
        if forward_blocked is not None and BLOCK not in chosen:
            self._note(
                forward_blocked, "nothing is blocked, so nothing is forwarded", "Add violations: block, or the like"
            )
        of_kind = {kind: Enforcement(unplanned[kind], violations[kind], common[kind]) for kind in _KINDS}
        return SchemaConfiguration(
            unplanned_events=(self._choice(events, (ALLOW, BLOCK), mends=_NOT_OMITTED) if events else None) or ALLOW,
            track=of_kind[TRACK],
            identify=of_kind[IDENTIFY],
            group=of_kind[GROUP],
            forward_violations_to=self._target(keys.get("forward_violations_to"), sources),
            forward_blocked_events_to=self._target(forward_blocked, sources),
        )

    def _by_kind(self, at: At | None, allowed: Sequence[str], mends: Mapping[str, str] | None = None) -> dict[str, str]:
        """One choice for all kinds of calls, or a mapping of those that are not to be allowed."""
        found = dict.fromkeys(_KINDS, ALLOW)
        if at is None:
            return found
        if isinstance(at.node.value, dict):
            for kind, place in (self._section(at, vocabulary.ENFORCE_KINDS) or {}).items():
                found[kind] = self._choice(place, allowed, mends=mends) or ALLOW
            return found
        return dict.fromkeys(_KINDS, self._choice(at, allowed, mends=mends) or ALLOW)

    def _target(self, at: At | None, sources: Sequence[str]) -> str:
        """A source that something is forwarded to. It may forward in turn: what was forwarded is not judged again."""
        slug = self._text(at, "Write the slug of a source") if at is not None else None
        if at is None or slug is None or not self._known(at, slug, self._near.sources, "source"):
            return ""
        if slug in sources:
            mend = "Name a source that is there for it, such as {slug: blocked, type: http, write_keys: [wk_blocked]}"
            self._refuse(at, f"the source {slug} would forward to itself", mend)
        elif slug in self._near.disabled:
            self._note(
                at, f"the source {slug} is off, and takes nothing that is forwarded", "Write enabled: true there"
            )
        return slug

    def filters(self, at: At | None, source: str) -> SchemaFilters:
        """``at``: ``schema_filters`` of this source."""
        keys = self._mapping(at, vocabulary.SCHEMA_FILTERS, "{blocked_events: [Secret Event]}")
        for key in ("blocked_events", "blocked_types", "omitted_traits"):
            self._refuse_beside_plan(keys.get(key), key, source)
        events = self._names(keys.get("blocked_events"), "the event", "Write blocked_events: [Secret Event]")
        identify, group = self._omitted(keys.get("omitted_traits"))
        return SchemaFilters(
            blocked_events=events,
            blocked_types=self._types(keys.get("blocked_types")),
            omitted_identify_traits=identify,
            omitted_group_traits=group,
            integrations=self._integrations(keys.get("integrations"), source),
        )

    def _refuse_beside_plan(self, at: At | None, key: str, source: str) -> None:
        if at is None or source not in self._near.plan_of:
            return
        plan, named = self._near.plan_of[source]
        better = "unplanned_properties: omit" if key == "omitted_traits" else "unplanned_events: block"
        reason = f"does nothing beside the tracking plan {plan}, which names the source in line {named.node.line}"
        self._refuse(at, reason, f"Remove it, and write {better} in the plan's `enforce` to keep out what is unplanned")

    def _types(self, at: At | None) -> tuple[str, ...]:
        mend = f"Write blocked_types: [{BLOCKABLE_TYPES[-1]}]"
        other = "Identify and group calls lose single traits: write omitted_traits"
        mends = {"identify": other, "group": other}
        listed = self._texts(at, "the type", mend, MAX_NAME_CHARACTERS)
        return tuple(text for item, text in listed if self._choice(item, BLOCKABLE_TYPES, mends=mends) is not None)

    def _omitted(self, at: At | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """For identify calls and for group calls."""
        example = "Write omitted_traits: [ssn], or {identify: [ssn], group: [vat]}"
        if at is not None and isinstance(at.node.value, dict):
            keys = self._section(at, vocabulary.OMITTED_TRAITS) or {}
            return (
                self._names(keys.get("identify"), "the trait", example),
                self._names(keys.get("group"), "the trait", example),
            )
        both = self._names(at, "the trait", example)
        return both, both

    def _names(self, at: At | None, what: str, mend: str) -> tuple[str, ...]:
        found = tuple(text for _, text in self._texts(at, what, mend, MAX_NAME_CHARACTERS))
        if at is not None and len(found) > MAX_NAMES:
            self._refuse(at, f"{len(found)} names; {MAX_NAMES} are the most", "Take some out")
        return found

    def _integrations(self, at: At | None, source: str) -> tuple[IntegrationFilter, ...]:
        found: dict[tuple[str, str], tuple[At, IntegrationFilter]] = {}
        listed = self._list(at, f"Write {_FILTER}")
        if at is not None and len(listed) > MAX_NAMES:
            self._refuse(at, f"{len(listed)} integration filters; {MAX_NAMES} are the most", "Take some out")
        for item in listed:
            read = self._integration(item, source)
            if read is None:
                continue
            key = (read.type, read.event)
            if key in found:
                reason = f"these events have a filter already in line {found[key][0].node.line}"
                self._refuse(item, reason, "List the destinations of both in one filter")
            found[key] = (item, read)
        return tuple(read for _, read in found.values())

    def _integration(self, at: At, source: str) -> IntegrationFilter | None:
        if not isinstance(at.node.value, dict | Broken):
            self._refuse(at, "a mapping is wanted here", f"Write {_FILTER}")
            return None
        keys = self._section(at, vocabulary.INTEGRATION_FILTER)
        if keys is None:
            return None
        kind = self._required(at, keys, "type", f"type: one of {', '.join(INTEGRATION_TYPES)}")
        kind_text = self._choice(kind, INTEGRATION_TYPES) if kind is not None else None
        event = keys.get("event")
        name = self._text(event, "Write the event's name", MAX_NAME_CHARACTERS) if event is not None else None
        if event is not None and kind_text not in (None, "track"):
            reason = f"says nothing with the type {kind_text}: only track events have a name of their own here"
            self._refuse(event, reason, "Remove it, or write type: track")
        elif event is None and kind_text == "track":
            self._refuse(At(at.node, step(at.path, "event")), "missing", "Add event: and the event's name")
        named = self._required(at, keys, "destinations", "destinations: [hook]")
        mend = "Write destinations: [hook]"
        targets = self._texts(named, "the destination", mend, MAX_NAME_CHARACTERS)
        if named is not None and named.node.value == []:
            self._refuse(named, "no destination is listed", mend)
        found = tuple(slug for item, slug in targets if self._destination(item, slug, source))
        return IntegrationFilter(kind_text, name or "", found) if kind_text is not None else None

    def _required(self, at: At, keys: Mapping[str, At], key: str, example: str) -> At | None:
        if key not in keys:
            self._refuse(At(at.node, step(at.path, key)), "missing", f"Add {example}")
        return keys.get(key)

    def _destination(self, at: At, slug: str, source: str) -> bool:
        if not self._known(at, slug, self._near.destinations, "destination"):
            return False
        if slug in self._near.storage:
            reason = f"{slug} gets every accepted event: integration filters are not for storage destinations"
            self._refuse(at, reason, "Remove it, or block the event for all destinations")
        elif source and source not in self._near.destinations[slug]:
            reason = f"{slug} gets nothing from the source {source}, so this would do nothing"
            self._refuse(at, reason, "Remove it, or list the source under the destination's `sources`")
        return True


def configuration_keys(configuration: SchemaConfiguration) -> dict[str, Any]:
    """The keys that :meth:`SchemaSection.configuration` reads this from; those that say nothing are left out."""
    kinds = {TRACK: configuration.track, IDENTIFY: configuration.identify, GROUP: configuration.group}
    keys: dict[str, Any] = {}
    if configuration.unplanned_events != ALLOW:
        keys["unplanned_events"] = configuration.unplanned_events
    for key in ("unplanned_properties", "violations", "common_violations"):
        said = {kind: getattr(enforcement, key) for kind, enforcement in kinds.items()}
        if len(set(said.values())) > 1:
            keys[key] = {kind: choice for kind, choice in said.items() if choice != ALLOW}
        elif said[TRACK] != ALLOW:
            keys[key] = said[TRACK]
    for key in ("forward_violations_to", "forward_blocked_events_to"):
        if getattr(configuration, key):
            keys[key] = getattr(configuration, key)
    return keys


def schema_keys(filters: SchemaFilters, configuration: SchemaConfiguration | None) -> dict[str, Any]:
    """The keys of the source; those that say nothing are left out."""
    traits = {"identify": list(filters.omitted_identify_traits), "group": list(filters.omitted_group_traits)}
    said: dict[str, Any] = {
        "blocked_events": list(filters.blocked_events),
        "blocked_types": list(filters.blocked_types),
        "omitted_traits": {kind: names for kind, names in traits.items() if names},
        "integrations": [
            {
                "type": item.type,
                **({"event": item.event} if item.event else {}),
                "destinations": list(item.destinations),
            }
            for item in filters.integrations
        ],
    }
    said = {key: value for key, value in said.items() if value}
    keys: dict[str, Any] = {}
    if configuration is not None:
        keys["schema_configuration"] = configuration_keys(configuration)
    if said:
        keys["schema_filters"] = said
    return keys
