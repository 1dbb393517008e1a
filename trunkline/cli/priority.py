"""What reads much beside a running server leaves the processor to it."""

from __future__ import annotations

import os
from typing import Final

NICENESS: Final = 10
"""As the archive's process has it."""


def give_way() -> None:
    """Lower the priority of this process, for good. Calling it again changes nothing."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
