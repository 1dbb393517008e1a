"""What SDKs learn from the settings endpoint, and what they can't be made to learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from trunkline.ingest.analytics_js import AnalyticsJsAssets
from trunkline.ingest.cdn import Cdn
from trunkline.workspace.model import Snapshot

Ask = Callable[..., Any]
SETTINGS = "/v1/projects/wk_web/settings"


def segment_of(answer: Any) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    segment: dict[str, Any] = answer.json()["integrations"]["Segment.io"]
    return segment


def test_the_sdk_is_steered_back_to_the_host_it_asked(bare_cdn: Cdn, ask: Ask) -> None:
    segment = segment_of(ask(bare_cdn, SETTINGS, host="events.example.com:8443", scheme="https"))
    assert segment["apiKey"] == "wk_web"
    assert segment["apiHost"] == "events.example.com:8443/v1"
    assert segment["protocol"] == "https"
    assert segment["addBundledMetadata"] is True


def test_any_key_of_the_source_gets_its_own_key_back(bare_cdn: Cdn, ask: Ask) -> None:
    assert segment_of(ask(bare_cdn, "/v1/projects/wk_web_new/settings"))["apiKey"] == "wk_web_new"


def test_only_the_enabled_cloud_destinations_of_this_source_are_listed(bare_cdn: Cdn, ask: Ask) -> None:
    assert segment_of(ask(bare_cdn, SETTINGS))["unbundledIntegrations"] == ["Alpha", "Zeta"]
    shop = ask(bare_cdn, "/v1/projects/wk_shop/settings")
    assert segment_of(shop)["unbundledIntegrations"] == ["Alpha", "Elsewhere"]


def test_a_destinations_settings_never_reach_a_browser(bare_cdn: Cdn, ask: Ask) -> None:
    assert b"s3cret" not in ask(bare_cdn, SETTINGS).body


def test_keys_that_kotlin_decodes_are_objects(bare_cdn: Cdn, ask: Ask) -> None:
    settings = ask(bare_cdn, SETTINGS).json()
    decoded = {"integrations", "plan", "edgeFunction", "middlewareSettings", "metrics", "consentSettings"}
    for key in decoded & set(settings):
        assert isinstance(settings[key], dict), key


def test_the_sdks_own_telemetry_is_off(bare_cdn: Cdn, ask: Ask) -> None:
    assert ask(bare_cdn, SETTINGS).json()["metrics"]["sampleRate"] == 0


@pytest.mark.parametrize(
    ("key", "code"), [("wk_nobody", "unknown_source"), ("wk_old", "source_disabled"), ("../x", "not_found")]
)
def test_an_unknown_or_disabled_key_gets_a_clear_404(bare_cdn: Cdn, ask: Ask, key: str, code: str) -> None:
    answer = ask(bare_cdn, f"/v1/projects/{key}/settings")
    assert answer.status == 404
    assert {name: answer.json()[name] for name in ("success", "code")} == {"success": False, "code": code}
    assert answer.json()["message"]


def test_unknown_keys_leave_a_trace(tmp_path: Path, snapshot: Snapshot, ask: Ask) -> None:
    seen: list[tuple[str, ...]] = []
    cdn = Cdn(
        lambda: snapshot,
        AnalyticsJsAssets(tmp_path),
        trusted_proxies=[ip_network("10.0.0.0/8")],
        on_unknown_key=lambda *trace: seen.append(trace),
    )
    ask(cdn, "/v1/projects/wk_nobody/settings", client="198.51.100.7", user_agent="analytics-ios/9")
    ask(cdn, "/analytics.js/v1/wk_old/analytics.min.js", client="10.0.0.1", x_forwarded_for="198.51.100.8")
    ask(cdn, SETTINGS)
    assert seen == [
        ("wk_nobody", "198.51.100.7", "analytics-ios/9", "unknown_source"),
        ("wk_old", "198.51.100.8", "", "source_disabled"),
    ]


@pytest.mark.parametrize(
    "host",
    [
        'evil.example/"x',
        "evil.example/path",
        "user@evil.example",
        "a b",
        "a,b",
        "evil.example?x",
        "evil.example#x",
        "evil.example\\x",
        "h:1:2",
        "[::1",
        "h:port",
        b"h\xff",
        "-h",
    ],
)
def test_a_host_that_no_browser_sends_is_refused(bare_cdn: Cdn, ask: Ask, host: str | bytes) -> None:
    answer = ask(bare_cdn, SETTINGS, host=host)
    assert answer.status == 400
    assert answer.json()["code"] == "bad_request"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "xn--bcher-kva.example", "a_b.example"])
def test_a_host_that_browsers_send_is_taken(bare_cdn: Cdn, ask: Ask, host: str) -> None:
    assert segment_of(ask(bare_cdn, SETTINGS, host=host))["apiHost"] == f"{host}/v1"


def test_without_a_host_the_servers_own_address_is_taken(bare_cdn: Cdn, ask: Ask) -> None:
    assert segment_of(ask(bare_cdn, SETTINGS, host=""))["apiHost"] == "192.0.2.1:8080/v1"


def test_forwarded_headers_count_from_a_trusted_proxy_only(tmp_path: Path, snapshot: Snapshot, ask: Ask) -> None:
    cdn = Cdn(lambda: snapshot, AnalyticsJsAssets(tmp_path), trusted_proxies=[ip_network("10.0.0.0/8")])
    forwarded = {"x_forwarded_proto": "https", "x_forwarded_host": "cdn.example.com"}
    trusted = ask(cdn, SETTINGS, client="::ffff:10.1.2.3", **forwarded)
    assert (segment_of(trusted)["protocol"], segment_of(trusted)["apiHost"]) == ("https", "cdn.example.com/v1")
    assert trusted.header("vary") == "X-Forwarded-Host, X-Forwarded-Proto"
    stranger = ask(cdn, SETTINGS, client="203.0.113.9", **forwarded)
    assert (segment_of(stranger)["protocol"], segment_of(stranger)["apiHost"]) == (
        "http",
        "events.example.com/v1",
    )
    assert ask(cdn, SETTINGS, client="10.1.2.3", x_forwarded_host='x"y').status == 400
    assert ask(cdn, SETTINGS, client="10.1.2.3", x_forwarded_proto="javascript").status == 400


def test_a_public_url_wins_over_every_header(tmp_path: Path, snapshot: Snapshot, ask: Ask) -> None:
    cdn = Cdn(
        lambda: snapshot,
        AnalyticsJsAssets(tmp_path),
        public_url="https://cdp.example.com/segment/",
        trusted_proxies=[ip_network("0.0.0.0/0")],
    )
    answer = ask(cdn, SETTINGS, host="other.example", x_forwarded_host="third.example")
    assert segment_of(answer)["apiHost"] == "cdp.example.com/segment/v1"
    assert segment_of(answer)["protocol"] == "https"


@pytest.mark.parametrize(
    "url", ["cdp.example.com", "ftp://x", "https://", "https://a b", "https://h/?q", "https://u@h"]
)
def test_a_public_url_that_is_none_is_refused_at_start(tmp_path: Path, snapshot: Snapshot, url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Cdn(lambda: snapshot, AnalyticsJsAssets(tmp_path), public_url=url)


def test_only_an_address_that_was_configured_may_be_kept_in_a_shared_cache(
    tmp_path: Path, snapshot: Snapshot, bare_cdn: Cdn, ask: Ask
) -> None:
    assert str(ask(bare_cdn, SETTINGS).header("cache-control")).startswith("private,")
    fixed = Cdn(lambda: snapshot, AnalyticsJsAssets(tmp_path), public_url="https://cdp.example.com")
    assert str(ask(fixed, SETTINGS).header("cache-control")).startswith("public,")


def test_settings_follow_the_snapshot(tmp_path: Path, snapshot: Snapshot, ask: Ask) -> None:
    current = [snapshot]
    cdn = Cdn(lambda: current[0], AnalyticsJsAssets(tmp_path))
    first = ask(cdn, SETTINGS)
    assert ask(cdn, SETTINGS, if_none_match=first.header("etag")).status == 304
    current[0] = Snapshot(version="2", slug="acme", name="Acme", sources=snapshot.sources, destinations={})
    second = ask(cdn, SETTINGS, if_none_match=first.header("etag"))
    assert segment_of(second)["unbundledIntegrations"] == []


def test_head_has_the_headers_of_get_and_no_body(bare_cdn: Cdn, ask: Ask) -> None:
    get, head = ask(bare_cdn, SETTINGS), ask(bare_cdn, SETTINGS, "HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert int(get.header("content-length")) == len(get.body)


def test_preflight_allows_what_is_asked(bare_cdn: Cdn, ask: Ask) -> None:
    answer = ask(bare_cdn, SETTINGS, "OPTIONS", access_control_request_headers="authorization,x-api-key")
    assert answer.status == 204
    assert answer.header("access-control-allow-headers") == "authorization,x-api-key"
    assert "GET" in str(answer.header("access-control-allow-methods"))
    odd = ask(bare_cdn, SETTINGS, "OPTIONS", access_control_request_headers="a: b\x00")
    assert odd.header("access-control-allow-headers") == "*"


def test_other_methods_are_refused(bare_cdn: Cdn, ask: Ask) -> None:
    answer = ask(bare_cdn, SETTINGS, "POST")
    assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, OPTIONS")
    assert json.loads(answer.body)["success"] is False


@pytest.mark.parametrize("path", ["/", "/v1/projects/wk_web", "/analytics.js/v1/wk_web/analytics.classic.js", "/x\n"])
def test_other_paths_are_not_found(bare_cdn: Cdn, ask: Ask, path: str) -> None:
    answer = ask(bare_cdn, path)
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
