"""What the dedupe room raises.

::

    DedupeError          base; also for I/O errors, naming the file
    ├── DedupeCorrupt    a checksum, a size, a format version or the secret is wrong; names the file and the mend
    ├── DedupeFull       the disk has no room for a flush that was waited for; nothing is lost
    └── DedupeLocked     another process has the index open
"""

from __future__ import annotations


class DedupeError(Exception):
    """Base of everything the dedupe index raises."""


class DedupeCorrupt(DedupeError):
    """A file of the index is not what was written."""


class DedupeFull(DedupeError):
    """The disk has no room. The memtable stays in memory and goes to disk at a later flush."""


class DedupeLocked(DedupeError):
    """Another process has the index open."""
