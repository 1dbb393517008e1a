"""The workspace's YAML file, checked in one pass: a snapshot, or every problem with its line and mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from trunkline.secrets import Secrets, is_masked, mask
from trunkline.spec.capabilities import source_kind
from trunkline.spec.plans import Rule, TrackingPlan
from trunkline.workspace import vocabulary
from trunkline.workspace.codec import make_snapshot
from trunkline.workspace.delivery_section import DeliverySection
from trunkline.workspace.destination_type import DestinationType, SettingProblem
from trunkline.workspace.egress_section import EgressSection
from trunkline.workspace.filters_section import FiltersSection
from trunkline.workspace.model import CLIENT_SIDE_TYPES, Destination, Reference, Snapshot, Source
from trunkline.workspace.plan_reference import rules_of_file
from trunkline.workspace.plans_section import PlansSection
from trunkline.workspace.problem import Report, nearest, shown
from trunkline.workspace.references import References
from trunkline.workspace.schema_section import SchemaSection
from trunkline.workspace.section_reader import neighbours
from trunkline.workspace.settings_reader import SettingsReader
from trunkline.workspace.transformations_section import TransformationsSection
from trunkline.workspace.yaml_tree import BROKEN, At, Broken, Node, items, locate, parse_tree, step

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
WRITE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_NAME_LENGTH: Final = 200

T = TypeVar("T")


def check_workspace(
    content: bytes,
    report: Report,
    destination_types: Mapping[str, DestinationType],
    secrets: Secrets,
    references: References,
) -> Snapshot | None:
    """The snapshot, or None with at least one problem in the report. Notes may come with either."""
    root = parse_tree(content, report)
    if root is None:
        return None
    snapshot = _Checker(report, destination_types, secrets, references).check(At(root, ""))
    return None if report.problems else snapshot


class _Checker:
    def __init__(
        self,
        report: Report,
        destination_types: Mapping[str, DestinationType],
        secrets: Secrets,
        references: References,
    ) -> None:
        self._report = report
        self._types = destination_types
        self._secrets = secrets
        self._resolver = references
        self._references: list[Reference] = []
        self._write_keys: dict[str, At] = {}

    def check(self, root: At) -> Snapshot | None:
        top = self._section(root, vocabulary.TOP)
        if top is None:
            return None
        slug, name = self._workspace(root, top.get("workspace"))
        storage_types = [name for name, kind in self._types.items() if kind.storage]
        near = neighbours(top.get("sources"), top.get("destinations"), top.get("tracking_plans"), storage_types)
        schema = SchemaSection(self._section, self._problem, self._note, near)
        sources = self._each(top.get("sources"), lambda at: self._source(at, schema))
        source_lines = self._unique(top.get("sources"))
        plans = PlansSection(self._section, self._problem, self._note, near, schema, self._rules_of_file)
        tracking_plans = self._each(top.get("tracking_plans"), lambda at: self._tracking_plan(at, plans))
        self._unique(top.get("tracking_plans"))
        source_types = {source.slug: source.type for source in sources}
        destinations = self._each(top.get("destinations"), lambda at: self._destination(at, source_lines, source_types))
        self._unique(top.get("destinations"))
        transformations = TransformationsSection(self._section, self._slug, self._scalar_or_reference, self._problem)
        self._unique(top.get("transformations"))
        storage = {item.slug for item in destinations if item.type in self._types and self._types[item.type].storage}
        transformation_items = transformations.transformations(
            top.get("transformations"), source_lines, destinations, storage
        )
        egress = EgressSection(self._section, self._scalar_or_reference, self._problem, self._note)
        egress_rules = egress.rules(top.get("egress"))
        if not source_lines and not items(top.get("sources")):
            self._note(root, "there is no source, so nothing can be received", "Add one under `sources`")
        return make_snapshot(
            self._secrets,
            slug=slug,
            name=name,
            sources=sources,
            destinations=destinations,
            egress=egress_rules,
            references=self._references,
            tracking_plans=tracking_plans,
            transformations=transformation_items,
        )

    # Sections

    def _workspace(self, root: At, at: At | None) -> tuple[str, str]:
        if at is None:
            self._missing(root, "workspace", "workspace: {slug: acme, name: Acme}")
            return "", ""
        keys = self._section(at, vocabulary.WORKSPACE)
        if keys is None:
            return "", ""
        slug = self._slug(at, keys)
        if "name" not in keys:
            self._missing(at, "name", "name: Acme")
        return slug or "", self._name(keys, slug)

    def _source(self, at: At, schema: SchemaSection) -> Source | None:
        keys = self._section(at, vocabulary.SOURCE)
        if keys is None:
            return None
        slug = self._slug(at, keys)
        enabled = self._flag(keys.get("enabled"), default=True)
        return Source(
            slug=slug or "",
            name=self._name(keys, slug),
            type=self._source_type(at, keys),
            write_keys=self._source_write_keys(at, keys.get("write_keys"), slug or ""),
            enabled=enabled,
            schema_filters=schema.filters(keys.get("schema_filters"), slug or ""),
            schema_configuration=schema.source_configuration(keys.get("schema_configuration"), slug or ""),
        )

    def _source_type(self, at: At, keys: Mapping[str, At]) -> str:
        if "type" not in keys:
            self._missing(at, "type", "type: javascript")
            return ""
        kind = self._text(keys["type"])
        if kind is None:
            return ""
        if not _TYPE.fullmatch(kind):
            self._problem(keys["type"], f"not a type: {shown(kind)}", "Write one such as javascript or http")
            return ""
        known = CLIENT_SIDE_TYPES | vocabulary.SOURCE_TYPES
        if kind not in known:
            guess = nearest(kind, sorted(known))
            meant = f"If {guess} is meant, write it so" if guess else "Nothing to mend if that is right"
            self._note(keys["type"], f"the type {kind} is not known and is taken for a server's", meant)
        return kind

    def _source_write_keys(self, at: At, keys: At | None, slug: str) -> tuple[str, ...]:
        if keys is None:
            self._missing(at, "write_keys", f"write_keys: [wk_{slug or 'web'}]")
            return ()
        listed = self._list(keys)
        if listed is not None and not listed:
            self._problem(keys, "a source needs a write key", f"Write [wk_{slug or 'web'}], or a longer random one")
        found = []
        for index, item in enumerate(listed or []):
            value = self._scalar_or_reference(item, ("sources", slug, "write_keys", str(index)))
            if value is not None and self._write_key(item, value):
                found.append(value)
        return tuple(found)

    def _write_key(self, at: At, value: str) -> bool:
        if is_masked(value):
            self._problem(at, "a masked value, as an export shows it", "Put the write key itself here")
        elif not WRITE_KEY.fullmatch(value):
            reason = "a write key has 1 to 128 letters, digits, hyphens and underscores"
            self._problem(at, f"{reason}; this one ends in {mask(value)}", "Use only these characters")
        elif value in self._write_keys:
            first = self._write_keys[value]
            reason = f"the write key {mask(value)} is taken already by {first.path} in line {first.node.line}"
            self._problem(at, reason, "Give each source write keys of its own")
        else:
            self._write_keys[value] = at
            return True
        return False

    def _tracking_plan(self, at: At, plans: PlansSection) -> TrackingPlan | None:
        keys = self._section(at, vocabulary.TRACKING_PLAN)
        if keys is None:
            return None
        slug = self._slug(at, keys)
        return plans.plan(at, keys, slug or "", self._name(keys, slug))

    def _rules_of_file(self, at: At, plan: str) -> Sequence[Rule] | None:
        self._references.append(Reference(("tracking_plans", plan, "rules"), "file", str(at.node.value)))
        return rules_of_file(at, self._resolver, self._problem)

    def _destination(
        self, at: At, source_lines: Mapping[str, int], source_types: Mapping[str, str]
    ) -> Destination | None:
        keys = self._section(at, vocabulary.DESTINATION)
        if keys is None:
            return None
        slug = self._slug(at, keys)
        kind = self._destination_type(at, keys)
        enabled = self._flag(keys.get("enabled"), default=False)
        if "enabled" not in keys:
            self._note(at, "off, because it does not say `enabled: true`", "Add it when events should be sent")
        settings = self._settings(at, keys.get("settings"), slug or "", kind)
        sources = self._destination_sources(at, keys.get("sources"), source_lines)
        if kind is not None and not kind.storage:
            self._note_kinds(keys.get("sources", at), kind, sources, source_types)
        section = FiltersSection(self._section, self._problem)
        storage = kind is not None and kind.storage
        return Destination(
            slug=slug or "",
            name=self._name(keys, slug),
            type=kind.name if kind else "",
            sources=sources,
            enabled=enabled,
            settings=settings,
            delivery=DeliverySection(self._section, self._problem).options(keys),
            filters=section.filters(keys.get("filters"), sources, storage=storage),
            consent_categories=section.consent_categories(keys.get("consent_categories"), storage=storage),
        )

    def _note_kinds(
        self, at: At, kind: DestinationType, sources: Iterable[str], source_types: Mapping[str, str]
    ) -> None:
        """A source may be listed whose events such a destination does not take: they are counted as unsupported."""
        for slug in sources:
            found = source_kind(source_types.get(slug, ""))
            if found not in kind.source_kinds:
                works = " and ".join(sorted(kind.source_kinds))
                reason = f"events of {slug} are not sent here: {kind.name} works with {works} sources, not {found} ones"
                self._note(at, reason, f"Take {slug} out of `sources`, unless its events are to be counted here")

    def _destination_type(self, at: At, keys: Mapping[str, At]) -> DestinationType | None:
        known = ", ".join(sorted(self._types))
        if "type" not in keys:
            self._missing(at, "type", f"type: …; there are: {known}")
            return None
        name = self._text(keys["type"])
        if name is None or name in self._types:
            return self._types.get(name or "")
        unbuilt = vocabulary.unbuilt_type(name)
        if unbuilt is not None:
            self._not_built(keys["type"].node, keys["type"].path, f"{shown(name)}: {unbuilt}", "the destination")
        else:
            guess = nearest(name, self._types)
            mend = f"Did you mean {guess}?" if guess else f"Use one of: {known}"
            self._problem(keys["type"], f"there is no destination type {shown(name)}", mend)
        return None

    def _destination_sources(self, at: At, keys: At | None, source_lines: Mapping[str, int]) -> tuple[str, ...]:
        example = next(iter(source_lines), "web")
        if keys is None:
            self._missing(at, "sources", f"sources: [{example}]")
            return ()
        listed = self._list(keys)
        if listed is not None and not listed:
            self._problem(keys, "a destination needs a source", f"List one, such as [{example}]")
        found: list[str] = []
        for item in listed or []:
            slug = self._text(item)
            if slug is None:
                continue
            if slug in found:
                self._problem(item, f"the source {shown(slug)} stands here twice", "Keep one of them")
            elif slug not in source_lines:
                guess = nearest(slug, source_lines)
                mend = f"Did you mean {guess}?" if guess else "Name a slug that stands under `sources`"
                self._problem(item, f"there is no source {shown(slug)}", mend)
            else:
                found.append(slug)
        return tuple(found)

    def _settings(self, at: At, keys: At | None, slug: str, kind: DestinationType | None) -> dict[str, Any]:
        reader = SettingsReader(self._resolve, self._problem, ("destinations", slug, "settings"))
        settings: dict[str, Any] = {}
        if keys is not None:
            if isinstance(keys.node.value, dict):
                settings = reader.mapping(keys)
            else:
                self._wrong_type(keys, "a mapping")
                return {}
        if kind is None:
            return settings
        base = keys or At(at.node, step(at.path, "settings"))
        for inner, reason, mend in self._masking(kind.check_settings(settings), reader.secret_values):
            place, path = locate(base, inner)
            if not any(path == broken or path.startswith((broken + ".", broken + "[")) for broken in reader.broken):
                self._report.problem(place.line, place.column, path, reason, mend)
        return settings

    @staticmethod
    def _masking(problems: Sequence[SettingProblem], values: Sequence[str]) -> Sequence[SettingProblem]:
        """The same problems without the values that came from outside of the file."""

        def clean(text: str) -> str:
            for value in sorted(values, key=len, reverse=True):
                for spelling in (value, repr(value)[1:-1]):
                    text = text.replace(spelling, mask(value))
            return text

        return [(inner, clean(reason), clean(mend)) for inner, reason, mend in problems]

    # Parts of sections

    def _section(self, at: At, section: vocabulary.Section) -> dict[str, At] | None:
        """The known keys that have a value. Refuses unknown keys and those that are not built."""
        if isinstance(at.node.value, Broken):
            return None
        if not isinstance(at.node.value, dict):
            self._wrong_type(at, "a mapping")
            return None
        found: dict[str, At] = {}
        for key, node in at.node.value.items():
            path = step(at.path, key)
            line, column = at.node.key_places[key]
            place = Node(line, column, BROKEN)
            if key in section.known:
                if node.value is not None:
                    found[key] = At(node, path)
            elif key in section.unbuilt:
                self._not_built(place, path, section.unbuilt[key], "the key")
            elif key in section.elsewhere:
                self._report.problem(line, column, path, "there is no such key", section.elsewhere[key])
            else:
                guess = nearest(key, section.known)
                mend = f"Did you mean {guess}?" if guess else f"Use one of: {', '.join(section.known)}"
                self._report.problem(line, column, path, "there is no such key", mend)
        return found

    def _each(self, at: At | None, check: Callable[[At], T | None]) -> list[T]:
        listed = self._list(at) if at else None
        return [checked for item in listed or [] if (checked := check(item)) is not None]

    def _unique(self, at: At | None) -> dict[str, int]:
        """The line of each slug in a list of sections; a slug that comes again is a problem."""
        lines: dict[str, int] = {}
        for item in items(at):
            slug = item.node.value.get("slug") if isinstance(item.node.value, dict) else None
            if slug is None or not isinstance(slug.value, str):
                continue
            if slug.value in lines:
                reason = f"the slug {shown(slug.value)} is taken already in line {lines[slug.value]}"
                self._problem(At(slug, step(item.path, "slug")), reason, "Give each a slug of its own")
            else:
                lines[slug.value] = slug.line
        return lines

    def _slug(self, at: At, keys: Mapping[str, At]) -> str | None:
        if "slug" not in keys:
            self._missing(at, "slug", "slug: web")
            return None
        slug = self._text(keys["slug"])
        if slug is None or SLUG.fullmatch(slug):
            return slug
        better = re.sub(r"[^a-z0-9_-]+", "-", slug.lower()).strip("-_")[:64]
        allowed = "Start with a letter or digit; use a-z, 0-9, hyphens and underscores, 64 at most"
        mend = f"{allowed}; such as {better}" if better else allowed
        self._problem(keys["slug"], f"not a slug: {shown(slug)}", mend)
        return None

    def _name(self, keys: Mapping[str, At], slug: str | None) -> str:
        name = self._text(keys["name"]) if "name" in keys else None
        if name is not None and len(name) > _MAX_NAME_LENGTH:
            self._problem(keys["name"], f"longer than {_MAX_NAME_LENGTH} characters", "Shorten it")
        return name or slug or ""

    def _text(self, at: At) -> str | None:
        value = at.node.value
        if isinstance(value, str) and value:
            return value
        if value == "":
            self._problem(at, "empty", "Write a text here")
        elif not isinstance(value, Broken):
            self._wrong_type(at, "text")
        return None

    def _flag(self, at: At | None, *, default: bool) -> bool:
        if at is None:
            return default
        if not isinstance(at.node.value, bool | Broken):
            self._wrong_type(at, "true or false")
        return at.node.value is True

    def _list(self, at: At) -> list[At] | None:
        if not isinstance(at.node.value, list | Broken):
            self._wrong_type(at, "a list")
        return items(at) if isinstance(at.node.value, list) else None

    def _scalar_or_reference(self, at: At, steps: tuple[str, ...]) -> str | None:
        if References.kind(at.node) is None:
            return self._text(at)
        return self._resolve(at, steps)

    def _resolve(self, at: At, steps: tuple[str, ...]) -> str | None:
        """The value that a reference stands for; None when that is a problem, reported."""
        resolved = self._resolver.resolve(at.node, at.path)
        if resolved is None:
            return None
        kind, target, value = resolved
        self._references.append(Reference(steps, kind, target))
        return value

    # Reporting

    def _problem(self, at: At, reason: str, mend: str) -> None:
        self._report.problem(at.node.line, at.node.column, at.path, reason, mend)

    def _note(self, at: At, reason: str, mend: str) -> None:
        self._report.note(at.node.line, at.node.column, at.path, reason, mend)

    def _missing(self, at: At, key: str, example: str) -> None:
        self._report.problem(at.node.line, at.node.column, step(at.path, key), "missing", f"Add {example}")

    def _not_built(self, place: Node, path: str, feature: str, what: str) -> None:
        reason = f"{feature} are not built in this version"
        mend = f"Remove {what}, or wait for the version that has it"
        self._report.problem(place.line, place.column, path, reason, mend)

    def _wrong_type(self, at: At, wanted: str) -> None:
        if isinstance(at.node.value, Broken):
            return
        mend = f"Write {wanted} here"
        if References.kind(at.node):
            mend += "; {env: …} and {file: …} may stand in settings, write_keys, a hash's key and a proxy's credentials"
        elif wanted == "text" and isinstance(at.node.value, int | float):
            mend = "Put it in quotes"
        elif wanted == "a list":
            mend = "Write it as [one, another], or each on a line of its own after a hyphen"
        self._problem(at, f"{wanted} is wanted here, not {_kind(at.node)}", mend)


def _kind(node: Node) -> str:
    match node.value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"
