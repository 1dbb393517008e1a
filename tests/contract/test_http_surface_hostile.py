"""Clients that mean harm, or do it: a clear answer, bounded memory, and a server that lives on."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.http_surface import Answer, ServerClosed, Surface, request_bytes, run_surface
from trunkline.ingest.options import IngestOptions
from trunkline.log.base import LogError, LogFull, NewRecord

EVENT = {"type": "track", "event": "A", "userId": "u", "writeKey": "wk_server"}
GOOD = json.dumps(EVENT, separators=(",", ":")).encode()


@pytest.fixture
def surface() -> Iterator[Surface]:
    with run_surface() as running:
        yield running
        assert running.post("/v1/track", GOOD).status == 200, "the server does not live on"


def memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def assert_refused(answer: Answer, status: int, reason: str) -> None:
    body = answer.json()
    assert (answer.status, body["success"]) == (status, False)
    assert reason in body["message"]
    assert body["code"]
    assert body["error"] == body["message"]


DEEP = 100_000
BROKEN = [
    (b'{"userId":"\xff"}', "invalid UTF-8 at byte 11"),
    (b'{"userId":"\xc0\x80"}', "invalid UTF-8"),
    (b'{"userId":"\xed\xa0\x80"}', "invalid UTF-8"),
    (b'{"properties":{"a":NaN}}', "malformed JSON"),
    (b'{"properties":{"a":-Infinity}}', "malformed JSON"),
    (b'{"properties":{"a":1e999}}', "malformed JSON"),
    (b'{"properties":{"a":"\x00"}}', "malformed JSON"),
    (b'{"properties":{"a":"\\ud800"}}', "malformed JSON"),
    (b'{"properties":{"a":"\\ud800abcdef"}}', "malformed JSON"),
    (b'{"properties":{"a":"\\udc00\\ud800"}}', "malformed JSON"),
    (b'{"userId":"a","userId":"b"}', 'duplicate key "userId"'),
    (b'{"event":"A","userId":"u","properties":{"a":[{"b":1,"c":2,"b":3}]}}', 'duplicate key "b"'),
    (b'{"event":"A","userId":"u","context":{"a":1,"\\u0061":1}}', 'duplicate key "a"'),
    (b'{"event":"A","userId":"u","x":{"a":1,"a":1}}', 'duplicate key "a"'),
    (b"", "malformed JSON"),
    (b"{", "malformed JSON"),
    (b"[]", "must be a JSON object"),
    (b"null", "must be a JSON object"),
    (b'"event"', "must be a JSON object"),
    (b"{}{}", "malformed JSON"),
    (b"\x00" * 100, "malformed JSON"),
    (gzip.compress(b"{}"), ""),
]


@pytest.mark.parametrize(("body", "reason"), BROKEN)
@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch"])
def test_broken_json(surface: Surface, path: str, body: bytes, reason: str) -> None:
    if path == "/v1/batch" and reason != "must be a JSON object":
        reason = reason.partition(" at byte")[0]
        body = b'{"writeKey":"wk_server","batch":[%b,%b]}' % (GOOD, body)
        if body.endswith(b",]}"):
            body = body[:-2]
    answer = surface.post(path, body, {"Authorization": "Basic d2tfc2VydmVyOg=="})
    assert_refused(answer, 400, reason)
    assert answer.json()["code"] == "invalid_request"
    assert surface.chunks() == []


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/set"])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP + b"]" * DEEP,
        b'{"batch":[' + b"[" * DEEP + b"]" * DEEP + b"]}",
        b'{"batch":[{"a":' + b'{"a":' * (DEEP // 2) + b"1" + b"}" * (DEEP // 2) + b"}]}",
        b'{"batch":' + b"[" * DEEP,
    ],
)
def test_deep_nesting(surface: Surface, path: str, body: bytes) -> None:
    assert_refused(surface.post(path, body), 400, "")


def test_deep_nesting_in_one_event(surface: Surface) -> None:
    for depth in (260, 1000, 10_000):
        body = b'{"event":"A","userId":"u","properties":{"a":' + b"[" * depth + b"]" * depth + b"}}"
        assert_refused(surface.post("/v1/track", body, {"Authorization": "Basic d2tfc2VydmVyOg=="}), 400, "")


def test_decompression_bomb(surface: Surface) -> None:
    bomb = gzip.compress(b"0" * 400_000_000, 1)
    before = memory_bytes()
    for _ in range(3):
        answer = surface.post("/v1/batch", bomb, {"Content-Encoding": "gzip"})
        assert_refused(answer, 400, "Exceed payload limit")
    small_bomb = gzip.compress(b"0" * 100_000_000, 9)
    assert len(small_bomb) < 500 * 1024
    for path in ("/v1/batch", "/v1/track", "/v1/m"):
        assert_refused(surface.post(path, small_bomb, {"Content-Encoding": "gzip"}), 400, "Exceed payload limit")
    nested = gzip.compress(b"") * 10_000
    assert_refused(surface.post("/v1/batch", nested, {"Content-Encoding": "gzip"}), 400, "gzip")
    assert memory_bytes() - before < 64 * 2**20


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_ten_gigabytes(surface: Surface, chunked: bool) -> None:
    before = memory_bytes()
    client = surface.client()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {10 * 10**9}"
    client.send(f"POST /v1/batch HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
    part = b"x" * 65536
    piece = b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 2 * 10**9:
            client.send(piece)
            sent += len(piece)
    assert sent < 10**8, "the server goes on reading"
    assert memory_bytes() - before < 64 * 2**20


@pytest.mark.parametrize(("path", "status"), [("/v1/nothing", 404), ("/v1/pixel/page", 405)])
def test_a_large_body_that_nobody_reads(surface: Surface, path: str, status: int) -> None:
    client = surface.client()
    client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**10}\r\n\r\n".encode() + b"x" * 1000)
    answer = client.read_answer()
    assert_refused(answer, status, "")
    assert answer.headers["connection"] == "close"
    with pytest.raises(ServerClosed):
        client.read_answer()


@pytest.mark.parametrize("chunked", [False, True])
def test_the_answer_to_a_body_that_is_too_large_can_be_read(surface: Surface, chunked: bool) -> None:
    """A client that sends all of 3 MB before it reads, as simple clients do."""
    body = b"x" * 3_000_000
    headers = {}
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = surface.post("/v1/batch", body, headers)
    assert_refused(answer, 400, "Exceed payload limit: this path takes at most 500 KB")
    assert answer.headers["connection"] == "close"


def test_a_slow_body_is_cut_and_others_are_served() -> None:
    with run_surface(IngestOptions(body_timeout_s=0.5)) as surface:
        clients = [surface.client() for _ in range(20)]
        for client in clients:
            client.send(b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert surface.post("/v1/track", GOOD).status == 200
        for client in clients:
            answer = client.read_answer()
            assert_refused(answer, 408, "in time")
            assert answer.headers["connection"] == "close"
        assert surface.metrics.refused["too_slow"] == 20


@pytest.mark.parametrize("head", [b"", b"P", b"POST /v1/track HTTP/1.1\r\nHost: x\r\nX-A: b"])
def test_slow_headers_are_cut(head: bytes) -> None:
    with run_surface(IngestOptions(header_timeout_s=0.2)) as surface:
        client = surface.client()
        client.send(head)
        assert_refused(client.read_answer(), 408, "headers did not arrive in time")
        client = surface.client()
        client.send(request_bytes("POST", "/v1/track", GOOD))
        assert client.read_answer().status == 200
        time.sleep(2.5)
        client.send(request_bytes("POST", "/v1/track", GOOD))
        assert client.read_answer().status == 200, "an idle connection is no slow one"


def test_idle_connections_are_closed() -> None:
    with run_surface(IngestOptions(keep_alive_s=0.2)) as surface:
        client = surface.client()
        for _ in range(2):
            client.send(request_bytes("POST", "/v1/track", GOOD))
            assert client.read_answer().status == 200
        with pytest.raises(ServerClosed):
            client.read_answer()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_large_headers(surface: Surface, head: bytes) -> None:
    client = surface.client()
    with contextlib.suppress(OSError):
        client.send(head)
        assert_refused(client.read_answer(), 431, "too large")
    assert sum(surface.metrics.connections_refused.values()) == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"junk\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"POST /v1/track HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http(surface: Surface, junk: bytes) -> None:
    client = surface.client()
    client.send(junk)
    answer = client.read_answer()
    assert_refused(answer, 400, "")
    assert answer.headers["content-type"] == "application/json"


def test_an_offer_of_another_protocol_is_declined(surface: Surface) -> None:
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert surface.post("/v1/track", GOOD, headers).status == 200


def test_a_client_that_leaves(surface: Surface) -> None:
    for head in (
        b"POST /v1/track HTTP/1.1\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/batch HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        request_bytes("POST", "/v1/track", GOOD),
    ):
        for _ in range(10):
            client = surface.client()
            client.send(head)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.close()
    assert surface.post("/v1/track", GOOD).status == 200
    deadline = time.monotonic() + 5
    while surface.server.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert surface.server.connections == 0


def test_too_many_connections() -> None:
    with run_surface(IngestOptions(max_connections=5)) as surface:
        clients = [surface.client() for _ in range(5)]
        clients[0].send(request_bytes("POST", "/v1/track", GOOD))
        assert clients[0].read_answer().status == 200
        answer = surface.client().read_answer()
        assert_refused(answer, 503, "Too many connections")
        assert int(answer.headers["retry-after"]) >= 1
        for client in clients:
            client.close()
        deadline = time.monotonic() + 5
        while surface.server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert surface.post("/v1/track", GOOD).status == 200


def test_bodies_being_received_are_bounded_together() -> None:
    with run_surface(IngestOptions(max_reading_bytes=1_000_000)) as surface:
        clients = [surface.client() for _ in range(8)]
        for client in clients:
            client.send(b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n" + b" " * 300_000)
        time.sleep(0.3)
        statuses: list[int] = []
        for client in clients:
            client.sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                answer = client.read_answer()
                statuses.append(answer.status)
                assert int(answer.headers["retry-after"]) >= 1
        assert set(statuses) == {429}
        assert 3 <= len(statuses) <= 7


class Gate:
    """An appender on which the test decides how long a commit takes and how it ends."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.error: Exception | None = None
        self.appended: list[NewRecord] = []
        self.opened = 0
        self.head = 0

    def __call__(self) -> Gate:
        self.opened += 1
        return self

    def append(self, records: Any) -> list[int]:
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        self.appended += records
        return list(range(len(records)))

    def close(self) -> None:
        return


