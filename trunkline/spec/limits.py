"""Limits of the Tracking API. Sizes are bytes and KB means 1,024 bytes (``spec/event_path.md`` §1.4, §1.13)."""

from __future__ import annotations

from typing import Final

MAX_EVENT_BYTES: Final = 32 * 1024
"""One event: the body of a single-event request, or one item of a batch."""
MAX_BATCH_BYTES: Final = 500 * 1024
"""The body of a batch request, after decompression."""
MAX_BATCH_EVENTS: Final = 2_500
"""Items of one batch; the first so many are kept, the rest are rejected one by one (§12, no. 2)."""
MAX_PROPERTIES: Final = 10_000
"""Properties of one event; the extra ones are dropped and the event is kept.

An event of 32 KB can't hold so many, because a property takes at least six bytes; the limit speaks only where
``MAX_EVENT_BYTES`` does not apply.
"""
MAX_MESSAGE_ID_CHARACTERS: Final = 100

MAX_OBJECTS: Final = 10
"""Objects of one ``/v1/set`` request."""
MAX_COLLECTION_CHARACTERS: Final = 100
MAX_OBJECT_ID_CHARACTERS: Final = 100
MAX_OBJECT_VALUE_BYTES: Final = 32 * 1024
"""One property value of an object, exclusive."""

MAX_EXCERPT_BYTES: Final = 1024
"""What is kept of an event that was rejected."""
