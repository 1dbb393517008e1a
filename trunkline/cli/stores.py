"""Opening what a data directory holds, to read it beside a running server."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from trunkline.clock import Clock
from trunkline.replay.errors import SpecDamaged
from trunkline.replay.model import ReplaySpec, read_spec, replay_ids
from trunkline.runtime.layout import DataDir
from trunkline.secrets import Secrets, SecretsError
from trunkline.settings import Settings
from trunkline.state.sqlite import SqliteStateStore
from trunkline.workspace.errors import WorkspaceError
from trunkline.workspace.model import Snapshot
from trunkline.workspace.store import FILE_NAME, ConfigStore


@contextlib.contextmanager
def open_state(data: DataDir) -> Iterator[SqliteStateStore]:
    """Read only. Raises StateError, also when no worker has run here yet."""
    store = SqliteStateStore(data.state, read_only=True)
    try:
        yield store
    finally:
        store.close()


def active_snapshot(settings: Settings, clock: Clock) -> Snapshot | None:
    """The workspace that is in force; None when there is none. Raises SecretsError, WorkspaceError."""
    if not (settings.data_dir / FILE_NAME).exists():
        return None
    with ConfigStore(settings.data_dir, Secrets.open(settings.data_dir, settings.master_key), clock) as store:
        return store.active()


def read_workspace(settings: Settings, clock: Clock) -> Snapshot | None:
    """The same for a view that tells less without it, and is still of use: what is wrong goes to standard error."""
    try:
        return active_snapshot(settings, clock)
    except (SecretsError, WorkspaceError) as error:
        print(f"trunkline: what the workspace holds is not known here: {error}", file=sys.stderr)
        return None


@contextlib.contextmanager
def open_workspaces(settings: Settings, clock: Clock) -> Iterator[Callable[[str], Snapshot | None]]:
    """Workspaces by version, as they were; None for one that is not kept or cannot be read."""
    if not (settings.data_dir / FILE_NAME).exists():
        yield lambda version: None
        return
    try:
        store = ConfigStore(settings.data_dir, Secrets.open(settings.data_dir, settings.master_key), clock)
    except (SecretsError, WorkspaceError):
        yield lambda version: None  # `read_workspace` has said why
        return

    def read(version: str) -> Snapshot | None:
        try:
            return store.snapshot(version)
        except (SecretsError, WorkspaceError) as error:
            print(f"trunkline: the workspace {version} is not known here: {error}", file=sys.stderr)
            return None

    with store:
        yield read


def read_replays(directory: Path) -> list[ReplaySpec]:
    """Those that can be read, oldest first; what is wrong with another is said on standard error."""
    specs = []
    for replay_id in replay_ids(directory):
        try:
            specs.append(read_spec(directory, replay_id))
        except SpecDamaged as error:
            print(f"trunkline: {error}", file=sys.stderr)
    return specs
