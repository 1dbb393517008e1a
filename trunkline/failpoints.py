"""Named places where a crash test may end the process or inject an error.

``TRUNKLINE_FAILPOINTS="log.append.before_fsync=kill@3,state.commit.before=enospc@1"`` kills the process the
third time the first place is passed and raises ``OSError(ENOSPC)`` the first time the second is. Without the
variable :func:`failpoint` is an empty function.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

ENVIRONMENT_VARIABLE = "TRUNKLINE_FAILPOINTS"


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device (failpoint)")


_ACTIONS: dict[str, Callable[[], None]] = {"kill": _kill, "enospc": _full_disk}


def _parse(text: str) -> dict[str, tuple[Callable[[], None], int]]:
    armed: dict[str, tuple[Callable[[], None], int]] = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition("=")
        action, _, nth = rest.partition("@")
        if action not in _ACTIONS:
            raise ValueError(f"{ENVIRONMENT_VARIABLE}: unknown action {action!r} in {part!r}; use kill or enospc")
        armed[name] = (_ACTIONS[action], int(nth or "1"))
    return armed


_armed = _parse(os.environ.get(ENVIRONMENT_VARIABLE, ""))
_passed: dict[str, int] = {}


def _check(name: str) -> None:
    armed = _armed.get(name)
    if armed is None:
        return
    action, nth = armed
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == nth:
        action()


def _nothing(name: str) -> None:
    """No failpoint is armed in this process."""


failpoint: Callable[[str], None] = _check if _armed else _nothing
"""Call with a dotted name: ``room.operation.before_step``."""
