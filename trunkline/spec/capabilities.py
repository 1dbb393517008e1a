"""What a type of destination takes: calls, and kinds of sources (``spec/event_path.md`` §0, step 9)."""

from __future__ import annotations

from typing import Final

from trunkline.spec.event import TYPES

METHODS: Final = TYPES
"""The calls that there are: an event's ``type``."""

BROWSER: Final = "browser"
MOBILE: Final = "mobile"
SERVER: Final = "server"
SOURCE_KINDS: Final = frozenset({BROWSER, MOBILE, SERVER})
"""Segment's platforms, as far as they are sources of events."""

PAGE_TYPES: Final = frozenset({"javascript", "website", "amp"})
APP_TYPES: Final = frozenset(
    {
        "ios",
        "apple",
        "swift",
        "android",
        "kotlin",
        "kotlin-android",
        "react-native",
        "flutter",
        "unity",
        "xamarin",
        "roku",
    }
)


def source_kind(source_type: str) -> str:
    """The kind of a source of this type. All that is neither a page nor an app counts as a server."""
    if source_type in PAGE_TYPES:
        return BROWSER
    return MOBILE if source_type in APP_TYPES else SERVER
