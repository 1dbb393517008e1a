"""The browser SDK in a headless Chromium, on a page of another origin that holds Segment's stock snippet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from playwright.sync_api import Browser, ConsoleMessage, Request, sync_playwright

from .loop import BackgroundLoop
from .sdks import BROWSER, HERE, Call

SEGMENTS_CDN = "https://cdn.segment.com"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

_PERFORM = """([analyticsKey, call]) => {
  const analytics = window[analyticsKey], options = {};
  for (const key of ["context", "timestamp", "integrations", "messageId"]) if (key in call) options[key] = call[key];
  const perform = {
    identify: () => analytics.identify(call.userId, call.traits, options),
    track: () => analytics.track(call.event, call.properties, options),
    page: () => analytics.page(call.category, call.name, call.properties, options),
    screen: () => analytics.screen(call.category, call.name, call.properties, options),
    group: () => analytics.group(call.groupId, call.traits, options),
    alias: () => analytics.alias(call.userId, call.previousId, options),
  };
  perform[call.type]();
}"""


def find_chromium() -> str | None:
    """Debian's, headless or full."""
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


def stock_snippet(write_key: str, address: str, **options: Any) -> str:
    """Segment's own snippet for this key; the host is replaced as its documentation says, nothing else."""
    script = "process.stdout.write(require('@segment/snippet').min(JSON.parse(process.argv[1])))"
    settings = json.dumps({"apiKey": write_key, "page": False, **options})
    done = subprocess.run(
        ["node", "-e", script, settings], cwd=HERE, capture_output=True, text=True, check=True, timeout=30
    )
    assert SEGMENTS_CDN in done.stdout
    return done.stdout.replace(SEGMENTS_CDN, address)


class Pages:
    """A web server of somebody's site: ``localhost``, while the product is ``127.0.0.1``."""

    def __init__(self, loop: BackgroundLoop) -> None:
        self._loop = loop
        self._pages: dict[str, str] = {}
        self._port = loop.run(self._start())

    async def _start(self) -> int:
        application = web.Application()
        application.router.add_get("/{name}", self._page)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def _page(self, request: web.Request) -> web.Response:
        head = self._pages.get(request.match_info["name"])
        if head is None:
            return web.Response(status=204)
        page = f'<!doctype html><html><head><link rel="icon" href="data:,"><title>Shop</title>{head}</head></html>'
        return web.Response(text=page, content_type="text/html", charset="utf-8")

    def add(self, name: str, head: str) -> str:
        """The address of a page with this in its head."""
        self._pages[name] = head
        return f"http://localhost:{self._port}/{name}?utm_source=wire&utm_campaign=spring"

    def close(self) -> None:
        self._loop.run(self._runner.cleanup())


class Chromium:
    """One browser for a module of tests."""

    def __init__(self, executable: str) -> None:
        self._playwright = sync_playwright().start()
        self._browser: Browser = self._playwright.chromium.launch(executable_path=executable, args=FLAGS)

    def open(self, url: str, analytics_key: str = "analytics") -> BrowserClient:
        return BrowserClient(self._browser, url, analytics_key)

    def close(self) -> None:
        self._browser.close()
        self._playwright.stop()


class BrowserClient:
    """A page of its own, with fresh storage, on which the SDK has loaded."""

    sdk = BROWSER

    def __init__(self, browser: Browser, url: str, analytics_key: str) -> None:
        self._analytics_key = analytics_key
        self._printed: list[str] = []
        self.hosts_asked: set[str] = set()
        self._context = browser.new_context()
        self.page = self._context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._printed.append(f"uncaught: {error}"))
        self.page.on("request", self._on_request)
        self.page.goto(url)
        self.page.wait_for_function("key => window[key] && window[key].initialized", arg=analytics_key, timeout=15_000)

    def _on_console(self, message: ConsoleMessage) -> None:
        # The browser itself reports every failed request; only what the SDK says is of interest.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self._printed.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss"):
            self.hosts_asked.add(parts.hostname or "")

    def call(self, call: Call) -> None:
        self.page.evaluate(_PERFORM, [self._analytics_key, self.sdk.takes(call)])

    def finish(self) -> None:
        """A visitor stays on the page; the SDK sends in its own time."""

    def rest(self) -> None:
        """Let the browser's own events reach us."""
        self.page.wait_for_timeout(50)

    def output(self) -> list[str]:
        return list(self._printed)

    def close(self) -> None:
        self._context.close()


def in_ci() -> bool:
    return os.environ.get("CI") == "true"
