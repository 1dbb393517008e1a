"""``trunkline``: puts the subcommands together.

What takes time to import is imported within functions here, so that Ctrl-C is looked after before that.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

COMMANDS: Final = (
    "serve",
    "demo",
    "send",
    "check",
    "verify",
    "why",
    "deliveries",
    "gaps",
    "lanes",
    "plans",
    "rehearse",
    "filters",
    "schema",
    "violations",
    "blocked",
    "replay",
    "export",
    "egress",
    "unknown-keys",
    "cdn",
)
"""In the order in which the help lists them; each is a module of this package."""


def program(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """The program with these commands. Others are not even imported: some need a second for that."""
    from trunkline.cli.root import new_root

    app = new_root()
    for name in names:
        import_module(f"trunkline.cli.{name.replace('-', '_')}").register(app)
    return app


def main() -> None:
    """The console script. Errors that an operator can mend are one line on standard error, exit status 2; Ctrl-C is
    one line and exit status 130, unless the command makes something else of it."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have us ignore it
    if is_ours:
        # An exception might be swallowed by what is being imported, or become another one.
        signal.signal(signal.SIGINT, _leave)
        # The result is there by then, and the interpreter would only tell at which module of its end it was.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    wanted = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if wanted is None and "--version" in sys.argv:
        wanted = "lanes"  # any that is imported quickly
    app = program([wanted] if wanted in COMMANDS else COMMANDS)
    from trunkline.secrets import SecretsError
    from trunkline.settings import SettingsError
    from trunkline.state.base import StateError
    from trunkline.workspace.errors import WorkspaceError

    try:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except (SettingsError, SecretsError, StateError, WorkspaceError) as error:
        print(f"trunkline: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _leave(signal.SIGINT, None)


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun."""
    os.write(2, b"trunkline: interrupted.\n")
    os._exit(128 + number)
