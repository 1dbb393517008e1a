"""How often an event may arrive twice after a kill.

A kill forgets what was sent and not yet committed. A lane begins no request while as many as the cap allows are under
way or not yet on disk, however slow the disk: the bound needs no clock.
"""

from __future__ import annotations

from trunkline.delivery.unrecorded import UNRECORDED_REQUESTS


def most_doubles(concurrency: int, events_a_request: int = 1) -> int:
    """The bound of one kill for one destination."""
    return (concurrency + UNRECORDED_REQUESTS) * events_a_request
