"""Tracking plans as JSON, in the shape of Segment's Public API: ``{"trackingPlan": {…}, "rules": [RuleV1, …]}``.

What is read: such a file, each of its two halves alone, the answers of the Public API as they come (below ``data``), a
bare list of rules, and the shape of Segment's former Config API, which Typewriter keeps in ``plan.json``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trunkline.spec.plans import COMMON, GROUP, IDENTIFY, MAX_RULES, TRACK, Rule
from trunkline.spec.strict_json import InvalidJson, check_utf8, load_unique
from trunkline.workspace.plan_file import MAX_FILE_BYTES, MAX_PROBLEMS, FileProblem, PlanFile, PlanFileError
from trunkline.workspace.plan_rules import TOO_MANY, RuleKey, check_heading, check_rule_schema, key_of, make_rule

_SHAPE: Final = 'Write {"trackingPlan": {"name": …}, "rules": [{"type": "TRACK", "key": …, "jsonSchema": {…}}]}'
_KEYS: Final = {"type": "type", "event": "key", "version": "version", "schema": "jsonSchema"}
_OF_CONFIG_API: Final = {"global": COMMON, "common": COMMON, "identify": IDENTIFY, "group": GROUP}


def format_json(plan: PlanFile) -> bytes:
    """Indented, with a newline at the end."""
    heading = {"slug": plan.slug, "name": plan.name, "type": "LIVE"}
    rules = [
        {"type": rule.type.upper(), "key": rule.event or None, "version": rule.version, "jsonSchema": rule.schema}
        for rule in plan.rules
    ]
    return msgspec.json.format(msgspec.json.encode({"trackingPlan": heading, "rules": rules}), indent=2) + b"\n"


def parse_json(content: bytes) -> PlanFile:
    """Raises PlanFileError."""
    return _Reader().read(_decoded(content))


def _decoded(content: bytes) -> Any:
    if len(content) > MAX_FILE_BYTES:
        mend = "Take rules out: no plan needs so many"
        raise PlanFileError([FileProblem("", f"larger than {MAX_FILE_BYTES // 2**20} MiB", mend)])
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        check_utf8(content)
        return load_unique(content)
    except InvalidJson as error:
        raise PlanFileError([FileProblem("", str(error), "Mend the file, or export the plan again")]) from None


class _Reader:
    def __init__(self) -> None:
        self._problems: list[FileProblem] = []

    def read(self, top: Any) -> PlanFile:
        base = ""
        if isinstance(top, dict) and isinstance(top.get("data"), dict):
            top, base = top["data"], "data."
        heading: dict[str, Any] = {}
        rules: Any = top
        if isinstance(top, dict):
            heading = top["trackingPlan"] if isinstance(top.get("trackingPlan"), dict) else top
            rules = top.get("rules")
            self._refuse_pages(top, base)
        path = f"{base}rules" if isinstance(top, dict) else ""
        if isinstance(rules, dict):
            found = self._config_api(rules, path)
        elif isinstance(rules, list):
            found = self._rules([(f"{path}[{index}]", rule) for index, rule in enumerate(rules[: MAX_RULES + 1])])
        else:
            raise PlanFileError([FileProblem(path, "there is no list of rules", _SHAPE)])
        if self._problems:
            raise PlanFileError(self._problems)
        name = heading.get("name") if heading.get("display_name") is None else heading.get("display_name")
        return PlanFile(_text(heading.get("slug")), _text(name), tuple(found))

    def _refuse_pages(self, top: dict[str, Any], base: str) -> None:
        pages = top.get("pagination")
        if isinstance(pages, dict) and pages.get("next"):
            mend = "Fetch the others too, and put all rules into one list"
            self._refuse(f"{base}pagination.next", "this is one page of several", mend)

    def _config_api(self, rules: dict[str, Any], path: str) -> list[Rule]:
        """``{"events": [{"name": …, "version": …, "rules": SCHEMA}], "global": SCHEMA, …}``."""
        listed: list[tuple[str, Any]] = []
        events = rules.get("events")
        for index, event in enumerate((events if isinstance(events, list) else [])[: MAX_RULES + 1]):
            listed.append((f"{path}.events[{index}]", _as_rule(event)))
        for key, kind in _OF_CONFIG_API.items():
            if rules.get(key):
                listed.append((f"{path}.{key}", {"type": kind, "jsonSchema": rules[key]}))
        return self._rules(listed)

    def _rules(self, listed: list[tuple[str, Any]]) -> list[Rule]:
        if len(listed) > MAX_RULES:
            self._refuse("rules", f"more than {MAX_RULES} rules", TOO_MANY)
            return []
        places: dict[RuleKey, str] = {}
        found = []
        for path, raw in listed:
            if len(self._problems) >= MAX_PROBLEMS:
                break
            rule = self._rule(path, raw)
            if rule is None:
                continue
            if key_of(rule) in places:
                reason = f"a rule of this type, key and version is {places[key_of(rule)]} already"
                self._refuse(path, reason, "Keep one of them, or give it another version")
            places.setdefault(key_of(rule), path)
            found.append(rule)
        return found

    def _rule(self, path: str, raw: Any) -> Rule | None:
        if not isinstance(raw, dict):
            self._refuse(path, "an object is wanted here", _SHAPE)
            return None
        kind, event, version, schema = (raw.get(key) for key in _KEYS.values())
        if isinstance(kind, str):
            kind = kind.lower()
        if isinstance(version, float) and version.is_integer():
            version = int(version)
        problems = [*check_heading(kind, event or None, version), *check_rule_schema(schema)]
        for problem in problems:
            inner = f".{problem.inner}" if problem.inner and not problem.inner.startswith("[") else problem.inner
            name = _KEYS[problem.key]
            self._refuse(f"{path}.{name}{inner}", problem.reason, _mend(problem.mend))
        return None if problems else make_rule(kind, event, version, schema)

    def _refuse(self, place: str, reason: str, mend: str) -> None:
        self._problems.append(FileProblem(place, reason, mend))


def _as_rule(event: Any) -> Any:
    """An event of the Config API as a rule of the Public API."""
    if not isinstance(event, dict):
        return event
    schema = event.get("rules")
    if isinstance(schema, dict) and event.get("description"):
        schema = {"description": event["description"], **schema}
    return {"type": TRACK, "key": event.get("name"), "version": event.get("version"), "jsonSchema": schema}


def _mend(text: str) -> str:
    """The mends speak of the workspace's file, where two keys are called otherwise."""
    return text.replace("Add event:", "Add key:").replace("Add schema:", "Add jsonSchema:")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
