"""What the server does by itself when it starts on an empty data directory."""

from __future__ import annotations

from pathlib import Path

from tests.support.waiting import wait_until

from .conftest import Wire
from .kit.loop import BackgroundLoop
from .kit.sdks import BROWSER

SCRIPT = f"/analytics.js/v1/{BROWSER.write_key}/analytics.min.js"


def test_the_server_fetches_the_browser_sdk_by_itself(
    tmp_path: Path, loop: BackgroundLoop, wire: Wire, browser_sdk: None
) -> None:
    """``browser_sdk`` has shown, on another server, that npm can be reached at all."""
    fresh = Wire(tmp_path, loop)
    try:
        fresh.product.start()
        assert fresh.status_of(f"/v1/projects/{BROWSER.write_key}/settings") == 200, "at once, without the SDK"
        wait_until(lambda: fresh.status_of(SCRIPT) == 200, "the script is served", timeout_s=120)
        assert fresh.product.stop() == 0
    finally:
        fresh.close()


def test_a_server_that_is_stopped_while_it_fetches_stops_in_order(tmp_path: Path, loop: BackgroundLoop) -> None:
    server = Wire(tmp_path, loop)
    try:
        server.product.start()
        assert server.product.stop() == 0
        cache = tmp_path / "data" / "cache" / "analytics-next"
        assert not list(cache.glob(".install-*")), "nothing half-made stays"
    finally:
        server.close()
