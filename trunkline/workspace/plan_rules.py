"""What a tracking plan's rules must be, wherever they come from: the workspace's file, JSON, CSV."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from trunkline.pipeline.tracking_plan import check_schema
from trunkline.spec.plans import MAX_RULES, MAX_SCHEMA_BYTES, PAGE, RULE_TYPES, SCREEN, TRACK, Rule
from trunkline.workspace.problem import nearest, shown

NAMED_TYPES: Final = (TRACK, PAGE, SCREEN)
"""Types of rules that may be for one name only; those of track calls always are."""
MAX_EVENT_CHARACTERS: Final = 1000
MAX_VERSION: Final = 1_000_000
MAX_SCHEMA_DEPTH: Final = 44
"""Levels of one schema: deeper ones would not fit into the workspace's file."""
TOO_MANY: Final = f"A plan has {MAX_RULES} at most: take some out, or make two plans"

_MAX_KNOWN: Final = 10_000
_good_schemas: set[bytes] = set()
"""Digests of schemas that were found to be good. To find that out takes milliseconds, and most of a file's schemas are
the same when it is loaded again."""

RuleKey = tuple[str, str, int]
"""What makes two rules different: type, event, version."""


class RuleProblem(NamedTuple):
    """``key`` is ``type``, ``event``, ``version`` or ``schema``; ``inner`` a path below the schema, as
    :func:`trunkline.workspace.yaml_tree.locate` takes it."""

    key: str
    inner: str
    reason: str
    mend: str


def key_of(rule: Rule) -> RuleKey:
    return rule.type, rule.event, rule.version


def check_heading(type: object, event: object, version: object) -> list[RuleProblem]:
    """What is wrong with a rule but for its schema; None stands for what is absent."""
    return [*_type_problems(type), *_event_problems(type, event), *_version_problems(version)]


def make_rule(type: Any, event: Any, version: Any, schema: Any) -> Rule:
    """A rule of values that :func:`check_heading` and :func:`check_rule_schema` find no fault with."""
    return Rule(type, schema, event or "", 1 if version is None else int(version))


def _type_problems(kind: object) -> list[RuleProblem]:
    known = ", ".join(RULE_TYPES)
    if kind is None:
        return [RuleProblem("type", "", "missing", f"Add type: one of {known}")]
    if not isinstance(kind, str):
        return [RuleProblem("type", "", "text is wanted here", f"Use one of: {known}")]
    if kind in RULE_TYPES:
        return []
    guess = nearest(kind.lower(), RULE_TYPES)
    mend = f"Did you mean {guess}?" if guess else f"Use one of: {known}"
    return [RuleProblem("type", "", f"there is no type of rules {shown(kind)}", mend)]


def _event_problems(kind: object, event: object) -> list[RuleProblem]:
    if event is None:
        if kind == TRACK:
            return [RuleProblem("event", "", "missing", "Add event: and the event's name, letter by letter")]
        return []
    if not isinstance(event, str):
        is_plain = isinstance(event, int | float)
        mend = "Put it in quotes" if is_plain else "Write the event's name"
        return [RuleProblem("event", "", "text is wanted here", mend)]
    if not event:
        return [RuleProblem("event", "", "empty", "Write the event's name, letter by letter")]
    if len(event) > MAX_EVENT_CHARACTERS:
        return [RuleProblem("event", "", f"longer than {MAX_EVENT_CHARACTERS} characters", "Shorten it")]
    if kind in RULE_TYPES and kind not in NAMED_TYPES:
        reason = f"says nothing in a rule of the type {kind}"
        return [RuleProblem("event", "", reason, f"Remove it: the rule is for all of them, or write type: {TRACK}")]
    return []


def _version_problems(version: object) -> list[RuleProblem]:
    if version is None or (isinstance(version, int) and not isinstance(version, bool) and 1 <= version <= MAX_VERSION):
        return []
    return [RuleProblem("version", "", f"not a whole number from 1 to {MAX_VERSION}", "Write one such as 1")]


def check_rule_schema(schema: object) -> list[RuleProblem]:
    """What is wrong with one schema; None stands for an absent one."""
    example = "schema: {type: object, properties: {properties: {type: object, required: [revenue]}}}"
    if schema is None:
        return [RuleProblem("schema", "", "missing", f"Add {example}")]
    if not isinstance(schema, dict):
        return [RuleProblem("schema", "", "a mapping is wanted here", f"Write {example}")]
    problem = _shape_problem(schema)
    if problem is not None:
        return [problem]
    encoded = msgspec.json.encode(schema)
    if len(encoded) > MAX_SCHEMA_BYTES:
        reason = f"{len(encoded)} bytes as JSON; {MAX_SCHEMA_BYTES} are the most for one schema"
        return [RuleProblem("schema", "", reason, "Make it smaller, such as by `definitions` and `$ref`")]
    digest = hashlib.sha256(encoded).digest()
    if digest in _good_schemas:
        return []
    problems = [RuleProblem("schema", path, reason, mend) for path, reason, mend in check_schema(schema)]
    if not problems:
        if len(_good_schemas) >= _MAX_KNOWN:
            _good_schemas.clear()
        _good_schemas.add(digest)
    return problems


def _shape_problem(schema: Mapping[str, Any]) -> RuleProblem | None:
    """The first value that no workspace's file could hold: it lies too deep, or is a number beyond 64 bits."""
    open_values: list[tuple[Any, str, int]] = [(schema, "", 1)]
    while open_values:
        value, path, depth = open_values.pop()
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return RuleProblem("schema", path, "a number that JSON can't hold", "Write a smaller one")
        if not isinstance(value, dict | list):
            continue
        if depth > MAX_SCHEMA_DEPTH:
            return RuleProblem("schema", path, f"nested deeper than {MAX_SCHEMA_DEPTH} levels", "Flatten it")
        if isinstance(value, dict):
            open_values += [(item, f"{path}.{key}" if path else key, depth + 1) for key, item in value.items()]
        else:
            open_values += [(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    return None
