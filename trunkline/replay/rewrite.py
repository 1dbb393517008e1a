"""What a replay changes in an event: ``integrations`` (``spec/event_path.md`` §8.5)."""

from __future__ import annotations

from typing import Final

import msgspec

_decode: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class Rewriter:
    """Replaces ``integrations`` with ``{"All": false, "<destination>": true}``: the event is meant for this destination
    alone. All else keeps its bytes, ``context.consent`` too: it is enforced anew.

    The key is the destination's name, as events name it (``spec/event_path.md`` §2.3).
    """

    def __init__(self, destination_name: str) -> None:
        self._integrations = msgspec.Raw(_encode({"All": False, destination_name: True}))

    def rewrite(self, body: bytes) -> bytes:
        """Raises msgspec.MsgspecError for what is no JSON object."""
        members = _decode(body)
        members["integrations"] = self._integrations
        return _encode(members)
