"""A supervisor whose machine is short of something for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trunkline.clock import SystemClock
from trunkline.runtime import supervisor as supervisor_module
from trunkline.runtime.layout import DataDir
from trunkline.runtime.supervisor import Supervisor, _Child
from trunkline.settings import Settings
from trunkline.workspace.errors import ConfigStoreError
from trunkline.workspace.model import Snapshot
from trunkline.workspace.store import ConfigStore

WORKSPACE = """\
workspace: {{slug: acme, name: Acme}}
sources:
  - {{slug: web, type: javascript, write_keys: [wk_web]}}
destinations:
  - {{slug: {slug}, type: inbox, sources: [web], enabled: true}}
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nobody signals what tests look at
            await asyncio.sleep(0.02)


def supervisor(directory: Path) -> Supervisor:
    config = directory / "workspace.yaml"
    config.write_text(WORKSPACE.format(slug="box"), "utf-8")
    data = directory / "data"
    settings = Settings(data_dir=data, config=config, port=0, shutdown_grace_s=1)
    made = Supervisor(settings, {"data_dir": str(data)}, SystemClock(), roles=("worker",))
    assert made.load_workspace() == []
    return made


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = Supervisor._spawn
    refused: list[str] = []

    async def short_of_memory(self: Supervisor, child: _Child) -> Any:
        if len(refused) < 3:
            refused.append(child.name)
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await spawn(self, child)

    monkeypatch.setattr(Supervisor, "_spawn", short_of_memory)
    monkeypatch.setattr(supervisor_module, "FIRST_BACKOFF_S", 0.01)

    async def test() -> None:
        it = supervisor(tmp_path)
        running = asyncio.create_task(it.run(lambda: None))
        await until(DataDir(tmp_path / "data").worker_status.exists)
        it._stopping.set()
        await running

    asyncio.run(test())
    assert refused == ["worker"] * 3


def test_a_workspace_that_cannot_be_stored_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    activate = ConfigStore.activate
    refused: list[str] = []

    def full_disk(self: ConfigStore, snapshot: Snapshot, origin: str) -> Any:
        if len(refused) < 2:
            refused.append(snapshot.version)
            raise ConfigStoreError("the disk is full")
        return activate(self, snapshot, origin)

    monkeypatch.setattr(supervisor_module, "WATCH_INTERVAL_S", 0.02)
    monkeypatch.setattr(supervisor_module, "RELOAD_RETRY_S", 0.02)

    async def test() -> None:
        it = supervisor(tmp_path)
        monkeypatch.setattr(ConfigStore, "activate", full_disk)
        running = asyncio.create_task(it.run(lambda: None))
        (tmp_path / "workspace.yaml").write_text(WORKSPACE.format(slug="second"), "utf-8")
        await until(lambda: "second" in it.snapshot.destinations)
        it._stopping.set()
        await running

    asyncio.run(test())
    assert len(refused) == 2
