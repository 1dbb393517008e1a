"""What can go wrong with a replay.

::

    ReplayError
    ├── SpecDamaged     the file that says what a replay is cannot be read
    ├── PlanDamaged     the file that says which events it holds cannot be read
    └── NothingMissed   there is no gap to replay
"""

from __future__ import annotations


class ReplayError(Exception):
    """Base of everything this room raises."""


class SpecDamaged(ReplayError):
    """The file that says what a replay is cannot be read."""


class PlanDamaged(ReplayError):
    """The file that says which events a replay holds cannot be read."""


class NothingMissed(ReplayError):
    """There is no gap to replay; the text says why."""
