"""The guarded client: peers that break off, addresses that only look like names, a policy that changes."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest

from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import GuardedClient
from trunkline.destinations.kit import HttpError

LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"),))


class Peer:
    """Answers every connection with the same bytes; keeps it open when told to."""

    def __init__(self, answer: bytes, *, hold: bool = False) -> None:
        self.answer = answer
        self.hold = hold
        self.requests = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        for writer in self._writers:
            writer.close()
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                writer.write(self.answer)
                await writer.drain()
                if not self.hold:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        if not self.hold:
            writer.close()


async def error_of(client: GuardedClient, url: str) -> HttpError:
    with pytest.raises(HttpError) as caught:
        await client.post(url, body=b"", headers={})
    return caught.value


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_body_that_breaks_off_or_never_ends_does_not_hide_the_status(status: int, hold: bool) -> None:
    async def test() -> None:
        peer = Peer(b"HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\nbeginning" % status, hold=hold)
        async with peer as address:
            client = GuardedClient(lambda: LOOPBACK, timeout_s=0.3)
            response = await client.post(f"http://{address}/", body=b"", headers={})
            assert (response.status, response.body) == (status, b"beginning")
            await client.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad\xff Header\x00: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 99999 OK\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \xff\xfe\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 20",
        b"",
    ],
)
def test_whatever_is_no_answer_is_an_error_to_retry_that_can_be_written_down(answer: bytes) -> None:
    async def test() -> None:
        async with Peer(answer) as address:
            client = GuardedClient(lambda: LOOPBACK, timeout_s=2)
            error = await error_of(client, f"http://{address}/hook-s3cret")
            assert error.retryable
            assert error.code in {"EPROTO", "ECONNRESET", "ECONNABORTED"}
            assert len(error.detail.encode("utf-8")) < 1_000
            assert "s3cret" not in error.detail
            await client.close()

    asyncio.run(test())


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..b.example"])
def test_a_name_that_no_resolver_takes_is_an_error_to_retry(host: str) -> None:
    async def test() -> None:
        client = GuardedClient(lambda: LOOPBACK, timeout_s=2)
        error = await error_of(client, f"http://{host}/")
        assert error.retryable
        await client.close()

    asyncio.run(test())


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1", "017700000001", "0", "127.0.0.1."])
def test_numbers_that_only_the_system_takes_for_an_address_are_refused(host: str) -> None:
    """Even where loopback is allowed: there is one way to write an address."""

    async def test() -> None:
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        async with peer as address:
            client = GuardedClient(lambda: LOOPBACK, timeout_s=2)
            error = await error_of(client, f"http://{host}:{address.rpartition(':')[2]}/")
            assert (error.code, error.retryable) == ("EGRESS_REFUSED", False)
            await client.close()
        assert peer.connections == 0

    asyncio.run(test())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_open_connection_does_not_outlive_the_policy_that_allowed_it(host: str) -> None:
    async def test() -> None:
        policy = LOOPBACK
        peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", hold=True)
        async with peer as address:
            url = f"http://{host}:{address.rpartition(':')[2]}/"
            client = GuardedClient(lambda: policy, timeout_s=2)
            for _ in range(3):
                assert (await client.post(url, body=b"", headers={})).status == 200
            assert peer.connections == 1
            policy = EgressPolicy(LOOPBACK.allow_private)
            await client.post(url, body=b"", headers={})
            assert peer.connections == 1, "the same policy in a new snapshot keeps the connections"
            policy = EgressPolicy()
            error = await error_of(client, url)
            assert (error.code, error.retryable) == ("EGRESS_REFUSED", False)
            await client.close()
        assert peer.requests == 4

    asyncio.run(test())


@pytest.mark.parametrize(
    "address", ["::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1", "5f00::1", "4000::1", "::", "::1"]
)
def test_ipv6_outside_of_global_unicast_is_refused(address: str) -> None:
    async def test() -> None:
        client = GuardedClient(EgressPolicy, timeout_s=0.5)
        error = await error_of(client, f"http://[{address}]:9/")
        assert error.code == "EGRESS_REFUSED"
        await client.close()

    asyncio.run(test())
