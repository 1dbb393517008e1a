"""The guarded client against peers that trickle, flood, never end or speak wrong TLS."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.delivery.http_kit import (
    LOOPBACK,
    OK,
    Peer,
    Talk,
    answering,
    certificate,
    client_of,
    error_of,
    read_request,
    serving,
)
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import RESPONSE_LIMIT_BYTES
from trunkline.destinations.kit import HttpError, HttpResponse

HEAD = b"HTTP/1.1 200 OK\r\n"


def trickling(beginning: bytes, piece: bytes, *, at_once: int = 1, pause_s: float = 0.02) -> Callable[[Peer], Talk]:
    """Sends the beginning, then the piece again and again."""

    def of(peer: Peer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(peer, reader)
            writer.write(beginning)
            while True:
                writer.write(piece * at_once)
                await writer.drain()
                await asyncio.sleep(pause_s)

        return talk

    return of


async def post(url: str, *, timeout_s: float = 5) -> HttpResponse:
    async with client_of(timeout_s=timeout_s) as client:
        return await client.post(url, body=b"{}", headers={})


@pytest.mark.parametrize(
    "talk",
    [
        trickling(b"", b"H"),
        trickling(HEAD, b"X: a\r\n"),
        trickling(HEAD + b"X: ", b"a"),
        trickling(b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    ],
    ids=["status line", "headers", "one header", "100 and nothing else"],
)
def test_an_answer_that_never_begins_ends_with_the_time(talk: Callable[[Peer], Talk]) -> None:
    async def test() -> None:
        async with serving(talk) as peer, client_of(timeout_s=0.4) as client:
            error = await error_of(client, f"http://127.0.0.1:{peer.port}/")
            assert error.retryable
            # The parser gives up on endless headers before the time is up.
            assert error.code in {"ETIMEDOUT", "EPROTO"}

    asyncio.run(test())


@pytest.mark.parametrize(
    "talk",
    [
        trickling(HEAD + b"Content-Length: 10000000\r\n\r\n", b"x"),
        trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        trickling(HEAD + b"Connection: close\r\n\r\n", b"x"),
    ],
    ids=["length", "chunked", "until closed"],
)
def test_a_body_that_trickles_ends_with_the_time_and_keeps_its_status(talk: Callable[[Peer], Talk]) -> None:
    async def test() -> None:
        async with serving(talk) as peer:
            answer = await post(f"http://127.0.0.1:{peer.port}/", timeout_s=0.4)
            assert answer.status == 200
            assert set(answer.body) <= {ord("x")}

    asyncio.run(test())


@pytest.mark.parametrize(
    "talk",
    [
        answering(HEAD + b"Content-Length: 10485760\r\n\r\n" + b"x" * 10_485_760),
        trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"2000\r\n" + b"x" * 8192 + b"\r\n", pause_s=0),
        trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", at_once=5000, pause_s=0),
        trickling(HEAD + b"Connection: close\r\n\r\n", b"x" * 8192, pause_s=0),
    ],
    ids=["10 MB", "endless chunks", "endless small chunks", "endless until closed"],
)
def test_a_large_body_is_cut_off_and_not_drained(talk: Callable[[Peer], Talk]) -> None:
    async def test() -> None:
        async with serving(talk) as peer:
            answer = await post(f"http://127.0.0.1:{peer.port}/", timeout_s=30)
            assert (answer.status, len(answer.body)) == (200, RESPONSE_LIMIT_BYTES)

    asyncio.run(test())


def test_a_body_is_never_unpacked() -> None:
    bomb = gzip.compress(b"x" * 50_000_000)

    async def test() -> None:
        head = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
        async with serving(head + bomb) as peer:
            answer = await post(f"http://127.0.0.1:{peer.port}/")
            assert answer.body == bomb[:RESPONSE_LIMIT_BYTES]

    asyncio.run(test())


def test_http_1_0_and_interim_answers_are_understood() -> None:
    async def test() -> None:
        def old(peer: Peer) -> Talk:
            async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await read_request(peer, reader)
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold")
                await writer.drain()

            return talk

        async with serving(old) as peer:
            for _ in range(2):
                assert (await post(f"http://127.0.0.1:{peer.port}/")).body == b"old"
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        async with serving(interim + OK) as peer, client_of() as client:
            for _ in range(3):
                response = await client.post(f"http://127.0.0.1:{peer.port}/", body=b"{}", headers={})
                assert (response.status, response.body) == (200, b"ok")
            assert peer.connections == 1

    asyncio.run(test())


def test_a_flood_of_interim_answers_is_cut_off() -> None:
    async def test() -> None:
        flood = trickling(b"", b"HTTP/1.1 100 Continue\r\n\r\n", at_once=1000, pause_s=0)
        async with serving(flood) as peer, client_of(timeout_s=60) as client:
            error = await error_of(client, f"http://127.0.0.1:{peer.port}/")
            assert (error.code, error.retryable) == ("EPROTO", True)
            assert "interim" in error.detail

    asyncio.run(test())


def test_a_peer_that_does_not_accept_connections_ends_with_the_time() -> None:
    async def test() -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        for _ in range(4):  # the backlog
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(address)
            waiting.append(connection)
        async with client_of(timeout_s=0.3) as client:
            error = await error_of(client, f"http://127.0.0.1:{address[1]}/")
            assert (error.code, error.retryable) == ("ETIMEDOUT", True)
        for connection in waiting:
            connection.close()
        listener.close()

    asyncio.run(test())


def test_hostile_peers_hold_up_nobody_else() -> None:
    async def test() -> None:
        flood = trickling(b"", b"HTTP/1.1 100 Continue\r\n\r\n", at_once=1000, pause_s=0)
        small_chunks = trickling(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", at_once=1000, pause_s=0)
        async with (
            serving(trickling(HEAD, b"X: a\r\n", pause_s=0.2)) as slow,
            serving(flood) as flooding,
            serving(small_chunks) as chunking,
            serving() as healthy,
            client_of(timeout_s=20) as client,
        ):
            bad = [
                asyncio.create_task(client.post(f"http://127.0.0.1:{peer.port}/", body=b"{}", headers={}))
                for peer in (slow, flooding, chunking)
                for _ in range(20)
            ]
            for _ in range(20):
                response = await client.post(f"http://127.0.0.1:{healthy.port}/", body=b"{}", headers={})
                assert response.status == 200
            assert healthy.connections == 1
            assert not all(task.done() for task in bad)
            for task in bad:
                task.cancel()
            await asyncio.gather(*bad, return_exceptions=True)

    asyncio.run(test())


# -- TLS ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("127.0.0.1",), ("else.example",)])
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    server, _ = certificate(tmp_path, *names)

    async def test() -> None:
        async with serving(tls=server) as peer, client_of() as client:
            error = await error_of(client, f"https://127.0.0.1:{peer.port}/")
            assert (error.code, error.retryable) == ("CERTIFICATE", True)
            assert "self-signed" in error.detail or "self signed" in error.detail
            assert peer.requests == []

    asyncio.run(test())


@pytest.mark.parametrize(("names", "days"), [(("else.example",), 30), (("127.0.0.1",), -1)])
def test_a_certificate_for_another_host_or_of_yesterday_is_refused(
    tmp_path: Path, names: tuple[str, ...], days: int
) -> None:
    server, trusting = certificate(tmp_path, *names, days=days)

    async def test() -> None:
        async with serving(tls=server) as peer, client_of(tls=trusting) as client:
            error = await error_of(client, f"https://127.0.0.1:{peer.port}/")
            assert (error.code, error.retryable) == ("CERTIFICATE", True)
            assert peer.requests == []

    asyncio.run(test())


def test_a_certificate_that_is_trusted_is_taken(tmp_path: Path) -> None:
    server, trusting = certificate(tmp_path, "127.0.0.1")

    async def test() -> None:
        async with serving(tls=server) as peer, client_of(tls=trusting) as client:
            response = await client.post(f"https://127.0.0.1:{peer.port}/", body=b"{}", headers={})
            assert response.status == 200

    asyncio.run(test())


def test_a_peer_that_speaks_no_tls_is_an_error_to_retry() -> None:
    def plain(peer: Peer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            await reader.read()

        return talk

    async def test() -> None:
        async with serving(plain) as peer, client_of() as client:
            error = await error_of(client, f"https://127.0.0.1:{peer.port}/s3cret")
            assert (error.code, error.retryable) == ("EPROTO", True)
            assert "TLS" in error.detail
            assert "s3cret" not in error.detail

    asyncio.run(test())


# -- what is sent ------------------------------------------------------------------------------------------------


def test_a_body_in_pieces_is_chunked_or_has_the_length_that_the_caller_gives() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one,"
        yield b"two"

    async def test() -> None:
        async with serving() as peer, client_of() as client:
            url = f"http://127.0.0.1:{peer.port}/"
            await client.post(url, body=pieces(), headers={"Content-Length": "7"})
            assert peer.bodies == [b"one,two"]
            assert "chunked" not in peer.heads[0].lower()
            await client.post(url, body=pieces(), headers={})
            assert "transfer-encoding: chunked" in peer.heads[1].lower()

    asyncio.run(test())


def test_an_error_in_the_midst_of_a_body_does_not_repeat_the_address() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        raise OSError(5, "Input/output error")

    async def test() -> None:
        async with serving() as peer, client_of() as client:
            url = f"http://127.0.0.1:{peer.port}/s3cret"
            with pytest.raises(HttpError, match="Input/output error") as caught:
                await client.post(url, body=pieces(), headers={"Content-Length": "7"})
            assert "s3cret" not in str(caught.value)

    asyncio.run(test())


def test_a_time_limit_of_its_own() -> None:
    async def test() -> None:
        async with serving(trickling(b"", b"")) as peer, client_of(LOOPBACK, timeout_s=60) as client:
            with pytest.raises(HttpError, match="within 0"):
                await client.post(f"http://127.0.0.1:{peer.port}/", body=b"", headers={}, timeout_s=0.2)

    asyncio.run(test())


def test_https_only_holds_in_the_client() -> None:
    async def test() -> None:
        policy = EgressPolicy(LOOPBACK.allow_private, https_only=True)
        async with serving() as peer, client_of(policy) as client:
            error = await error_of(client, f"http://127.0.0.1:{peer.port}/")
            assert (error.code, peer.connections) == ("EGRESS_REFUSED", 0)

    asyncio.run(test())
