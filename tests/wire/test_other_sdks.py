"""SDKs that can't be installed here: a request of exactly their path, headers, encoding and body each.

``fixtures/<sdk>.http`` is such a request in plain sight (``spec/event_path.md`` §1.15); ``Content-Encoding`` and
``Transfer-Encoding`` are carried out when it is sent.
"""

from __future__ import annotations

import gzip
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import FIXTURES, Wire
from .kit.compare import assert_is_what_was_sent

FILES = sorted((Path(__file__).parent / "fixtures").glob("*.http"))


@dataclass(frozen=True)
class Request:
    line: str
    headers: list[str]
    body: dict[str, Any]

    def header(self, name: str) -> str:
        return next((text.partition(": ")[2] for text in self.headers if text.startswith(f"{name}: ")), "")

    def parts(self) -> list[bytes]:
        """The head and the body as they go out, in separate writes."""
        raw = json.dumps(self.body, ensure_ascii=False).encode()
        if self.header("Content-Encoding") == "gzip":
            raw = gzip.compress(raw)
        headers = list(self.headers)
        if self.header("Transfer-Encoding") == "chunked":
            half = len(raw) // 2
            sent = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (raw[:half], raw[half:], b"")]
        else:
            headers.append(f"Content-Length: {len(raw)}")
            sent = [raw]
        return ["\r\n".join([self.line, *headers, "", ""]).encode(), *sent]


def load(path: Path) -> Request:
    head, _, body = path.read_text("utf-8").partition("\n\n")
    line, *headers = head.split("\n")
    return Request(line, headers, json.loads(body))


def exchange(port: int, request: Request) -> tuple[int, dict[str, Any]]:
    """Send it on a connection of its own and read the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rb") as answer:
        head, *body = request.parts()
        connection.sendall(head)
        if request.header("Expect") == "100-continue":
            assert answer.readline().startswith(b"HTTP/1.1 100 ")
            assert answer.readline() == b"\r\n"
        for part in body:
            connection.sendall(part)
        status = int(answer.readline().split()[1])
        length = 0
        while (line := answer.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, json.loads(answer.read(length))


def test_every_sdk_of_the_matrix_has_a_fixture() -> None:
    have = {path.stem.partition("-")[0] for path in FILES}
    assert have == {"go", "java", "ruby", "php", "csharp", "kotlin", "swift", "android"}


@dataclass(frozen=True)
class Exchanges:
    """All fixtures, each sent twice, as every SDK does when the answer is lost; and what arrived of them."""

    answers: dict[str, list[tuple[int, dict[str, Any]]]]
    arrived: list[dict[str, Any]]


@pytest.fixture(scope="module")
def exchanges(wire: Wire) -> Exchanges:
    answers = {}
    for path in FILES:
        request = load(path)
        answers[path.stem] = [exchange(wire.product.port, request) for _ in range(2)]
    wire.product.wait_until_drained()
    return Exchanges(answers, wire.events(FIXTURES.name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_gets_the_answer_that_it_wants(exchanges: Exchanges, path: Path) -> None:
    for status, answer in exchanges.answers[path.stem]:
        assert status == 200
        # Java's SDK insists on the boolean, Ruby's reads `error` from whatever comes.
        assert answer["success"] is True
        assert answer.get("error") is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_events_arrive_once_as_they_were_sent(exchanges: Exchanges, path: Path) -> None:
    request = load(path)
    for sent in request.body["batch"]:
        events = [event for event in exchanges.arrived if event["messageId"] == sent["messageId"]]
        assert len(events) == 1, sent["messageId"]
        assert_is_what_was_sent(events[0], sent, request.body["sentAt"])
        library = sent.get("context", {}).get("library") or request.body["context"]["library"]
        assert events[0]["context"]["library"] == library


def test_nothing_else_arrives(exchanges: Exchanges) -> None:
    """Go's batch has a messageId of its own, which is no event's."""
    sent = [event["messageId"] for path in FILES for event in load(path).body["batch"]]
    assert sorted(event["messageId"] for event in exchanges.arrived) == sorted(sent)
