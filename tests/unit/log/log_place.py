"""Shared by the tests of the embedded log."""

from __future__ import annotations

from pathlib import Path

from trunkline.log.base import INGESTED, NewRecord, Record
from trunkline.log.embedded import EmbeddedAppender, EmbeddedLog


class FixedClock:
    """Time stands at ``ms`` until a test moves it."""

    def __init__(self, ms: int = 1_700_000_000_000) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


class Place:
    """One partition ``p`` of an embedded log; appenders that were opened through it are closed at the end."""

    def __init__(self, root: Path, segment_bytes: int = 1 << 20) -> None:
        self.root = root
        self.clock = FixedClock()
        self.segment_bytes = segment_bytes
        self._appenders: list[EmbeddedAppender] = []

    @property
    def directory(self) -> Path:
        return self.root / INGESTED / "p"

    @property
    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.seg"))

    def log(self) -> EmbeddedLog:
        return EmbeddedLog(self.root, self.clock, segment_bytes=self.segment_bytes)

    def appender(self) -> EmbeddedAppender:
        appender = self.log().appender(INGESTED, "p")
        self._appenders.append(appender)
        return appender

    def read(self, position: int = 0) -> list[Record]:
        reader = self.log().reader(INGESTED, "p", position)
        records: list[Record] = []
        try:
            while found := reader.read(5000):
                records += found
        finally:
            reader.close()
        return records

    def payloads(self) -> list[bytes]:
        return [record.payload for record in self.read()]

    def check(self) -> list[str]:
        return self.log().check(INGESTED, "p")

    def close(self) -> None:
        for appender in self._appenders:
            appender.close()


def new(payload: bytes, **counts: int) -> NewRecord:
    return NewRecord(payload, counts or {"web": 1})
