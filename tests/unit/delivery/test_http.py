"""The guarded client against real sockets on loopback."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from ipaddress import ip_network

import pytest

from tests.support.expected import missing
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import RESPONSE_LIMIT_BYTES, GuardedClient
from trunkline.destinations.kit import HttpError, HttpResponse

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"),))


async def answer(writer: asyncio.StreamWriter, status: str, body: bytes = b"", headers: str = "") -> None:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)
    await writer.drain()


async def with_server(
    handle: Handler, use: Callable[[GuardedClient, str], Awaitable[None]], *, policy: EgressPolicy = LOOPBACK
) -> None:
    """Serve heads to ``handle``; ``use`` gets a client and the server's address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await handle(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    client = GuardedClient(lambda: policy, timeout_s=5)
    try:
        await use(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        await client.close()
        server.close()


async def post(client: GuardedClient, url: str) -> HttpResponse:
    return await client.post(url, body=b"", headers={})


def test_an_answer_is_read_up_to_the_limit() -> None:
    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 10 * RESPONSE_LIMIT_BYTES if b"/large" in head else 3
        await answer(writer, "200 OK", b"x" * size, "Set-Cookie: a=b\r\n")

    async def use(client: GuardedClient, url: str) -> None:
        assert (await post(client, url + "/small")).body == b"xxx"
        large = await post(client, url + "/large")
        assert large.status == 200
        assert len(large.body) <= RESPONSE_LIMIT_BYTES
        assert (await post(client, url + "/small")).body == b"xxx"

    asyncio.run(with_server(handle, use))


def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    heads: list[bytes] = []

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await answer(writer, "302 Found", b"", "Location: /elsewhere\r\nSet-Cookie: a=b\r\n")

    async def use(client: GuardedClient, url: str) -> None:
        for _ in range(2):
            assert (await post(client, url)).status == 302

    asyncio.run(with_server(handle, use))
    assert len(heads) == 2
    assert not any(b"elsewhere" in head or b"ookie" in head for head in heads)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_guard_refuses_literals_and_names(host: str) -> None:
    heads: list[bytes] = []

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await answer(writer, "200 OK")

    async def use(client: GuardedClient, url: str) -> None:
        for _ in range(2):
            with pytest.raises(HttpError) as caught:
                await post(client, url.replace("127.0.0.1", host))
            assert (caught.value.code, caught.value.retryable) == ("EGRESS_REFUSED", False)

    asyncio.run(with_server(handle, use, policy=EgressPolicy()))
    assert heads == []


def test_errors_have_codes() -> None:
    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/closes" in head:
            writer.close()
        elif b"/nonsense" in head:
            writer.write(b"this is not HTTP\r\n\r\n")
        elif b"/hangs" in head:
            await reader.read()

    async def use(client: GuardedClient, url: str) -> None:
        quick = GuardedClient(lambda: LOOPBACK, timeout_s=0.2)
        expected = {"/closes": "ECONNRESET", "/nonsense": "EPROTO", "/hangs": "ETIMEDOUT"}
        for path, code in expected.items():
            with pytest.raises(HttpError) as caught:
                await post(quick, url + path)
            assert (path, caught.value.code, caught.value.retryable) == (path, code, True)
        await quick.close()
        unused = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = unused.sockets[0].getsockname()[1]
        unused.close()
        await unused.wait_closed()
        with pytest.raises(HttpError) as caught:
            await post(client, f"http://127.0.0.1:{port}/")
        assert (caught.value.code, caught.value.retryable) == ("ECONNREFUSED", True)

    asyncio.run(with_server(handle, use))


def test_many_that_hang_keep_nobody_else_from_connecting() -> None:
    """More connections than one would put into a shared pool: each lane has its own bound, and no other."""
    hanging = 1_100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * hanging + 200
    if hard < wanted:
        missing(f"needs {wanted} open files, {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    async def handle(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/hangs" in head:
            await reader.read()
        else:
            await answer(writer, "200 OK")

    async def use(client: GuardedClient, url: str) -> None:
        patient = GuardedClient(lambda: LOOPBACK, timeout_s=120)
        stuck = [asyncio.create_task(post(patient, url + "/hangs")) for _ in range(hanging)]
        await asyncio.sleep(0.1)
        assert (await post(patient, url + "/healthy")).status == 200
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        await patient.close()

    try:
        asyncio.run(with_server(handle, use))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
