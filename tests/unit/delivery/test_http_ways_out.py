"""How requests leave: the source address, and a proxy."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.unit.delivery.http_kit import (
    LOOPBACK,
    OK,
    Peer,
    Talk,
    certificate,
    client_of,
    error_of,
    read_request,
    serving,
)
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import GuardedClient
from trunkline.destinations.kit import HttpError
from trunkline.workspace.model import EgressProxy

CREDENTIALS = "Basic " + base64.b64encode(b"user:p\xc3\xa4ss").decode()


def leaving_from(*addresses: str) -> EgressPolicy:
    return EgressPolicy(LOOPBACK.allow_private, source_address=tuple(map(ip_address, addresses)))


# -- source address ----------------------------------------------------------------------------------------------


def test_connections_leave_from_the_address_that_is_named() -> None:
    async def test() -> None:
        async with serving() as peer, client_of(leaving_from("127.0.0.9")) as client:
            await client.post(f"http://127.0.0.1:{peer.port}/", body=b"", headers={})
            assert peer.callers == ["127.0.0.9"]

    asyncio.run(test())


def test_each_family_has_its_own() -> None:
    async def test() -> None:
        policy = leaving_from("127.0.0.9", "::1")
        async with serving() as four, serving(host="::1") as six, client_of(policy) as client:
            await client.post(f"http://127.0.0.1:{four.port}/", body=b"", headers={})
            await client.post(f"http://[::1]:{six.port}/", body=b"", headers={})
            assert (four.callers, six.callers) == (["127.0.0.9"], ["::1"])

    asyncio.run(test())


def test_without_an_address_of_a_family_nothing_is_sent_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))
        four = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
        other_six = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2606:4700::1111", 0, 0, 0))
        return [six, four] if host == "both.test" else [six, other_six]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def test() -> None:
        async with serving() as four, serving(host="::1", port=four.port) as six:
            async with client_of(leaving_from("127.0.0.9")) as client:
                await client.post(f"http://both.test:{four.port}/", body=b"", headers={})
                assert four.callers == ["127.0.0.9"]
                for host in ("six.test", "[::1]"):
                    error = await error_of(client, f"http://{host}:{four.port}/")
                    assert (error.code, error.retryable) == ("EGRESS_REFUSED", False)
                    assert "source_address" in error.detail
            assert six.connections == 0

    asyncio.run(test())


def test_an_address_that_this_machine_has_not_is_an_error_to_retry() -> None:
    async def test() -> None:
        async with serving() as peer, client_of(leaving_from("203.0.113.9")) as client:
            error = await error_of(client, f"http://127.0.0.1:{peer.port}/")
            assert (error.code, error.retryable) == ("EADDRNOTAVAIL", True)
            assert "203.0.113.9" in error.detail
            assert peer.connections == 0

    asyncio.run(test())


def test_a_new_source_address_holds_for_the_next_request() -> None:
    async def test() -> None:
        policy = leaving_from("127.0.0.8")
        client = GuardedClient(lambda: policy, timeout_s=2)
        async with serving() as peer:
            url = f"http://127.0.0.1:{peer.port}/"
            for _ in range(2):
                await client.post(url, body=b"", headers={})
            policy = leaving_from("127.0.0.9")
            await client.post(url, body=b"", headers={})
            assert peer.callers == ["127.0.0.8", "127.0.0.9"]
        await client.close()

    asyncio.run(test())


# -- proxy -------------------------------------------------------------------------------------------------------


def forwarding(*, refuse: int = 0, connect_to: int = 0) -> Callable[[Peer], Talk]:
    """A proxy: tunnels CONNECT to ``connect_to`` on loopback (or the port that is asked for), answers others itself."""

    def of(peer: Peer) -> Talk:
        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while data := await reader.read(65_536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await read_request(peer, reader)
                if refuse:
                    writer.write(f"HTTP/1.1 {refuse} No\r\nContent-Length: 0\r\n\r\n".encode())
                elif head.startswith(b"CONNECT "):
                    port = connect_to or int(head.split()[1].rpartition(b":")[2])
                    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                    try:
                        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
                    finally:
                        there_writer.transport.abort()
                    return
                else:
                    writer.write(OK)
                await writer.drain()

        return talk

    return of


def behind(proxy: Peer, *networks: str, username: str | None = None, password: str | None = None) -> EgressPolicy:
    """A policy whose proxy is on loopback, which is not listed: the proxy is the operator's own."""
    return EgressPolicy(
        tuple(map(ip_network, networks)),
        proxy=EgressProxy(f"http://127.0.0.1:{proxy.port}", username, password),
    )


def test_http_goes_to_the_proxy_with_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])

    async def test() -> None:
        async with serving(forwarding()) as proxy:
            policy = behind(proxy, "192.0.2.0/24", username="user", password="päss")
            async with client_of(policy) as client:
                for _ in range(2):
                    response = await client.post("http://hook.test/a?b=c", body=b"{}", headers={"X-Key": "k"})
                    assert (response.status, response.body) == (200, b"ok")
            assert proxy.connections == 1
            for head in proxy.heads:
                lines = head.split("\r\n")
                assert lines[0] == "POST http://hook.test/a?b=c HTTP/1.1"
                assert f"Proxy-Authorization: {CREDENTIALS}" in lines
                assert "Host: hook.test" in lines
                assert "X-Key: k" in lines
            assert proxy.bodies == [b"{}", b"{}"]

    asyncio.run(test())


