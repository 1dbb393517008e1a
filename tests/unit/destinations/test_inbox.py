from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.unit.destinations.webhook_kit import StillClock, event, events
from trunkline.destinations.inbox import InboxSender, InboxType, inbox_path
from trunkline.destinations.kit import DELIVERED_OUTCOME, HttpResponse, Result, Surroundings
from trunkline.workspace.model import Destination


class NoHttp:
    async def post(self, url: str, **_: Any) -> HttpResponse:
        raise AssertionError("an inbox sends nothing")


def open_inbox(data_dir: Path, **settings: Any) -> InboxSender:
    destination = Destination("box", "Box", "inbox", ("web",), True, settings)
    return InboxType().open(destination, Surroundings(NoHttp(), data_dir, StillClock()))


def test_it_takes_up_to_1000_events_without_waiting(tmp_path: Path) -> None:
    rules = open_inbox(tmp_path).batch
    assert (rules.events, rules.size_bytes, rules.wait_s) == (1000, 1 << 20, 0)


def test_a_batch_is_written_a_line_an_event(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path)
    batch = events(1000)
    assert asyncio.run(inbox.send(batch)) == [DELIVERED_OUTCOME] * 1000
    asyncio.run(inbox.send([event("last")]))
    lines = inbox_path(tmp_path, "box").read_bytes().splitlines()
    assert lines == [item.body for item in batch] + [event("last").body]


def test_a_disk_that_fails_means_another_attempt_for_all(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path)
    inbox_path(tmp_path, "box").mkdir()
    outcomes = asyncio.run(inbox.send(events(3)))
    assert [(outcome.result, outcome.reason) for outcome in outcomes] == [(Result.RETRY, "EIO")] * 3
