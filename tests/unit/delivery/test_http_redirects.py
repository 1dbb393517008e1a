"""Redirects, and names that change: every address on the way is judged, each time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.unit.delivery.http_kit import LOOPBACK, OK, answering, certificate, client_of, error_of, serving
from trunkline.delivery import connector, resolver
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import GuardedClient
from trunkline.destinations.kit import HttpError, HttpResponse

ONE_ADDRESS = EgressPolicy((ip_network("127.0.0.1"),))


def redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode(
        "utf-8", "surrogateescape"
    )


async def post(
    client: GuardedClient, url: str, headers: Mapping[str, str] | None = None, *, hops: int = 3
) -> HttpResponse:
    return await client.post(url, body=b'{"a":1}', headers=headers or {}, follow_redirects=hops)


@pytest.mark.parametrize("status", [307, 308])
def test_method_and_body_stay_along_the_way(status: int) -> None:
    async def test() -> None:
        def answer(head: bytes) -> bytes:
            return OK if b"/new" in head else redirect(status, "/new?x=1")

        async with serving(answering(answer)) as peer, client_of() as client:
            response = await post(client, f"http://127.0.0.1:{peer.port}/old", {"X-Key": "k"})
            assert (response.status, response.body) == (200, b"ok")
            assert [head.split("\r\n")[0] for head in peer.heads] == ["POST /old HTTP/1.1", "POST /new?x=1 HTTP/1.1"]
            assert peer.bodies == [b'{"a":1}'] * 2
            assert all("X-Key: k" in head for head in peer.heads), "the same origin keeps its headers"

    asyncio.run(test())


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_redirects_that_drop_the_body_are_answers(status: int) -> None:
    async def test() -> None:
        async with serving(redirect(status, "/new")) as peer, client_of() as client:
            assert (await post(client, f"http://127.0.0.1:{peer.port}/")).status == status
            assert len(peer.requests) == 1

    asyncio.run(test())


def test_hops_are_counted() -> None:
    async def test() -> None:
        async with serving(redirect(307, "/")) as peer, client_of() as client:
            for hops in (0, 1, 3):
                peer.requests.clear()
                assert (await post(client, f"http://127.0.0.1:{peer.port}/", hops=hops)).status == 307
                assert len(peer.requests) == hops + 1

    asyncio.run(test())


def test_a_body_in_pieces_cannot_be_sent_again() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"once"

    async def test() -> None:
        async with serving(redirect(307, "/new")) as peer, client_of() as client:
            url = f"http://127.0.0.1:{peer.port}/"
            response = await client.post(url, body=pieces(), headers={"Content-Length": "4"}, follow_redirects=3)
            assert (response.status, len(peer.requests)) == (307, 1)

    asyncio.run(test())


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://localhost.test:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433:{port}/",
        "http://127.0.0.1:6379/",
        "http://user:pass@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@else.example/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http:///",
        "http://127.0.0.1:{port}/\x01",
        "http://[::1/",
    ],
)
def test_a_redirect_to_what_is_forbidden_is_refused(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0))]
    )

    async def test() -> None:
        async with serving() as other:
            async with (
                serving(redirect(307, location.format(port=other.port))) as peer,
                client_of(ONE_ADDRESS) as client,
            ):
                with pytest.raises(HttpError) as caught:
                    await post(client, f"http://127.0.0.1:{peer.port}/")
                # A header with a control character is no HTTP to begin with.
                assert caught.value.code == "EGRESS_REFUSED" or "\x01" in location
                assert len(peer.requests) == 1
            assert other.connections == 0

    asyncio.run(test())


def test_another_origin_gets_no_headers_that_may_be_secret() -> None:
    async def test() -> None:
        async with serving() as other:
            target = f"http://127.0.0.1:{other.port}/"
            async with serving(redirect(307, target)) as peer, client_of() as client:
                headers = {"Authorization": "Bearer x", "X-Key": "k", "Cookie": "c", "Content-Type": "text/x"}
                assert (await post(client, f"http://127.0.0.1:{peer.port}/", headers)).status == 200
            (head,) = other.heads
            assert "Content-Type: text/x" in head
            for name in ("Authorization", "X-Key", "Cookie"):
                assert name not in head
            assert other.bodies == [b'{"a":1}']

    asyncio.run(test())


def test_never_from_https_to_http(tmp_path: Path) -> None:
    server, trusting = certificate(tmp_path, "127.0.0.1")

    async def test() -> None:
        async with serving() as other:
            location = f"http://127.0.0.1:{other.port}/"
            async with serving(redirect(308, location), tls=server) as peer, client_of(tls=trusting) as client:
                with pytest.raises(HttpError, match="from https to http"):
                    await post(client, f"https://127.0.0.1:{peer.port}/")
            assert other.connections == 0

    asyncio.run(test())


def test_one_time_limit_covers_all_hops() -> None:
    async def test() -> None:
        async with serving(redirect(307, "/")) as peer, client_of(timeout_s=0.3) as client:
            error = None
            with pytest.raises(HttpError) as caught:
                await post(client, f"http://127.0.0.1:{peer.port}/", hops=1_000_000)
            error = caught.value
            assert error.code == "ETIMEDOUT"
            assert len(peer.requests) > 1

    asyncio.run(test())


def test_a_policy_that_changes_on_the_way_holds_for_the_next_hop() -> None:
    async def test() -> None:
        policy = LOOPBACK

        def answer(head: bytes) -> bytes:
            nonlocal policy
            policy = ONE_ADDRESS
            return redirect(307, f"http://127.0.0.2:{other.port}/")

        client = GuardedClient(lambda: policy, timeout_s=5)
        async with serving(host="127.0.0.2") as other, serving(answering(answer)) as peer:
            with pytest.raises(HttpError) as caught:
                await post(client, f"http://127.0.0.1:{peer.port}/")
            assert caught.value.code == "EGRESS_REFUSED"
            assert other.connections == 0
        await client.close()

    asyncio.run(test())


# -- rebinding ---------------------------------------------------------------------------------------------------


def changing(answers: list[list[str]]) -> Any:
    """A name server that answers differently each time, in the end always the last."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        now = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in now]

    return getaddrinfo, asked