def test_https_goes_through_a_tunnel_that_the_proxy_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])
    server, trusting = certificate(tmp_path, "hook.test")

    async def test() -> None:
        async with serving(tls=server) as peer, serving(forwarding(connect_to=peer.port)) as proxy:
            policy = behind(proxy, "192.0.2.0/24", username="user", password="päss")
            async with client_of(policy, tls=trusting) as client:
                for _ in range(2):
                    response = await client.post("https://hook.test/s3cret", body=b"{}", headers={"X-Key": "k"})
                    assert (response.status, response.body) == (200, b"ok")
            (connect,) = proxy.heads
            assert connect.split("\r\n")[0] == "CONNECT hook.test:443 HTTP/1.1"
            assert f"Proxy-Authorization: {CREDENTIALS}" in connect
            assert "X-Key" not in connect
            assert "s3cret" not in connect
            assert all("Proxy-Authorization" not in head for head in peer.heads)
            assert peer.bodies == [b"{}", b"{}"]

    asyncio.run(test())


def test_a_certificate_is_checked_through_a_tunnel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])
    server, _ = certificate(tmp_path, "hook.test")

    async def test() -> None:
        async with serving(tls=server) as peer, serving(forwarding(connect_to=peer.port)) as proxy:
            async with client_of(behind(proxy, "192.0.2.0/24")) as client:
                error = await error_of(client, "https://hook.test/")
                assert error.code == "CERTIFICATE"
            assert peer.requests == []

    asyncio.run(test())


@pytest.mark.parametrize(
    ("addresses", "url"),
    [
        (["10.0.0.1"], "http://hook.test/"),
        (["10.0.0.1"], "https://hook.test/"),
        (["192.0.2.9", "10.0.0.1"], "https://hook.test/"),
        (["169.254.169.254"], "http://hook.test/"),
        ([], "http://10.0.0.1/"),
        ([], "http://127.0.0.1:{proxy}/"),
        ([], "http://hook.test:22/"),
    ],
)
def test_targets_are_judged_before_the_proxy_hears_of_them(
    addresses: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", (address, 0)) for address in addresses]
    )

    async def test() -> None:
        async with serving(forwarding()) as proxy, client_of(behind(proxy, "192.0.2.0/24")) as client:
            error = await error_of(client, url.format(proxy=proxy.port))
            assert (error.code, error.retryable) == ("EGRESS_REFUSED", False)
            assert proxy.connections == 0

    asyncio.run(test())


def test_a_redirect_is_judged_behind_a_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", ("10.0.0.1" if host == "inside.test" else "192.0.2.9", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def test() -> None:
        redirect = b"HTTP/1.1 307 X\r\nLocation: http://inside.test/\r\nContent-Length: 0\r\n\r\n"
        async with serving(redirect) as proxy, client_of(behind(proxy, "192.0.2.0/24")) as client:
            with pytest.raises(HttpError) as caught:
                await client.post("http://hook.test/", body=b"", headers={}, follow_redirects=3)
            assert caught.value.code == "EGRESS_REFUSED"
            assert len(proxy.requests) == 1

    asyncio.run(test())


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("status", [407, 403])
def test_a_proxy_that_refuses_is_an_error_to_retry(scheme: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])

    async def test() -> None:
        async with serving(forwarding(refuse=status)) as proxy, client_of(behind(proxy, "192.0.2.0/24")) as client:
            if (scheme, status) == ("http", 403):
                # Who says so, the proxy or the destination, can't be told.
                assert (await client.post("http://hook.test/", body=b"", headers={})).status == 403
                return
            error = await error_of(client, f"{scheme}://hook.test/s3cret")
            assert (error.code, error.retryable) == ("EPROXY", True)
            assert str(status) in error.detail
            assert "s3cret" not in error.detail

    asyncio.run(test())


def test_a_proxy_that_is_down_is_an_error_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])

    async def test() -> None:
        async with serving() as proxy:
            policy = behind(proxy, "192.0.2.0/24")
        async with client_of(policy) as client:
            for scheme in ("http", "https"):
                error = await error_of(client, f"{scheme}://hook.test/")
                assert (error.code, error.retryable) == ("EPROXY", True)

    asyncio.run(test())


def test_the_way_to_the_proxy_leaves_from_the_source_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("192.0.2.9", 0))])

    async def test() -> None:
        async with serving(forwarding()) as proxy:
            policy = EgressPolicy(
                (ip_network("192.0.2.0/24"),),
                source_address=(ip_address("127.0.0.9"),),
                proxy=EgressProxy(f"http://127.0.0.1:{proxy.port}"),
            )
            async with client_of(policy) as client:
                await client.post("http://hook.test/", body=b"", headers={})
            assert proxy.callers == ["127.0.0.9"]
            assert "Proxy-Authorization" not in proxy.heads[0]

    asyncio.run(test())


def test_the_environments_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(forwarding()) as proxy, serving() as peer, client_of() as client:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            await client.post(f"http://127.0.0.1:{peer.port}/", body=b"", headers={})
            assert (proxy.connections, peer.connections) == (0, 1)

    asyncio.run(test())
