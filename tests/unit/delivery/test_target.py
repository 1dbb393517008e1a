"""Hostile addresses: each in a form that some parser, somewhere, takes for another host than the guard did."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest

from tests.unit.delivery.http_kit import client_of, error_of
from trunkline.delivery.egress import EgressPolicy, EgressRefused
from trunkline.delivery.target import MAX_LENGTH, is_literal, judge

EVERYTHING_PRIVATE = EgressPolicy(
    (ip_network("0.0.0.0/0"), ip_network("::/0")),
)

PRIVATE = [
    "http://127.0.0.1/",
    "http://127.255.255.254:8080/",
    "http://10.0.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://100.127.255.254/",
    "http://0.0.0.0/",
    "http://0.1.2.3/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.0.1/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://192.0.0.8/",
    "http://192.0.2.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://192.88.99.1/",
    "http://224.0.0.1/",
    "http://239.255.255.255/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:8080/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::FFFF:10.0.0.1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[::127.0.0.1]/",
    "http://[::7f00:1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[64:ff9b:1::808:808]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:53aa:64c:0:fffe:80ff:fffe]/",
    "http://[2001::1]/",
    "http://[2001:10::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[fe80::1]/",
    "http://[febf::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[100::1]/",
    "http://[5f00::1]/",
    "http://[4000::1]/",
]
"""Refused as long as they are not listed."""

MALFORMED = [
    "",
    "x",
    "example.com/hook",
    "//example.com/",
    "/hook",
    "http:",
    "http:/example.com/",
    "http://",
    "http:///",
    "http:///hook",
    "http://?q",
    "http://#f",
    "http://:80/",
    "https:example.com",
    " http://example.com/",
    "\thttp://example.com/",
    "file:///etc/passwd",
    "ftp://example.com/",
    "gopher://example.com:70/",
    "javascript:alert(1)",
    "unix:///run/docker.sock",
    "ws://example.com/",
    # numbers that only the system takes for an address
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0X7F000001/",
    "http://0x7f.0.0.1/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://0/",
    "http://0x/",
    "http://1.2.3.4.5/",
    "http://256.256.256.256/",
    "http://999999999999/",
    "http://8.8.8.08/",
    "http://example.0x7f/",
    # digits and dots of other scripts
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://127\uff0e0\uff0e0\uff0e1/",
    "http://8。8。8。8/",
    # userinfo
    "http://user@example.com/",
    "http://user:pass@example.com/",
    "http://@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1@example.com/",
    "http://a@b@127.0.0.1/",
    "http://example.com:80@127.0.0.1/",
    # what parsers disagree about
    "http://example.com\\@127.0.0.1/",
    "http://127.0.0.1\\.example.com/",
    "http:\\\\example.com\\",
    "http://example.com%2f@127.0.0.1/",
    "http://127.0.0.1%2f.example.com/",
    "http://127.0.0.1%00.example.com/",
    "http://%31%32%37.0.0.1/",
    "http://exam%70le.com/",
    "http://exa mple.com/",
    "http://example.com\r\nHost: 127.0.0.1/",
    "http://example.com/\r\nX-Injected: 1",
    "http://example.com/\nX: 1",
    "http://example.com/\x00",
    "http://example.com/\x7f",
    "http://exam\tple.com/",
    "http://example.com/\u2028",
    "http://example.com/\ud800",
    "http://exam\u00adple.com\x85/",
    "http://example.com,127.0.0.1/",
    "http://example.com;127.0.0.1/",
    "http://a&b.example/",
    "http://*.example.com/",
    # brackets and zones
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://[::1].example.com/",
    "http://[127.0.0.1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[v1.fe80::a]/",
    "http://[]/",
    "http://[1::2::3]/",
    "http://[12345::1]/",
    "http://[[::1]]/",
    # ports
    "http://example.com:0/",
    "http://example.com:00000/",
    "http://example.com:65536/",
    "http://example.com:99999999999/",
    "http://example.com:-1/",
    "http://example.com:+80/",
    "http://example.com: 80/",
    "http://example.com:8_0/",
    "http://example.com:8 0/",
    "http://example.com:\uff18\uff10/",
    "http://example.com:http/",
    "http://example.com:80:80/",
    "http://example.com:22/",
    "http://example.com:25/",
    "http://example.com:6379/",
    "http://example.com:11211/",
    "https://example.com:6667/",
    "http://example.com/" + "a" * MAX_LENGTH,
]
"""Refused whatever is listed."""

NAMES = [
    "http://xn--/",
    "http://\u0660.\u0660.\u0660.\u0660/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://\u24dbocalhost/",
]
"""Left to the resolver: they are judged by what they resolve to."""

GOOD = [
    ("http://example.com", "example.com", 80),
    ("https://example.com/hook?a=b#c", "example.com", 443),
    ("HTTPS://EXAMPLE.com/", "example.com", 443),
    ("http://example.com:/", "example.com", 80),
    ("http://example.com:080/", "example.com", 80),
    ("http://example.com:8080/a b", "example.com", 8080),
    ("http://example.com./", "example.com.", 80),
    ("http://sub_domain.example.com/", "sub_domain.example.com", 80),
    ("http://bücher.example/", "xn--bcher-kva.example", 80),
    ("http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80),
    ("http://日本.example/", "xn--wgv71a.example", 80),
    ("http://8.8.8.8/", "8.8.8.8", 80),
    ("http://[2606:4700::1111]:8443/", "2606:4700::1111", 8443),
    ("http://[2606:4700:0:0::1111]/", "2606:4700::1111", 80),
    ("http://example.com/a@b", "example.com", 80),
    ("http://example.com/?u=http://127.0.0.1/", "example.com", 80),
    ("http://example.com#@127.0.0.1/", "example.com", 80),
    ("http://example.com?@127.0.0.1/", "example.com", 80),
    ("http://1e100.net/", "1e100.net", 80),
    ("http://7f.example/", "7f.example", 80),
    ("http://123.example/", "123.example", 80),
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_literals_are_refused(url: str) -> None:
    with pytest.raises(EgressRefused, match="allow_private"):
        judge(url, EgressPolicy())


@pytest.mark.parametrize("url", MALFORMED)
def test_what_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(EgressRefused):
        judge(url, EVERYTHING_PRIVATE)


@pytest.mark.parametrize(("url", "host", "port"), GOOD)
def test_good_addresses_are_read_as_they_are_meant(url: str, host: str, port: int) -> None:
    target = judge(url, EgressPolicy())
    assert (target.raw_host, target.port) == (host, port)
    assert is_literal(target) == host.startswith(("8.8", "2606"))


@pytest.mark.parametrize("url", NAMES)
def test_names_are_never_taken_for_addresses(url: str) -> None:
    assert not is_literal(judge(url, EgressPolicy()))


def test_the_client_refuses_all_of_them_for_good() -> None:
    async def test() -> None:
        async with client_of(EgressPolicy()) as client:
            for url in (*PRIVATE, *MALFORMED):
                error = await error_of(client, url)
                assert (url, error.code, error.retryable) == (url, "EGRESS_REFUSED", False)
                assert len(error.detail) < 300
                assert error.detail.isprintable()

    asyncio.run(test())


def test_no_refusal_repeats_what_may_be_a_secret() -> None:
    for url in (
        "http://u:s3cret@x/",
        "http://127.0.0.1/s3cret",
        "http://x:22/?key=s3cret",
        "s3cret",
        "http://[s3cret/",
    ):
        with pytest.raises(EgressRefused) as caught:
            judge(url, EgressPolicy())
        assert "s3cret" not in str(caught.value)


def test_a_user_name_is_refused_by_its_name() -> None:
    with pytest.raises(EgressRefused, match="user name"):
        judge("http://user@example.com/", EgressPolicy())


def test_https_only() -> None:
    policy = EgressPolicy(https_only=True)
    judge("https://example.com/", policy)
    with pytest.raises(EgressRefused, match="https_only"):
        judge("http://example.com/", policy)


def test_ports_are_opened_one_by_one() -> None:
    policy = EgressPolicy(allow_ports=(6379,))
    judge("http://example.com:6379/", policy)
    with pytest.raises(EgressRefused, match="allow_ports"):
        judge("http://example.com:22/", policy)
