"""Processes and servers that the wire tests share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from .kit import sdks
from .kit.browser import Chromium, Pages, find_chromium
from .kit.loop import BackgroundLoop
from .kit.product import Product
from .kit.proxy import FaultProxy
from .kit.sink import Sink

NPM_TIMEOUT_S = 300

FIXTURES = sdks.Sdk("fixtures", "http", ())
"""The source of requests that were written down."""


def unavailable(reason: str) -> NoReturn:
    """Skip on a developer's machine; in CI everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def node_packages() -> None:
    """Segment's npm packages below this folder, as the lock file has them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        unavailable("node and npm run Segment's JavaScript SDKs: apt-get install nodejs npm")
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
            unavailable(f"npm ci failed: {done.stderr[-2_000:]}")
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
        unavailable("no Chromium: apt-get install chromium-headless-shell")
    browser = Chromium(loop, executable)
    yield browser
    browser.close()


def configuration(of: Sequence[sdks.Sdk], sink: Sink) -> str:
    """A source and a webhook for each SDK."""
    lines = ["workspace: {slug: wire, name: Wire}", "sources:"]
    lines += [f"  - {{slug: {sdk.name}, type: {sdk.source_type}, write_keys: [{sdk.write_key}]}}" for sdk in of]
    lines.append("destinations:")
    for sdk in of:
        lines += [
            f"  - slug: hook-{sdk.name}",
            "    type: webhook",
            f"    sources: [{sdk.name}]",
            "    enabled: true",
            f"    settings: {{url: {sink.url(sdk.name)!r}}}",
        ]
    lines.append('egress: {allow_private: ["127.0.0.0/8"]}')
    return "\n".join(lines) + "\n"


class Wire:
    """A running product with a sink behind it and a proxy in front of it for each SDK."""

    def __init__(self, directory: Path, loop: BackgroundLoop) -> None:
        self.sink = Sink(loop)
        self.product = Product(directory, configuration([*sdks.ALL, FIXTURES], self.sink))
        self.proxies = {sdk.name: FaultProxy(loop, self.product.port) for sdk in sdks.ALL}

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
    problem = wire.product.fetch_browser_sdk()
    if problem is not None:
        unavailable(f"the browser SDK can't be fetched here: {problem}")
