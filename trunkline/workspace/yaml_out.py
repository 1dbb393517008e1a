"""A snapshot written back as the YAML that would load to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from trunkline.secrets import mask
from trunkline.spec.plans import TrackingPlan
from trunkline.workspace.delivery_section import delivery_keys
from trunkline.workspace.destination_type import DestinationType
from trunkline.workspace.egress_section import egress_keys
from trunkline.workspace.filters_section import filters_keys
from trunkline.workspace.model import Snapshot
from trunkline.workspace.plans_section import plan_keys
from trunkline.workspace.schema_section import schema_keys
from trunkline.workspace.transformations_section import transformation_keys

_LINE_BREAKS: Final = frozenset("\x85\u2028\u2029\ufeff")
"""Characters that PyYAML writes bare in some styles and that parsers then fold into a space."""


class _Dumper(yaml.SafeDumper):
    """Writes repeated values out instead of making anchors, and text so that every parser reads the same."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if _LINE_BREAKS.isdisjoint(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def to_yaml(snapshot: Snapshot, destination_types: Mapping[str, DestinationType], *, show_secrets: bool) -> str:
    """The workspace's file.

    With ``show_secrets`` every value is written out and loading the text gives the same version. Without, values
    that came from references are references again, and secret settings that were literal are masked; the checker
    refuses masks, so such a file can't be loaded by mistake. All settings of an unknown type are masked.
    """
    writer = _Writer({} if show_secrets else {item.path: {item.kind: item.target} for item in snapshot.references})
    document: dict[str, Any] = {"workspace": {"slug": snapshot.slug, "name": snapshot.name}}
    if snapshot.sources:
        document["sources"] = [
            {
                "slug": source.slug,
                "name": source.name,
                "type": source.type,
                "write_keys": writer.value(source.write_keys, ("sources", source.slug, "write_keys")),
                "enabled": source.enabled,
                **schema_keys(source.schema_filters, source.schema_configuration),
            }
            for source in snapshot.sources.values()
        ]
    if snapshot.destinations:
        document["destinations"] = []
    for item in snapshot.destinations.values():
        kind = destination_types.get(item.type)
        secret: Iterable[str] = () if show_secrets else (kind.secret_settings if kind else ("",))
        steps = ("destinations", item.slug, "settings")
        entry = {
            "slug": item.slug,
            "name": item.name,
            "type": item.type,
            "sources": list(item.sources),
            "enabled": item.enabled,
            **delivery_keys(item.delivery),
            **filters_keys(item.filters, item.consent_categories),
            "settings": writer.value(item.settings, steps, frozenset(secret)),
        }
        document["destinations"].append(entry)
    if snapshot.tracking_plans:
        document["tracking_plans"] = [writer.plan(plan) for plan in snapshot.tracking_plans.values()]
    if snapshot.transformations:
        hidden: frozenset[str] = frozenset() if show_secrets else frozenset({"hash.key"})
        document["transformations"] = [
            writer.value(transformation_keys(item), ("transformations", item.slug), hidden)
            for item in snapshot.transformations
        ]
    egress = egress_keys(snapshot.egress, show_secrets=show_secrets)
    if egress:
        document["egress"] = writer.value(egress, ("egress",))
    return dump_yaml(document)


def dump_yaml(document: Mapping[str, Any]) -> str:
    """A document, or a section of one, as this module writes it."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


class _Writer:
    """Plain values with references put back and secrets masked."""

    def __init__(self, references: Mapping[tuple[str, ...], dict[str, str]]) -> None:
        self._references: Final = references

    def plan(self, plan: TrackingPlan) -> dict[str, Any]:
        """With its rules, or with the file that they came from."""
        reference = self._references.get(("tracking_plans", plan.slug, "rules"))
        return plan_keys(plan) if reference is None else {**plan_keys(plan, rules=False), **reference}

    def value(self, value: Any, steps: tuple[str, ...], secret: frozenset[str] = frozenset()) -> Any:
        """``secret``: paths below this value that are masked; the empty path is this value itself."""
        reference = self._references.get(steps)
        if reference is not None:
            return dict(reference)
        if isinstance(value, Mapping):
            return {key: self.value(item, (*steps, key), _below(secret, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [
                self.value(item, (*steps, str(index)), _below(secret, f"[{index}]")) for index, item in enumerate(value)
            ]
        if "" in secret and value is not None and not isinstance(value, bool):
            return mask(str(value))
        return value


def _below(secret: frozenset[str], key: str) -> frozenset[str]:
    """The paths of ``secret`` as they look from below ``key``."""
    if "" in secret:
        return secret
    paths = (
        path[len(key) :].removeprefix(".") for path in secret if path == key or path.startswith((key + ".", key + "["))
    )
    return frozenset(paths)
