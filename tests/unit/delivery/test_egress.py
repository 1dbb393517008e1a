"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from trunkline.delivery.egress import PORTS_OF_OTHER_PROTOCOLS, EgressPolicy, EgressRefused, is_public
from trunkline.workspace.model import EgressProxy, EgressRules

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
    "0.1.2.3",
    "192.0.0.8",
    "192.88.99.1",
    "203.0.113.5",
    "239.1.2.3",
    "100::1",
    "2001:db8::1",
    "2001:20::1",
    "3fff::1",
    "64:ff9b:1::808:808",
    "fec0::1",
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]
ALLOWED = [
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "2a00::1",
    "8.8.8.8",
    "93.184.216.34",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


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


@pytest.mark.parametrize("address", METADATA)
def test_metadata_services_are_opened_by_nothing_but_their_own_address(address: str) -> None:
    networks = ("0.0.0.0/0", "169.254.0.0/16", "100.64.0.0/10", "::/0", "fd00::/8")
    with pytest.raises(EgressRefused, match="metadata"):
        EgressPolicy(tuple(map(ip_network, networks))).check(address)


def test_a_metadata_service_that_is_listed_by_itself_is_open() -> None:
    policy = EgressPolicy((ip_network("169.254.169.254"), ip_network("fd00:ec2::254")))
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"):
        policy.check(address)


@pytest.mark.parametrize("port", [0, -1, 65_536, 22, 25, 53, 6379, 5432, 9092])
def test_ports_of_other_protocols_are_refused(port: int) -> None:
    with pytest.raises(EgressRefused):
        EgressPolicy().check_port(port)


def test_ports_of_web_servers_are_not() -> None:
    for port in (80, 443, 3000, 8000, 8080, 8443, 9000, 49_152, 65_535):
        EgressPolicy().check_port(port)
        assert port not in PORTS_OF_OTHER_PROTOCOLS


def test_a_policy_is_its_rules() -> None:
    rules = EgressRules(
        allow_private=(ip_network("10.0.0.0/8"),),
        allow_ports=(22,),
        https_only=True,
        source_address=(ip_address("192.0.2.1"),),
        proxy=EgressProxy("http://p:1", "u", "p"),
    )
    assert EgressPolicy.of(rules) == EgressPolicy.of(rules)
    assert EgressPolicy.of(rules) != EgressPolicy.of(EgressRules())
    policy = EgressPolicy.of(rules)
    assert (policy.allow_ports, policy.https_only, policy.proxy) == ((22,), True, rules.proxy)
    assert "'p'" not in repr(policy)


def test_what_is_public() -> None:
    assert all(is_public(ip_address(address)) for address in ALLOWED)
    assert not any(is_public(ip_address(address)) for address in REFUSED if "%" not in address)
