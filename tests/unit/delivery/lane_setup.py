"""Workspaces for lanes, and tighter bounds than in life."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from unittest.mock import patch

from trunkline.delivery import feed as feed_module
from trunkline.delivery import flight as flight_module
from trunkline.delivery import ledger as ledger_module
from trunkline.delivery import queue as queue_module
from trunkline.workspace.model import DeliveryOptions, Destination, Snapshot, Source


def snapshot_of(
    destinations: Mapping[str, Sequence[str]],
    *,
    disabled: Sequence[str] = (),
    delivery: Mapping[str, DeliveryOptions] | None = None,
    version: str = "",
) -> Snapshot:
    """Destinations with their sources."""
    sources = {source for names in destinations.values() for source in names}
    options = delivery or {}
    return Snapshot(
        version=repr((destinations, tuple(disabled), version)),
        slug="acme",
        name="Acme",
        sources={slug: Source(slug, slug, "http", (f"wk_{slug}",)) for slug in sources},
        destinations={
            slug: Destination(
                slug,
                slug,
                "scripted",
                tuple(names),
                slug not in disabled,
                {"version": version},
                options.get(slug, DeliveryOptions()),
            )
            for slug, names in destinations.items()
        },
    )


@contextlib.contextmanager
def tight_lanes(
    queue_events: int = 10_000, rows: int = 10_000, row_after_s: float = 1.0, read_bytes: int = 200
) -> Iterator[None]:
    """Lanes that fall behind, hit their cap and make rows sooner than in life."""
    with (
        patch.object(queue_module, "QUEUE_EVENTS", queue_events),
        patch.object(ledger_module, "ROWS_CAP", rows),
        patch.object(flight_module, "ROW_AFTER_S", row_after_s),
        patch.object(feed_module, "READ_BYTES", read_bytes),
    ):
        yield
