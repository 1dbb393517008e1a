"""What the dedupe room raises.

::

    DedupeError          base; also for a wrong secret and for I/O errors, naming the file
    ├── DedupeCorrupt    a checksum, a size or a format version is wrong; names the file and how to mend it
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
