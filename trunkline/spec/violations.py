"""What of an event breaks a rule of its tracking plan, in the words of Segment (``spec/event_path.md`` §4.2, §4.6)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from trunkline.spec.discards import Discard


@dataclass(frozen=True, slots=True)
class Violation:
    """``type`` as Segment shows it, such as ``Required`` or ``Invalid Type``; ``field`` is a path such as
    ``properties.products``; ``description`` a sentence such as ``properties.products is required``."""

    type: str
    field: str
    description: str


class PlanVerdict(msgspec.Struct, frozen=True, gc=False):
    """What the plan says to one event.

    ``body`` is the event as it goes on (the same object if nothing was changed), or why it does not. ``protocols`` is
    the JSON of what is (or, for a blocked event, would be) in ``context.protocols``; empty for nothing.
    """

    body: bytes | Discard
    protocols: bytes = b""
    violations: tuple[Violation, ...] = ()
