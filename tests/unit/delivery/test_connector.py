"""The first of the two places where addresses are judged: what the resolver lets through. The second, where sockets are
made, would refuse them too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import aiohttp
import pytest

from trunkline.clock import SystemClock
from trunkline.delivery.connector import GuardedResolver, make_connector
from trunkline.delivery.egress import EgressPolicy, EgressRefused
from trunkline.delivery.resolver import Resolver
from trunkline.workspace.model import EgressProxy

TOGETHER = 5
PUBLIC = ("8.8.8.8", "2606:4700::1111")


def let_through(policy: EgressPolicy, *found: str) -> Sequence[str]:
    async def ask() -> Sequence[str]:
        resolver = Resolver(SystemClock(), lambda host: found)
        try:
            return [item["host"] for item in await GuardedResolver(resolver, policy).resolve("any.test", 80)]
        finally:
            await resolver.close()

    return asyncio.run(ask())


def test_private_addresses_are_dropped() -> None:
    assert let_through(EgressPolicy(), "10.0.0.1", PUBLIC[0], "::1", PUBLIC[1]) == list(PUBLIC)
    assert let_through(EgressPolicy((ip_network("10.0.0.0/8"),)), "10.0.0.1") == ["10.0.0.1"]


def test_none_left_is_a_refusal() -> None:
    with pytest.raises(EgressRefused, match="allow_private"):
        let_through(EgressPolicy(), "10.0.0.1", "127.0.0.1")


def test_families_without_a_source_address_are_dropped() -> None:
    four = EgressPolicy(source_address=(ip_address("192.0.2.1"),))
    six = EgressPolicy(source_address=(ip_address("2001:db8::1"),))
    assert let_through(four, *PUBLIC) == ["8.8.8.8"]
    assert let_through(six, *PUBLIC) == ["2606:4700::1111"]
    with pytest.raises(EgressRefused, match="IPv4 only"):
        let_through(four, PUBLIC[1])


def test_the_proxys_own_address_may_be_any() -> None:
    assert let_through(EgressPolicy(proxy=EgressProxy("http://any.test:3128")), "10.0.0.1") == ["10.0.0.1"]


def test_the_connection_that_was_used_last_is_used_again() -> None:
    async def test() -> None:
        ports: list[int] = []
        arrived = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (await reader.readline()).strip():
                while (await reader.readline()).strip():
                    pass
                ports.append(writer.get_extra_info("peername")[1])
                if len(ports) == TOGETHER:
                    arrived.set()
                await arrived.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        resolver = Resolver(SystemClock(), lambda host: [host])
        policy = EgressPolicy((ip_network("127.0.0.0/8"),))
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with aiohttp.ClientSession(connector=make_connector(resolver, policy, None)) as session:

            async def ask() -> None:
                async with session.get(url) as found:
                    await found.read()

            await asyncio.gather(*(ask() for _ in range(TOGETHER)))
            assert len(set(ports)) == TOGETHER
            for _ in range(2 * TOGETHER):
                await ask()
            assert len(set(ports[TOGETHER:])) == 1
        server.close()
        await resolver.close()

    asyncio.run(test())
