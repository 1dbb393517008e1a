"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from trunkline.delivery.egress import EgressPolicy, EgressRefused

REFUSED = [
    "127.0.0.1",
    "127.255.255.254",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a00:1::1",
]
ALLOWED = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", REFUSED)
def test_private_addresses_are_refused_in_every_disguise(address: str) -> None:
    with pytest.raises(EgressRefused, match="allow_private"):
        EgressPolicy().check(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_allowed(address: str) -> None:
    EgressPolicy().check(address)


def test_listed_networks_are_allowed_and_no_others() -> None:
    policy = EgressPolicy((ip_network("127.0.0.0/8"), ip_network("fd00::/8")))
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd12::1"):
        policy.check(address)
    for address in ("10.0.0.1", "::1", "169.254.169.254"):
        with pytest.raises(EgressRefused):
            policy.check(address)