def test_nothing_is_acknowledged_before_it_is_durable_and_overload_is_429() -> None:
    gate = Gate()
    with run_surface(open_appender=gate, max_queue_requests=3) as surface:
        waiting = [surface.client() for _ in range(3)]
        for client in waiting:
            client.send(request_bytes("POST", "/v1/track", GOOD))
        while surface.metrics.queue_requests() < 3:
            time.sleep(0.005)
        answer = surface.post("/v1/track", GOOD)
        assert_refused(answer, 429, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["x-ratelimit-reset"]) >= 1
        waiting[0].sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting[0].read_answer()
        gate.open.set()
        waiting[0].sock.settimeout(10)
        assert [client.read_answer().status for client in waiting] == [200] * 3
        assert len(gate.appended) == 3
        assert surface.post("/v1/track", GOOD).status == 200


def test_a_request_that_leaves_while_its_commit_is_under_way_is_kept() -> None:
    gate = Gate()
    with run_surface(open_appender=gate) as surface:
        client = surface.client()
        client.send(request_bytes("POST", "/v1/track", GOOD))
        while surface.metrics.queue_requests() < 1:
            time.sleep(0.005)
        client.close()
        time.sleep(0.05)
        gate.open.set()
        assert surface.post("/v1/track", GOOD).status == 200
        assert len(gate.appended) == 2


