"""What a running server records of its sources, without an archive too, and however often the process is killed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.fixtures import MakeServer
from tests.support.waiting import wait_until
from tests.support.workspace import source, workspace
from trunkline.runtime.layout import DataDir
from trunkline.schema.reader import SchemaReader

CONFIG = workspace([source("web")], [])


def test_every_event_counts_once(make_server: MakeServer) -> None:
    server = make_server(CONFIG, settings={"archive": "off"})
    server.start()
    reader = SchemaReader(DataDir(server.data_dir).schema)
    sent: Counter[str] = Counter()

    def seen() -> dict[str, int]:
        return {event.name: event.allowed for event in reader.events(event_type="track")}

    for _ in range(2):
        for number in range(20):
            name = f"E{number % 3}"
            event: dict[str, Any] = {"type": "track", "event": name, "userId": "u", "properties": {"n": number}}
            server.send("wk_web", event)
            sent[name] += 1
        server.kill_child("archive")
    assert server.stop() == 0
    server.start()
    wait_until(lambda: seen() == dict(sent), lambda: f"{seen()} is {dict(sent)}")
    [found] = reader.properties("web", "track", "E0")
    assert (found.path, found.types, found.allowed) == ("n", ("integer",), sent["E0"])
    assert server.stop() == 0
