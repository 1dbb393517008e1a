"""Yardstick: one thread decodes batch bodies and appends them with fdatasync.

Usage: ``python -m benchmarks.bare_append BODY_FILE FOLDER full|typed``; prints events a second. ``full`` decodes
everything (orjson); ``typed`` only the top level of each event, nested parts left raw (msgspec), which is faster than
anything that looks at the whole of what it takes in.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import orjson

SECONDS = 4.0


class Event(msgspec.Struct):
    type: str
    messageId: str
    userId: str | None = None
    anonymousId: str | None = None
    event: str | None = None
    timestamp: str | None = None
    properties: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()
    integrations: msgspec.Raw = msgspec.Raw()


class Batch(msgspec.Struct):
    batch: list[Event]
    sentAt: str | None = None


def main() -> None:
    body = Path(sys.argv[1]).read_bytes()
    typed = msgspec.json.Decoder(Batch)
    full = sys.argv[3] == "full"
    fd = os.open(Path(sys.argv[2]) / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    events = 0
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        events += len(orjson.loads(body)["batch"]) if full else len(typed.decode(body).batch)
        os.write(fd, body)
        os.fdatasync(fd)
    print(events / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
