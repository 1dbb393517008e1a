"""The Tracking API over real sockets: paths, authentication, verdicts, limits to the byte, CORS."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.http_surface import Answer, Surface, request_bytes, run_surface
from trunkline.ingest.options import IngestOptions
from trunkline.ingest.responses import GIF
from trunkline.spec.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_BYTES

SUCCESS = {"success": True}
EVENT = {"type": "track", "event": "A", "userId": "u"}
TYPES = ["identify", "track", "page", "screen", "group", "alias"]
FULL = {"userId": "u", "event": "A", "groupId": "g", "previousId": "p"}


@pytest.fixture
def surface() -> Iterator[Surface]:
    with run_surface() as running:
        yield running


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def assert_error(answer: Answer, status: int, code: str) -> None:
    body = answer.json()
    assert (answer.status, body["success"], body["code"]) == (status, False, code)
    assert body["message"] == body["error"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", ["/v1/{}", "/v1/{}/", "short", "short/"])
def test_single_paths(surface: Surface, kind: str, shape: str) -> None:
    path = f"/v1/{kind[0]}" + shape[5:] if shape.startswith("short") else shape.format(kind)
    answer = surface.post(path, {**FULL, "writeKey": "wk_server"})
    assert (answer.status, answer.json()) == (200, SUCCESS)
    assert surface.events()[0]["type"] == kind
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/batch/", "/v1/import", "/v1/import/", "/v1/b", "/v1/b/"])
def test_batch_paths(surface: Surface, path: str) -> None:
    answer = surface.post(path, {"writeKey": "wk_server", "batch": [EVENT, {**FULL, "type": "alias"}]})
    assert (answer.status, answer.json()) == (200, SUCCESS)
    assert [event["type"] for event in surface.events()] == ["track", "alias"]


def test_one_chunk_a_request_and_source(surface: Surface) -> None:
    batch = [{**EVENT, "writeKey": key} for key in ("wk_server", "wk_web", "wk_server", "wk_web_2")]
    assert surface.post("/v1/batch", {"batch": batch}).status == 200
    chunks = surface.chunks()
    assert [(chunk.source, len(chunk.events)) for chunk in chunks] == [("server", 2), ("web", 2)]
    assert len({chunk.received_at_ms for chunk in chunks}) == 1


def test_name_of_the_logged_event(surface: Surface) -> None:
    batch = [
        EVENT,
        {"type": "page", "name": "P", "userId": "u"},
        {"type": "screen", "userId": "u"},
        {"type": "identify", "userId": "u", "name": "x"},
    ]
    surface.post("/v1/b", {"writeKey": "wk_server", "batch": batch})
    events = surface.chunks()[0].events
    assert [(event.type, event.name) for event in events] == [
        ("track", "A"), ("page", "P"), ("screen", ""), ("identify", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "body_key", "item_key", "source"),
    [
        (basic("wk_server:"), None, None, "server"),
        (basic("wk_server"), None, None, "server"),
        (basic("wk_server:ignored"), None, None, "server"),
        ({"authorization": "basic " + base64.b64encode(b"wk_server:").decode().rstrip("=")}, None, None, "server"),
        ({}, "wk_server", None, "server"),
        ({}, "wk_web_2", None, "web"),
        ({}, None, "wk_server", "server"),
        ({"Authorization": "Bearer token"}, "wk_server", None, "server"),
        ({"Authorization": "Bearer wk_server"}, None, None, None),
        ({"Authorization": "Basic !!!"}, "wk_server", None, "server"),
        ({"Authorization": "Basic !!!"}, None, None, None),
        ({"Authorization": ""}, None, None, None),
        (basic("wk_web:"), "wk_server", None, "server"),
        (basic("wk_web:"), "wk_web", "wk_server", "server"),
        (basic("wk_server:"), None, "nonsense", None),
        (basic("wk_server:"), "", None, "server"),
        ({}, None, None, None),
        ({}, "WK_SERVER", None, None),
    ],
)
def test_write_keys(
    surface: Surface, headers: dict[str, str], body_key: str | None, item_key: str | None, source: str | None
) -> None:
    item = {**EVENT, **({} if item_key is None else {"writeKey": item_key})}
    batch = {"batch": [item], **({} if body_key is None else {"writeKey": body_key})}
    answer = surface.post("/v1/batch", batch, headers)
    assert (answer.status, answer.json()) == (200, SUCCESS)
    assert [chunk.source for chunk in surface.chunks()] == ([] if source is None else [source])
    assert surface.unknown_keys.total == (source is None)


def test_an_unknown_key_leaves_a_trace_and_nothing_in_the_log(surface: Surface) -> None:
    event = {**EVENT, "writeKey": "wk_wrong", "context": {"library": {"name": "analytics-go", "version": "3.0"}}}
    for _ in range(2):
        assert surface.post("/v1/track", event).json() == SUCCESS
    assert surface.post("/v1/track", EVENT, {"User-Agent": "curl/8"}).json() == SUCCESS
    entries = surface.unknown_keys.entries()
    assert [(e.key_end, e.address, e.sdk, e.reason, e.count) for e in entries] == [
        ("", "127.0.0.1", "curl/8", "unknown_source", 1),
        ("rong", "127.0.0.1", "analytics-go 3.0", "unknown_source", 2),
    ]
    assert surface.chunks() == []
    assert surface.metrics.unknown_key_requests == 3
    assert surface.metrics.unknown_key_events == 3


def test_a_disabled_source_keeps_its_events_as_rejections(surface: Surface) -> None:
    answer = surface.post("/v1/batch", {"writeKey": "wk_off", "batch": [EVENT, EVENT]})
    assert answer.status == 200
    assert answer.json()["success"] is True
    assert [rejection.code for rejection in surface.rejections()] == ["source_disabled"] * 2
    assert surface.unknown_keys.entries()[0].reason == "source_disabled"
    assert surface.unknown_keys.entries()[0].key_end == "_off"


@pytest.mark.parametrize("key", ["wk_wrong", "wk_off"])
def test_401_if_the_operator_wants_it(key: str) -> None:
    with run_surface(IngestOptions(unknown_key_status=401)) as surface:
        for path, body in (("/v1/track", EVENT), ("/v1/batch", {"batch": [EVENT]})):
            assert_error(surface.post(path, {**body, "writeKey": key}), 401, "unknown_source")
        assert surface.unknown_keys.total == 2
        assert surface.post("/v1/track", {**EVENT, "writeKey": "wk_server"}).status == 200


def test_partial_acceptance(surface: Surface) -> None:
    batch = [EVENT, {"type": "track", "event": "A"}, {"type": "track", "userId": "u"}, 5]
    answer = surface.post("/v1/batch", {"writeKey": "wk_server", "batch": batch})
    body = answer.json()
    assert (answer.status, body["success"], body["code"], body["rejected_count"]) == (200, True, "multi_user_error", 3)
    assert [(item["index"], item["code"]) for item in body["rejected"]] == [
        (1, "no_user_anon_id"), (2, "event_not_defined"), (3, "bad_request"),
    ]  # fmt: skip
    assert "error" not in body
    assert len(surface.events()) == 1
    assert [(r.code, r.type) for r in surface.rejections()] == [
        ("no_user_anon_id", "track"), ("event_not_defined", "track"), ("bad_request", ""),
    ]  # fmt: skip
    assert surface.rejections()[0].excerpt == b'{"type":"track","event":"A"}'
    (chunk,) = surface.chunks()
    assert chunk.counts() == {"server": 4}


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "empty_batch"), ({"batch": []}, "empty_batch"), ({"batch": [{}]}, "empty_batch_result")],
)
def test_batches_of_nothing(surface: Surface, body: dict[str, Any], code: str) -> None:
    answer = surface.post("/v1/batch", {**body, "writeKey": "wk_server"})
    assert (answer.status, answer.json()["success"], answer.json()["code"]) == (200, True, code)
    assert surface.post("/v1/track", {"writeKey": "wk_server"}).json()["rejected"][0]["code"] == "event_not_defined"


def test_an_excerpt_is_at_most_a_kilobyte(surface: Surface) -> None:
    surface.post("/v1/track", {"writeKey": "wk_server", "event": "A", "properties": {"a": "x" * 5000}})
    assert len(surface.rejections()[0].excerpt) == 1024


def sized(
    size: int, prefix: str = '{"type":"track","event":"A","userId":"u","writeKey":"wk_server","properties":{"a":"'
) -> str:
    text = prefix + "x" * (size - len(prefix) - 3) + '"}}'
    assert len(text) == size
    return text


def test_single_event_to_the_byte(surface: Surface) -> None:
    assert surface.post("/v1/track", sized(MAX_EVENT_BYTES)).json() == SUCCESS
    answer = surface.post("/v1/track", sized(MAX_EVENT_BYTES + 1))
    assert_error(answer, 400, "invalid_request")
    assert answer.json()["message"].startswith("Exceed payload limit")
    assert len(surface.events()) == 1


def test_event_in_a_batch_to_the_byte(surface: Surface) -> None:
    body = f'{{"writeKey":"wk_server","batch":[{sized(MAX_EVENT_BYTES)},{sized(MAX_EVENT_BYTES + 1)}]}}'
    answer = surface.post("/v1/batch", body).json()
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [(1, "event_too_large")]
    assert len(surface.events()) == 1


def batch_of(size: int) -> bytes:
    events = ",".join(sized(31 * 1024) for _ in range(16))
    tail = '],"writeKey":"wk_server"}'
    head = '{"batch":['
    last = sized(size - len(head) - len(events) - 1 - len(tail))
    return f"{head}{events},{last}{tail}".encode()


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_batch_to_the_byte(surface: Surface, encoding: str | None) -> None:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    for size, status in ((MAX_BATCH_BYTES, 200), (MAX_BATCH_BYTES + 1, 400)):
        body = batch_of(size)
        assert len(body) == size
        answer = surface.post("/v1/batch", gzip.compress(body) if encoding else body, headers)
        assert answer.status == status, answer
    assert len(surface.events()) == 17


@pytest.mark.parametrize(("count", "rejected"), [(MAX_BATCH_EVENTS, 0), (MAX_BATCH_EVENTS + 1, 1)])
def test_number_of_events(surface: Surface, count: int, rejected: int) -> None:
    answer = surface.post("/v1/batch", {"writeKey": "wk_server", "batch": [EVENT] * count})
    assert answer.status == 200
    assert len(surface.events()) == MAX_BATCH_EVENTS
    assert [rejection.code for rejection in surface.rejections()] == ["batch_too_long"] * rejected
    assert answer.json().get("rejected_count", 0) == rejected


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
def test_the_content_type_does_not_matter(surface: Surface, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert surface.post("/v1/t", {**EVENT, "writeKey": "wk_server"}, headers).json() == SUCCESS
    assert len(surface.events()) == 1


BODY = json.dumps({"batch": [EVENT], "writeKey": "wk_server"}).encode()
RAW_DEFLATE = zlib.compressobj(wbits=-15)
ENCODED = [
    ("gzip", gzip.compress(BODY)),
    ("GZIP", gzip.compress(BODY)),
    ("x-gzip", gzip.compress(BODY)),
    ("gzip", gzip.compress(BODY[:20]) + gzip.compress(BODY[20:])),
    ("deflate", zlib.compress(BODY)),
    ("deflate", RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()),
    ("identity", BODY),
    ("gzip", BODY),
]


@pytest.mark.parametrize(("encoding", "body"), ENCODED)
@pytest.mark.parametrize("chunked", [False, True])
def test_content_encodings(surface: Surface, encoding: str, body: bytes, chunked: bool) -> None:
    headers = {"Content-Encoding": encoding}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
        cut = len(body) // 3
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:], b""))
    assert surface.post("/v1/b", body, headers).json() == SUCCESS
    assert len(surface.events()) == 1


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"junk"), ("gzip", gzip.compress(BODY)[:-9]), ("br", b"x"), ("zstd", b"x"), ("deflate", b"junk")],
)
def test_broken_encodings(surface: Surface, encoding: str, body: bytes) -> None:
    assert_error(surface.post("/v1/b", body, {"Content-Encoding": encoding}), 400, "invalid_request")


def test_client_counters(surface: Surface) -> None:
    series = {"series": [{"type": "Counter", "metric": "analytics_js.invoke", "value": 1, "tags": {"a": "b"}}]}
    assert surface.post("/v1/m", series, {"Content-Type": "text/plain"}).json() == SUCCESS
    assert surface.post("/v1/m", b"junk").json() == SUCCESS
    assert surface.metrics.client_counters == 2
    assert surface.chunks() == []


def pixel(surface: Surface, kind: str, query: str) -> Answer:
    answer = surface.request("GET", f"/v1/pixel/{kind}?{query}")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "image/gif", GIF)
    assert "set-cookie" not in answer.headers
    return answer


@pytest.mark.parametrize("style", ["standard", "url-safe", "unpadded", "quoted"])
@pytest.mark.parametrize("kind", TYPES)
def test_pixel_with_data(surface: Surface, kind: str, style: str) -> None:
    text = json.dumps({**FULL, "writeKey": "wk_web", "properties": {"subject": "ÿ?>~~"}}, ensure_ascii=False)
    data = base64.b64encode(text.encode()).decode()
    if style == "url-safe":
        data = data.replace("+", "-").replace("/", "_")
    elif style == "unpadded":
        data = data.rstrip("=")
    elif style == "quoted":
        data = data.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    pixel(surface, kind, f"data={data}")
    (event,) = surface.events()
    assert event["type"] == kind
    assert event["properties"] == {"subject": "ÿ?>~~"}
    assert event["context"]["ip"] == "127.0.0.1"


def test_pixel_with_plain_fields(surface: Surface) -> None:
    pixel(surface, "track", "writeKey=wk_web&userId=u&event=Email%20Opened&properties.subject=Hi+you&properties.a.b=1")
    (event,) = surface.events()
    assert event["event"] == "Email Opened"
    assert event["properties"] == {"subject": "Hi you", "a": {"b": "1"}}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "data=%%%",
        "data=!!!!",
        "data=e30",
        "data=bm8ganNvbg",
        "writeKey=nope&userId=u",
        "a=1&a.b=2",
        "=&&=;",
        "%ff=%fe",
    ],
)
def test_pixel_always_answers_an_image(surface: Surface, query: str) -> None:
    pixel(surface, "track", query)
    assert surface.events() == []
    assert surface.request("GET", "/v1/pixel/nonsense").body == GIF


def test_objects(surface: Surface) -> None:
    body = {"collection": "rooms", "objects": [{"id": "1", "properties": {"a": 1}}, {"id": "2", "properties": {}}]}
    assert surface.post("/v1/set", body, basic("wk_server:")).json() == SUCCESS
    (chunk,) = surface.chunks()
    assert [json.loads(item) for item in chunk.objects] == [
        {"collection": "rooms", "id": "1", "properties": {"a": 1}},
        {"collection": "rooms", "id": "2", "properties": {}},
    ]
    assert chunk.counts() == {"object:server": 2}
    assert_error(surface.post("/v1/set", {**body, "collection": "Rooms"}, basic("wk_server:")), 400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    ["/v1/t", "/v1/batch", "/v1/import/", "/v1/m", "/v1/set", "/v1/pixel/page", "/v1/projects/x/settings", "/zzz"],
)
def test_preflight(surface: Surface, path: str) -> None:
    answer = surface.request(
        "OPTIONS",
        path,
        headers={
            "Origin": "https://shop.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-retry-count,x-api-key",
        },
    )
    allowed = [name.strip() for name in answer.headers["access-control-allow-headers"].split(",")]
    assert {"authorization", "content-type", "x-retry-count", "x-api-key"} <= set(allowed)
    assert answer.status == 200
    assert answer.json() == SUCCESS
    assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert int(answer.headers["access-control-max-age"]) >= 3600
    assert "OPTIONS" in answer.headers["access-control-allow-methods"]
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/t", {**EVENT, "writeKey": "wk_web"}, 200),
        ("/v1/t", b"junk", 400),
        ("/v1/t", b"x" * 40_000, 400),
        ("/v1/zzz", b"", 404),
    ],
)
def test_a_page_of_another_origin_can_read_every_answer(surface: Surface, path: str, body: Any, status: int) -> None:
    answer = surface.post(path, body, {"Origin": "null"})
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "null"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]


def test_an_origin_that_is_no_text_is_not_echoed(surface: Surface) -> None:
    client = surface.client()
    head = b"POST /v1/t HTTP/1.1\r\nHost: x\r\nOrigin: a\xe9b\r\nContent-Length: 2\r\n\r\n{}"
    client.send(head)
    assert "access-control-allow-origin" not in client.read_answer().headers


def test_paths_and_methods_that_do_not_exist(surface: Surface) -> None:
    assert_error(surface.post("/v1/nothing", b"{}"), 404, "not_found")
    assert_error(surface.post("/v2/track", b"{}"), 404, "not_found")
    assert_error(surface.request("GET", "/v1/track"), 405, "method_not_allowed")
    assert_error(surface.request("PUT", "/v1/batch", b"{}"), 405, "method_not_allowed")
    assert_error(surface.post("/v1/pixel/page", b"{}"), 405, "method_not_allowed")
    assert surface.request("HEAD", "/v1/nothing").status == 404
    assert surface.request("HEAD", "/v1/track").status == 405
    assert surface.request("GET", "/").json()["success"] is True


def test_routes_that_others_serve() -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    with run_surface(cdn=other, extra_routes={"/health": other}) as surface:
        for path in (
            "/v1/projects/wk/settings",
            "/analytics.js/v1/wk/analytics.min.js",
            "/analytics-next/bundles/x",
            "/health",
        ):
            assert surface.request("GET", path).body == path.encode()
        assert surface.request("GET", "/metrics").status == 404


def test_forwarded_addresses_count_only_from_trusted_proxies() -> None:
    import ipaddress

    forwarded = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    event = {**EVENT, "writeKey": "wk_web"}
    with run_surface() as surface:
        surface.post("/v1/t", event, forwarded)
        assert surface.events()[0]["context"]["ip"] == "127.0.0.1"
    trusted = IngestOptions(
        trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("198.51.100.0/24"))
    )
    with run_surface(trusted) as surface:
        surface.post("/v1/t", event, forwarded)
        surface.post("/v1/t", event, {"X-Forwarded-For": "2001:db8::1"})
        surface.post("/v1/t", event, {"X-Forwarded-For": "::ffff:203.0.113.5"})
        surface.post("/v1/t", event, {"X-Forwarded-For": "junk"})
        addresses = [item["context"].get("ip") for item in surface.events()]
        assert addresses == ["203.0.113.9", None, "203.0.113.5", "127.0.0.1"]


def test_keep_alive_and_pipelining(surface: Surface) -> None:
    client = surface.client()
    one = request_bytes("POST", "/v1/t", json.dumps({**EVENT, "writeKey": "wk_server"}).encode())
    for _ in range(3):
        client.send(one)
        assert client.read_answer().json() == SUCCESS
    client.send(one * 5)
    for _ in range(5):
        assert client.read_answer().json() == SUCCESS
    assert len(surface.events()) == 8


def test_a_client_that_announces_its_body_is_told_to_go_on_or_not(surface: Surface) -> None:
    client = surface.client()
    body = json.dumps({**EVENT, "writeKey": "wk_server"}).encode()
    client.send(
        f"POST /v1/t HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    assert client.sock.recv(100).startswith(b"HTTP/1.1 100")
    client.send(body)
    assert client.read_answer().json() == SUCCESS
    client = surface.client()
    client.send(b"POST /v1/t HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n")
    assert_error(client.read_answer(), 400, "invalid_request")


def test_http_1_0(surface: Surface) -> None:
    client = surface.client()
    body = json.dumps({**EVENT, "writeKey": "wk_server"}).encode()
    client.send(f"POST /v1/t HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = client.read_answer()
    assert answer.json() == SUCCESS
    assert answer.headers["connection"] == "close"


def test_metrics_count_what_happened(surface: Surface) -> None:
    surface.post("/v1/batch", {"writeKey": "wk_server", "batch": [EVENT, {}]})
    surface.post("/v1/track", b"junk")
    metrics = surface.metrics
    assert (metrics.events, dict(metrics.rejected)) == (1, {"missing_type": 1})
    assert dict(metrics.refused) == {"invalid_request": 1}
    assert dict(metrics.requests) == {("batch", 200): 1, ("event", 400): 1}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }
    assert samples["trunkline_ingest_events_total",] == 1
    assert samples["trunkline_ingest_requests_total", "batch", "200"] == 1
    assert samples["trunkline_ingest_commit_seconds_count",] == 1
