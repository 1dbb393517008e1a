"""Where an event can end. Every event at every destination ends in exactly one of these or is pending."""

from __future__ import annotations

from typing import Final

FAILED_ON_INGEST: Final = "failed_on_ingest"
FILTERED_AT_SOURCE: Final = "filtered_at_source"
ACCEPTED: Final = "accepted"
"""Passed the source stage: an outcome of the source's books, not of a destination's."""
ENTERED: Final = "entered"
"""Came from another source, forwarded: received, though ingest never saw it. Such an event has another outcome too."""
OBJECT: Final = "object"
"""An object (``/v1/set``): recorded for warehouses, apart from the events' books."""
FILTERED_AT_DESTINATION: Final = "filtered_at_destination"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"

DUPLICATE: Final = "duplicate"
"""The reason of an event that dedupe discarded."""
DESTINATION_DELETED: Final = "destination_deleted"
"""The reason of an event that was pending when its destination was deleted."""
REPLAY_CANCELLED: Final = "replay_cancelled"
"""The reason of an event that was pending when its replay was cancelled."""
ARCHIVE_UNREADABLE: Final = "archive_unreadable"
"""The reason of an event of a replay that the archive did not give back."""
MAX_EVENT_AGE: Final = "max_event_age"
"""The reason of an event of a replay that is older than its destination takes."""
RETRIES_EXHAUSTED: Final = "RETRY"
"""The reason of an event whose four hours are over, when the last answer had no code of its own."""
