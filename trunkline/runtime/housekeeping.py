"""What a worker does at its start and once a minute: removes what a crash left behind, shortens the logs, the dedupe
index and the delivery record."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import structlog

from trunkline.archive.errors import ArchiveError
from trunkline.archive.index import committed_cursor
from trunkline.log.base import ACCEPTED, INGESTED, EventLog, LogError
from trunkline.settings import Settings

HOUSEKEEPING_S: Final = 60.0

_log = structlog.get_logger(__name__)


def sweep_bulk(directory: Path, keep: Collection[str]) -> list[str]:
    """Remove folders of bulk batches but those of the destinations ``keep``; which went. For the start, before any lane
    writes.

    ``keep``: destinations that have a bulk batch in the state. Files that no row speaks of are of batches that ended or
    were cancelled, as of a destination that was deleted in the moment of a crash; nobody would look for them again.
    """
    gone: list[str] = []
    if not directory.is_dir():
        return gone
    for folder in sorted(directory.iterdir()):
        if folder.name in keep or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            shutil.rmtree(folder)
        except OSError as error:
            _log.warning("bulk.not_swept", folder=str(folder), error=str(error))
            continue
        gone.append(folder.name)
    if gone:
        _log.info("bulk.swept", destinations=gone[:10], folders=len(gone))
    return gone


def archived_position(index: Path, partition: str) -> int:
    """Up to where the accepted log is in the archive. An index that cannot be read counts as nothing archived: rather
    a log that grows than events that are missing."""
    try:
        return committed_cursor(index).get(partition, 0)
    except ArchiveError as error:
        _log.error("archive.index_not_read", error=str(error))
        return 0


def warn_of_pins(log: EventLog, settings: Settings, consumed: int, marks: Mapping[str, int]) -> None:
    """Tell which destination keeps the accepted log above its budget: nothing that it has not had is dropped."""
    if log.size_bytes(ACCEPTED) <= settings.log_max_bytes:
        return
    slowest = sorted(key for key, position in marks.items() if position <= consumed)
    if slowest:
        _log.warning(
            "log.kept_for_destinations",
            destinations=slowest[:10],
            size_bytes=log.size_bytes(ACCEPTED),
            mend="enable, mend or delete them; the log is not shortened before they have had their events",
        )


async def shorten_logs(
    log: EventLog, settings: Settings, *, now_ms: int, ingested: Mapping[str, int], accepted: Mapping[str, int]
) -> None:
    """Drop what is old, or more than the budget, of what everybody has passed: positions by partition."""
    older_than_ms = now_ms - int(settings.log_retention_hours * 3_600_000)
    points = [(INGESTED, *item) for item in ingested.items()] + [(ACCEPTED, *item) for item in accepted.items()]
    for topic, partition, position in points:
        try:
            freed = await asyncio.to_thread(
                log.retain,
                topic,
                partition,
                consumed=position,
                older_than_ms=older_than_ms,
                max_bytes=settings.log_max_bytes,
            )
        except LogError as error:
            _log.error("log.not_retained", topic=topic, partition=partition, error=str(error))
            continue
        if freed:
            _log.info("log.retained", topic=topic, partition=partition, freed_bytes=freed)
