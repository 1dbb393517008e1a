"""Opening what a data directory holds, to read it beside a running server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trunkline.clock import Clock
from trunkline.runtime.layout import DataDir
from trunkline.secrets import Secrets
from trunkline.settings import Settings
from trunkline.state.sqlite import SqliteStateStore
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
