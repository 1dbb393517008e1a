"""What can go wrong with the archive.

::

    ArchiveError
    ├── StoreError          the object store failed; the same call may be made again
    │   ├── ObjectMissing   there is no object of this key
    │   └── StoreFull       no room for another object
    ├── StoreAddressError   `archive_url` names no object store that is known here
    ├── ArchiveCorrupt      an object does not hold what the index says
    └── IndexFailed         the index cannot be read or written
        ├── IndexTooNew     it was written by a newer version of the program
        └── IndexLocked     another process writes it
"""

from __future__ import annotations


class ArchiveError(Exception):
    """Base of everything the archive raises."""


class StoreError(ArchiveError):
    """The object store failed. Nothing is half done; the same call may be made again."""


class ObjectMissing(StoreError):
    """There is no object of this key."""


class StoreFull(StoreError):
    """There is no room for another object."""


class StoreAddressError(ArchiveError):
    """The address names no object store that is known here."""


class ArchiveCorrupt(ArchiveError):
    """An object does not hold what the index says."""


class IndexFailed(ArchiveError):
    """The index cannot be read or written."""


class IndexTooNew(IndexFailed):
    """The index was written by a newer version of the program."""


class IndexLocked(IndexFailed):
    """Another process writes the index."""
