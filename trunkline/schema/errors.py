"""What can go wrong with the database of what was seen.

::

    SchemaError           base of all
    ├── SchemaFailed      the database cannot be read or written; it may be tried again
    ├── SchemaLocked      another process writes it
    └── SchemaTooNew      a newer version of this program wrote it
"""

from __future__ import annotations


class SchemaError(Exception):
    """Base of everything that this room raises."""


class SchemaFailed(SchemaError):
    """The database cannot be read or written. The same may be tried again."""


class SchemaLocked(SchemaError):
    """Another process writes this database."""


class SchemaTooNew(SchemaError):
    """A newer version of this program wrote the database."""
