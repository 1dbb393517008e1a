"""Where things lie in the data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PARTITION: Final = "0"
"""The accepted partition of the embedded engine: one worker owns it."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below one data directory. Creating them is the business of whoever writes there."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def state(self) -> Path:
        return self.root / "state.db"

    @property
    def dedupe(self) -> Path:
        return self.root / "dedupe"

    @property
    def archive(self) -> Path:
        """The archive's objects, unless `archive_url` says that they are elsewhere."""
        return self.root / "archive"

    @property
    def archive_index(self) -> Path:
        return self.root / "archive.db"

    @property
    def archive_wake(self) -> Path:
        """Whoever signals here has what was accepted so far archived at once."""
        return self.run / "archive.wake"

    @property
    def schema(self) -> Path:
        """What sources have sent: events, properties, violations."""
        return self.root / "schema.db"

    @property
    def bulk(self) -> Path:
        """Bulk batches that wait to be sent, a folder a destination."""
        return self.root / "bulk"

    @property
    def lanes_status(self) -> Path:
        """What the lanes do at the moment, for whoever looks."""
        return self.run / "lanes.json"

    @property
    def replays(self) -> Path:
        """Two files a replay: what is wanted, and which events it holds."""
        return self.root / "replays"

    @property
    def run(self) -> Path:
        """Files that speak of the running processes only."""
        return self.root / "run"

    @property
    def metrics(self) -> Path:
        return self.run / "metrics"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def worker_wake(self) -> Path:
        return self.run / "worker.wake"

    @property
    def worker_status(self) -> Path:
        return self.run / "worker.json"

    @property
    def address(self) -> Path:
        """The base URL of the Tracking API while it is served: ``http://127.0.0.1:8080``."""
        return self.run / "address"

    @property
    def starter(self) -> Path:
        """The starter workspace that ``serve`` writes when it is given none."""
        return self.root / "workspace.yaml"
