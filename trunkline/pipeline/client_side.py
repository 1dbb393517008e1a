"""Whether a destination got an event in the browser or app already (``spec/event_path.md`` §1.8).

SDKs that run destinations themselves say so in ``_metadata``: ``bundled`` holds names, ``bundledIds`` slugs. A name
that is under ``unbundled`` too has several instances, and the slugs tell which of them is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_METADATA: Final = b'"_metadata"'
_ESCAPE: Final = b"\\u"
_NAMES: Final = b'"bundled"'
_NO_NAMES: Final = (b'"bundled":["Segment.io"]', b'"bundled":[]')
_IDS: Final = b'"bundledIds"'
_NO_IDS: Final = b'"bundledIds":[]'


def sent_client_side(metadata: Any, slug: str, names: Sequence[str]) -> bool:
    """Whether ``_metadata``, whatever it holds, names the destination. ``names``: all that it answers to."""
    if not isinstance(metadata, Mapping):
        return False
    if slug in _texts(metadata.get("bundledIds")):
        return True
    bundled = _texts(metadata.get("bundled"))
    if not any(name in bundled for name in names):
        return False
    unbundled = _texts(metadata.get("unbundled"))
    return not any(name in unbundled for name in names)


def may_be_client_side(body: bytes) -> bool:
    """Whether the encoded event can name any destination so. Cheap; wrong only by saying yes."""
    if _METADATA not in body:
        return False
    if _ESCAPE in body:
        return True  # the client's own spelling: the names of keys may be written with escapes
    names = sum(body.count(form) for form in _NO_NAMES)
    return body.count(_NAMES) != names or body.count(_IDS) != body.count(_NO_IDS)


def _texts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
