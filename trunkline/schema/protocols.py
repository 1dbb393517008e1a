"""Reading ``context.protocols``: what a tracking plan did to an event (``spec/event_path.md`` §4.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from trunkline.schema.limits import MAX_DESCRIPTION_CHARACTERS, MAX_PATH_CHARACTERS
from trunkline.spec.violations import Violation

MARK: Final = b'"protocols"'
"""Stands in the bytes of every event that has them."""


@dataclass(frozen=True, slots=True)
class Protocols:
    """``omitted`` are names of unplanned properties that were taken out, ``omitted_on_violation`` of those that broke
    their rule."""

    omitted: tuple[str, ...] = ()
    omitted_on_violation: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()


NONE: Final = Protocols()


class _Event(msgspec.Struct, gc=False):
    context: Any = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_any: Final = msgspec.json.Decoder().decode


def protocols_of_event(body: bytes, source: str) -> Protocols:
    """What stands in an event of ``source``; nothing if another source's plan wrote it. Raises msgspec.MsgspecError."""
    if MARK not in body:
        return NONE
    context = _decode_event(body).context
    protocols = context.get("protocols") if isinstance(context, dict) else None
    if not isinstance(protocols, dict) or protocols.get("sourceId") != source:
        return NONE  # a client's own, such as `event_version`, or of the source that it was forwarded from
    return _read(protocols)


def protocols_of_json(text: bytes) -> Protocols:
    """What stands in the JSON of ``context.protocols`` alone, which may be empty. Raises msgspec.MsgspecError."""
    return _read(_decode_any(text)) if text else NONE


def _read(value: object) -> Protocols:
    """A client may have written anything there."""
    if not isinstance(value, Mapping):
        return NONE
    violations = value.get("violations")
    return Protocols(
        _texts(value.get("omitted")),
        _texts(value.get("omitted_on_violation")),
        tuple(_violation(item) for item in violations if isinstance(item, Mapping))
        if isinstance(violations, list)
        else (),
    )


def _texts(value: object) -> tuple[str, ...]:
    """Each once: several items of a list have one path."""
    if not isinstance(value, list):
        return ()
    return tuple(dict.fromkeys(item[:MAX_PATH_CHARACTERS] for item in value if isinstance(item, str)))


def _violation(value: Mapping[str, Any]) -> Violation:
    return Violation(
        str(value.get("type", ""))[:MAX_PATH_CHARACTERS],
        str(value.get("field", ""))[:MAX_PATH_CHARACTERS],
        str(value.get("description", ""))[:MAX_DESCRIPTION_CHARACTERS],
    )
