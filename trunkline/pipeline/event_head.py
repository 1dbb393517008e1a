"""An event decoded in part: what most rules of tracking plans look into, and the version of the app."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.spec.app_version import MAX_LENGTH

OBJECTS: Final = frozenset(["context"])
"""Fields that are objects if they are there; little of what is in them is decoded."""


class _Context(msgspec.Struct, gc=False):
    app: Any = UNSET


class EventHead(msgspec.Struct, gc=False):
    """An event decoded as far as most rules look into it."""

    type: Any = UNSET
    messageId: Any = UNSET
    userId: Any = UNSET
    anonymousId: Any = UNSET
    groupId: Any = UNSET
    event: Any = UNSET
    name: Any = UNSET
    properties: Any = UNSET
    traits: Any = UNSET
    context: _Context | UnsetType = UNSET
    """Anything but an object can't be decoded."""


def app_version_of_head(head: EventHead) -> str:
    """As :func:`trunkline.spec.app_version.app_version_of`."""
    context = head.context
    if context is UNSET:
        return ""
    app = context.app
    version = app.get("version") if isinstance(app, dict) else ""
    return version[:MAX_LENGTH] if isinstance(version, str) else ""


decode_head: Final = msgspec.json.Decoder(EventHead).decode
"""Raises msgspec.MsgspecError for what is no object, or whose ``context`` is none."""
