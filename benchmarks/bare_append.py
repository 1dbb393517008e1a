"""Yardstick: one thread decodes batch bodies (msgspec, typed, nested parts left raw) and appends them with fdatasync.

Usage: ``python -m benchmarks.bare_append BODY_FILE FOLDER``; prints events a second.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

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
    decoder = msgspec.json.Decoder(Batch)
    fd = os.open(Path(sys.argv[2]) / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    events = 0
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        events += len(decoder.decode(body).batch)
        os.write(fd, body)
        os.fdatasync(fd)
    print(events / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
