"""The browser SDK in a headless Chromium, on a page of another origin that holds Segment's stock snippet."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Playwright, Request, async_playwright

from .loop import BackgroundLoop, serve
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

LOAD_TIMEOUT_MS = 30_000

_INITIALIZED = "key => window[key] && window[key].initialized"

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
        application = web.Application()
        application.router.add_get("/{name}", self._page)
        self._runner, self._port = loop.run(serve(application))

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
    """One browser for a session of tests. It lives on the background loop: the tests' own thread stays free of one."""

    def __init__(self, loop: BackgroundLoop, executable: str) -> None:
        self._loop = loop
        self._playwright, self._browser = loop.run(self._launch(executable))

    async def _launch(self, executable: str) -> tuple[Playwright, Browser]:
        playwright = await async_playwright().start()
        return playwright, await playwright.chromium.launch(executable_path=executable, args=FLAGS)

    def open(self, url: str, analytics_key: str = "analytics") -> BrowserClient:
        """A page with fresh storage; returns when the SDK has loaded on it."""
        client = BrowserClient(self._loop, analytics_key)
        self._loop.run(client.load(self._browser, url))
        return client

    def close(self) -> None:
        async def close() -> None:
            await self._browser.close()
            await self._playwright.stop()

        self._loop.run(close())


class BrowserClient:
    """The SDK on a page of its own."""

    sdk = BROWSER

    def __init__(self, loop: BackgroundLoop, analytics_key: str) -> None:
        self._loop = loop
        self._analytics_key = analytics_key
        self._printed: list[str] = []
        self.hosts_asked: set[str] = set()

    async def load(self, browser: Browser, url: str) -> None:
        self._context = await browser.new_context()
        self._page = await self._context.new_page()
        self._page.on("console", self._on_console)
        self._page.on("pageerror", lambda error: self._printed.append(f"uncaught: {error}"))
        self._page.on("request", self._on_request)
        await self._page.goto(url)
        await self._page.wait_for_function(_INITIALIZED, arg=self._analytics_key, timeout=LOAD_TIMEOUT_MS)

    def _on_console(self, message: ConsoleMessage) -> None:
        # The browser itself reports every failed request; only what the SDK says is of interest.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self._printed.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss"):
            self.hosts_asked.add(parts.hostname or "")

    def call(self, call: Call) -> None:
        self._loop.run(self._page.evaluate(_PERFORM, [self._analytics_key, self.sdk.takes(call)]))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        return self._loop.run(self._page.evaluate(expression))

    def leave_for(self, url: str) -> None:
        """The visitor follows a link."""
        self._loop.run(self._page.goto(url))

    def cookies(self, url: str) -> list[str]:
        """Names of the cookies that this address would be sent."""

        async def names() -> list[str]:
            return [cookie["name"] for cookie in await self._context.cookies([url])]

        return self._loop.run(names())

    def finish(self) -> None:
        """A visitor stays on the page; the SDK sends in its own time."""

    def output(self) -> list[str]:
        return list(self._printed)

    def close(self) -> None:
        self._loop.run(self._context.close())
