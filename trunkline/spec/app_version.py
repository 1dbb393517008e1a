"""The version of the app that sent an event: ``context.app.version`` (``spec/event_path.md`` §8.6)."""

from __future__ import annotations

from typing import Final

import msgspec

MAX_LENGTH: Final = 64


class _App(msgspec.Struct):
    version: str = ""


class _Context(msgspec.Struct):
    app: _App | None = None


class _Body(msgspec.Struct):
    context: _Context | None = None


_decode: Final = msgspec.json.Decoder(_Body).decode


def app_version_of(body: bytes) -> str:
    """Empty when the event, as JSON, says none or says it in another shape than text."""
    if b'"app"' not in body:
        return ""
    try:
        decoded = _decode(body)
    except msgspec.ValidationError:
        return ""
    if decoded.context is None or decoded.context.app is None:
        return ""
    return decoded.context.app.version[:MAX_LENGTH]
