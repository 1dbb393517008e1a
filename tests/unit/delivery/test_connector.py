"""The first of the two places where addresses are judged: what the resolver lets through. The second, where sockets are
made, would refuse them too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from trunkline.clock import SystemClock
from trunkline.delivery.connector import GuardedResolver
from trunkline.delivery.egress import EgressPolicy, EgressRefused
from trunkline.delivery.resolver import Resolver
from trunkline.workspace.model import EgressProxy

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