@pytest.mark.parametrize(
    ("error", "code", "reopened"),
    [(LogFull("no space"), "disk_full", False), (LogError("broken"), "unavailable", True)],
)
def test_a_log_that_fails_is_503_and_service_resumes(error: Exception, code: str, reopened: bool) -> None:
    gate = Gate()
    gate.open.set()
    with run_surface(open_appender=gate) as surface:
        assert surface.post("/v1/track", GOOD).status == 200
        gate.error = error
        answer = surface.post("/v1/track", GOOD)
        assert_refused(answer, 503, "")
        assert answer.json()["code"] == code
        assert int(answer.headers["retry-after"]) >= 1
        assert surface.metrics.disk_full() == (code == "disk_full")
        gate.error = None
        assert surface.post("/v1/track", GOOD).status == 200
        assert surface.metrics.disk_full() == 0
        assert len(gate.appended) == 2
        assert (gate.opened == 2) == reopened
        assert surface.metrics.events == 2


def test_less_free_space_than_the_reserve_is_503(tmp_path: Path) -> None:
    with run_surface(data_dir=tmp_path, reserve_bytes=2**60) as surface:
        answer = surface.post("/v1/track", GOOD)
        assert_refused(answer, 503, "full")
        assert surface.request("GET", "/v1/pixel/track?writeKey=wk_web&userId=u&event=A").status == 200
        assert surface.chunks() == []


def test_open_requests_are_answered_when_the_server_stops() -> None:
    gate = Gate()
    with run_surface(open_appender=gate) as surface:
        client = surface.client()
        client.send(request_bytes("POST", "/v1/track", GOOD))
        idle = surface.client()
        while surface.metrics.queue_requests() < 1:
            time.sleep(0.005)
        threading.Timer(0.3, gate.open.set).start()
        answers: list[Answer] = []
        reader = threading.Thread(target=lambda: answers.append(client.read_answer()))
        reader.start()
        surface._clients.clear()
    reader.join(5)
    assert answers[0].status == 200
    assert answers[0].headers["connection"] == "close" or answers[0].status == 200
    assert len(gate.appended) == 1
    with pytest.raises((ServerClosed, OSError)):
        idle.read_answer()
    idle.close()
    client.close()
