"""Addresses and credentials."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from trunkline.ingest.auth import Callers, Credentials


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", None),
        ("", None),
        ("junk", None),
    ],
)
def test_ipv4_only(address: str, expected: str | None) -> None:
    callers = Callers(())
    assert callers.ipv4(address) == callers.ipv4(address) == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", b"203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", b"1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", b"junk", "10.0.0.1"),
        ("10.0.0.1", b"junk, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("::ffff:10.0.0.1", b"203.0.113.9", "203.0.113.9"),
        ("198.51.100.1", b"203.0.113.9", "198.51.100.1"),
    ],
)
def test_forwarded(peer: str, forwarded: bytes | None, expected: str) -> None:
    callers = Callers((ip_network("10.0.0.0/8"),))
    assert callers.address({"client": (peer, 1)}, forwarded) == expected


def test_an_unknown_peer() -> None:
    assert Callers(()).address({"client": None}, None) == ""


def test_many_headers_are_not_remembered_for_ever() -> None:
    credentials = Credentials()
    for number in range(10_000):
        assert credentials.write_key(b"Basic %d" % number) is None or number
    assert credentials.write_key(b"Basic d2s6") == "wk"
    assert len(credentials._known) <= 4096
