"""The schema of the config store, one Alembic revision a file. :func:`migrate` brings a store up to date."""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy import Connection, inspect, text

from trunkline.workspace.errors import StoreTooNew

HEAD: Final = "0001"
"""The revision that this program works with; a test holds it against the files in ``versions``."""


def current_revision(connection: Connection) -> str | None:
    """The revision that the store is at, None for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def migrate(connection: Connection) -> None:
    """Run what is missing inside the connection's transaction. Raises StoreTooNew for an unknown revision."""
    current = current_revision(connection)
    if current == HEAD:
        return
    # Imported here because it takes longer than all the rest, and most starts have nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", "trunkline.workspace:migrations")
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise StoreTooNew(
            f"the config store is of schema {current}; this program knows {HEAD}. "
            "It was written by a newer Trunkline: start that one, or restore a backup of config.db."
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
