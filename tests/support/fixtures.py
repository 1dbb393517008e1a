"""Fixtures of the tests of the whole process tree; a suite's conftest imports them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.server import Server
from tests.support.sink import Sink


class MakeServer(Protocol):
    """Makes a server that ends with the test."""

    def __call__(
        self, config: str, *, data_dir: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> Server: ...


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    servers: list[Server] = []

    def make(config: str, *, data_dir: Path | None = None, settings: Mapping[str, str] | None = None) -> Server:
        server = Server(tmp_path / f"server{len(servers)}", config, data_dir=data_dir, settings=settings)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()
