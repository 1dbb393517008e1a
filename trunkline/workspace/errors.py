"""What the workspace room raises.

::

    WorkspaceError
    ├── SnapshotError        encoded snapshot of a version or shape that this program does not know
    └── ConfigStoreError     the config store can't be read or written: damaged, locked too long, full disk
        └── StoreTooNew      it was written by a newer Trunkline

What is wrong with a workspace's *file* is no exception but a list of ``Problem``.
"""

from __future__ import annotations


class WorkspaceError(Exception):
    """Base of everything this room raises."""


class SnapshotError(WorkspaceError):
    """These bytes are no snapshot that this program can read."""


class ConfigStoreError(WorkspaceError):
    """The config store can't be used; the message says how to mend it."""


class StoreTooNew(ConfigStoreError):
    """The config store's schema is unknown to this program."""