def test_a_name_that_changes_between_check_and_connect_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    getaddrinfo, asked = changing([["127.0.0.1"], ["127.0.0.2"]])
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(resolver, "CACHE_S", 0)
    monkeypatch.setattr(resolver, "STALE_S", 0)

    async def test() -> None:
        closing = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
        async with AsyncExitStack() as stack:
            peer = await stack.enter_async_context(serving(closing))
            inside = await stack.enter_async_context(serving(host="127.0.0.2", port=peer.port))
            client = await stack.enter_async_context(client_of(ONE_ADDRESS))
            url = f"http://rebinding.test:{peer.port}/"
            assert (await client.post(url, body=b"", headers={})).status == 200
            assert asked == ["rebinding.test"], "one answer is checked and connected to"
            error = await error_of(client, url)
            assert (error.code, error.retryable) == ("EGRESS_REFUSED", False)
            assert len(asked) == 2
            assert (peer.connections, inside.connections) == (1, 0)

    asyncio.run(test())


def test_of_mixed_answers_only_the_allowed_addresses_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    getaddrinfo, _ = changing([["127.0.0.2", "127.0.0.1", "127.0.0.3"]])
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def test() -> None:
        async with serving() as peer, serving(host="127.0.0.2", port=peer.port) as inside:
            async with client_of(ONE_ADDRESS) as client:
                assert (await client.post(f"http://mixed.test:{peer.port}/", body=b"", headers={})).status == 200
            assert (peer.connections, inside.connections) == (1, 0)

    asyncio.run(test())


def test_a_name_of_private_addresses_only_is_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    getaddrinfo, _ = changing([["127.0.0.2", "127.0.0.3"]])
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def test() -> None:
        async with serving(host="127.0.0.2") as inside, client_of(ONE_ADDRESS) as client:
            error = await error_of(client, f"http://private.test:{inside.port}/")
            assert (error.code, error.retryable, inside.connections) == ("EGRESS_REFUSED", False, 0)

    asyncio.run(test())


def test_the_socket_is_judged_even_if_the_resolver_failed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(self: object, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.2", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    monkeypatch.setattr(connector.GuardedResolver, "resolve", resolve)

    async def test() -> None:
        async with serving(host="127.0.0.2") as inside, client_of(ONE_ADDRESS) as client:
            error = await error_of(client, f"http://any.test:{inside.port}/")
            assert (error.code, error.retryable, inside.connections) == ("EGRESS_REFUSED", False, 0)
            assert "127.0.0.2" in error.detail

    asyncio.run(test())


def test_names_are_refused_in_every_spelling() -> None:
    async def test() -> None:
        async with serving() as peer, client_of(EgressPolicy()) as client:
            for host in ("localhost", "LOCALHOST", "\u24dbocalhost"):
                error = await error_of(client, f"http://{host}:{peer.port}/")
                assert (host, error.code) == (host, "EGRESS_REFUSED")
            assert peer.connections == 0

    asyncio.run(test())
