"""Processes and servers that the wire tests share."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.expected import missing
from tests.support.server import Server, run_trunkline
from tests.support.sink import Sink
from tests.support.workspace import source, webhook, workspace

from .kit import sdks
from .kit.browser import Chromium, Pages, find_chromium
from .kit.loop import BackgroundLoop
from .kit.proxy import FaultProxy

NPM_TIMEOUT_S = 300

FIXTURES = sdks.Sdk("fixtures", "http", ())
"""The source of requests that were written down."""


@pytest.fixture(scope="session")
def node_packages() -> None:
    """Segment's npm packages below this folder, as the lock file has them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("node and npm run Segment's JavaScript SDKs: apt-get install nodejs npm")
    wanted = hashlib.sha256((sdks.HERE / "package-lock.json").read_bytes()).hexdigest()
    modules = sdks.HERE / "node_modules"
    modules.mkdir(exist_ok=True)
    stamp = modules / ".trunkline-lock-sha256"
    with (sdks.HERE / "node_modules.lock.tmp").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--loglevel=error"],
            cwd=sdks.HERE,
            capture_output=True,
            text=True,
            timeout=NPM_TIMEOUT_S,
        )
        if done.returncode != 0:
            missing(f"npm ci failed: {done.stderr[-2_000:]}")
        stamp.write_text(wanted)


@pytest.fixture(scope="session")
def loop() -> Iterator[BackgroundLoop]:
    background = BackgroundLoop()
    yield background
    background.close()


@pytest.fixture(scope="session")
def pages(loop: BackgroundLoop) -> Iterator[Pages]:
    server = Pages(loop)
    yield server
    server.close()


@pytest.fixture(scope="session")
def chromium(node_packages: None, loop: BackgroundLoop) -> Iterator[Chromium]:
    executable = find_chromium()
    if executable is None:
        missing("no Chromium: apt-get install chromium-headless-shell")
    browser = Chromium(loop, executable)
    yield browser
    browser.close()


class Wire:
    """A running product with a sink behind it and a proxy in front of it for each SDK."""

    def __init__(self, directory: Path, loop: BackgroundLoop) -> None:
        connected = [*sdks.ALL, FIXTURES]
        self.sink = Sink()
        for sdk in connected:
            self.sink.place(sdk.name).keep_hits = True
        config = workspace(
            [source(sdk.name, sdk.write_key, type=sdk.source_type) for sdk in connected],
            [webhook(f"hook-{sdk.name}", self.sink.place(sdk.name).url, [sdk.name]) for sdk in connected],
        )
        self.product = Server(directory, config, settings={"fetch_browser_sdk": "true"})
        self.proxies = {sdk.name: FaultProxy(loop, self.product.port) for sdk in sdks.ALL}

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the webhook got of this SDK so far, in the order of arrival."""
        return [hit.json() for hit in list(self.sink.place(name).hits)]

    def books(self) -> dict[str, dict[str, int]]:
        """``verify --json`` by destination; fails the test when the books do not balance."""
        status, report = self.product.verify()
        assert (status, report["balanced"]) == (0, True), report
        books: dict[str, dict[str, int]] = report["destinations"]
        return books

    def status_of(self, path: str) -> int:
        """What the product answers to GET."""
        return self.product.request("GET", path).status

    def close(self) -> None:
        self.product.close()
        for proxy in self.proxies.values():
            proxy.close()
        self.sink.close()


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory, loop: BackgroundLoop) -> Iterator[Wire]:
    running = Wire(tmp_path_factory.mktemp("wire"), loop)
    try:
        running.product.start()
        yield running
        assert running.product.stop() == 0, running.product.log_tail()
    finally:
        running.close()


@pytest.fixture(scope="module")
def browser_sdk(wire: Wire) -> None:
    """The server has Segment's browser SDK to serve."""
    done = run_trunkline("cdn", "install", "--data-dir", wire.product.data_dir, timeout_s=NPM_TIMEOUT_S)
    if done.returncode != 0:
        missing(f"the browser SDK can't be fetched here: {done.stdout}{done.stderr}")
