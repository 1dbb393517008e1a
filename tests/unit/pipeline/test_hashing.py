"""Digests: against what other programs made of the same text, against hashlib, and where they stand in an event."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b16encode, b64encode, urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.pipeline.hashing import compile_digest
from trunkline.pipeline.transformations import compile_transformations
from trunkline.spec.transformations import ALGORITHMS, ENCODINGS, PropertyHash, Transformation

# Made with `openssl dgst` (and `-hmac`) and with Node's `crypto`, which agreed.
TEXT = "Zoë@example.com"
KEY = "clé"
KNOWN = [
    ("md5", None, "hex", "6d7ad22b1b870507a43c0c342191b7fc"),
    ("md5", None, "base16", "6D7AD22B1B870507A43C0C342191B7FC"),
    ("md5", KEY, "hex", "ab3947210942dc2fc341db62ea2b1479"),
    ("md5", KEY, "base64", "qzlHIQlC3C/DQdti6isUeQ=="),
    ("md5", KEY, "base64url", "qzlHIQlC3C_DQdti6isUeQ=="),
    ("sha1", None, "base64", "Zdqn1mawjxf+fGGixFbyl4Er7RA="),
    ("sha1", None, "base64url", "Zdqn1mawjxf-fGGixFbyl4Er7RA="),
    ("sha1", KEY, "hex", "e7f682a18bc862b06378ed9dc061de6cb413845d"),
    ("sha256", None, "hex", "e2cfe32c2686a37748ce58e9b4416729ec887e242082770ab79422d12194d58a"),
    ("sha256", KEY, "hex", "0e18fb42e9790362320c4304391d3e2a34e7b5c005a12c4ac9e08d938575f8e9"),
    ("sha256", KEY, "base64", "Dhj7Qul5A2IyDEMEOR0+KjTntcAFoSxKyeCNk4V1+Ok="),
    (
        "sha512",
        KEY,
        "base64",
        "upIL3uXvd8csOUhxO4GdlA1mkSN/WrlcRkxOAc/DOqTvtl0vFQpOdVphUp2T4Rl7akLLi9wX4q3CX7bLtQmn8g==",
    ),
    (
        "sha512",
        None,
        "base64",
        "AwAAHhKbBoaC8QogUpTZy9u5nFjDCjJ30cce7u2CcNRnVRHofODE/sj2l1upUNouCeXwz6M9hqBPhWv3DvoVpg==",
    ),
]


@pytest.mark.parametrize(("algorithm", "key", "encoding", "digest"), KNOWN)
def test_what_openssl_and_node_make_of_it(algorithm: str, key: str | None, encoding: str, digest: str) -> None:
    assert compile_digest(algorithm, encoding, key)(TEXT.encode()) == digest


@settings(max_examples=60)
@given(
    st.binary(max_size=200),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    st.sampled_from(ALGORITHMS),
    st.sampled_from(ENCODINGS),
)
def test_what_the_library_makes_of_it(content: bytes, key: str | None, algorithm: str, encoding: str) -> None:
    maker = getattr(hashlib, algorithm)
    digest = maker(content).digest() if key is None else hmac.new(key.encode(), content, maker).digest()
    encode = {"hex": lambda raw: raw.hex().encode(), "base16": b16encode, "base64": b64encode}
    assert compile_digest(algorithm, encoding, key)(content) == encode.get(encoding, urlsafe_b64encode)(digest).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key", [None, "k"])
def test_another_key_algorithm_or_text_makes_another_digest(algorithm: str, key: str | None) -> None:
    found = {
        compile_digest(name, "hex", one)(text)
        for name in {algorithm, "md5"}
        for one in (key, "other")
        for text in (b"a", b"b")
    }
    assert len(found) == len({algorithm, "md5"}) * 4


def hashed(body: bytes, *paths: str, **keys: Any) -> bytes:
    item = Transformation("t", "web", "all", hash=PropertyHash(paths, **keys))
    found = compile_transformations([item]).verdict(msgspec.json.decode(body), body)
    assert isinstance(found, bytes)
    return found


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"a@b.c"', "a@b.c"),
        ('""', ""),
        ('"\\u00fc\\n"', "ü\n"),
        ('"ü"', "ü"),
        ("5", "5"),
        ("1.0", "1.0"),
        ("1e5", "1e5"),
        ("12345678901234567890", "12345678901234567890"),
        ("true", "true"),
        ("[1,2.0]", "[1,2.0]"),
        ('{"a":"b"}', '{"a":"b"}'),
        ("{}", "{}"),
        ("[]", "[]"),
    ],
)
def test_every_kind_of_value_is_hashed(value: str, text: str) -> None:
    body = f'{{"type":"track","properties":{{"x":{value},"y":1.0}}}}'.encode()
    assert hashed(body, "properties.x") == f'{{"type":"track","properties":{{"x":"{sha(text)}","y":1.0}}}}'.encode()


def test_null_and_nothing_are_not() -> None:
    body = b'{"type":"track","properties":{"x":null}}'
    assert hashed(body, "properties.x", "properties.y", "context.z", "userId") is body


def test_a_list_on_the_way_stands_for_its_items() -> None:
    body = b'{"type":"track","properties":{"users":[{"mail":"a","n":1.0},{"mail":null},5,null,[{"mail":"b"}]]}}'
    assert hashed(body, "properties.users.mail") == (
        b'{"type":"track","properties":{"users":[{"mail":"' + sha("a").encode() + b'","n":1.0},{"mail":null},5,null,'
        b'[{"mail":"' + sha("b").encode() + b'"}]]}}'
    )


def test_places_anywhere_and_keys_of_any_kind() -> None:
    event = {
        "type": "identify",
        "userId": "u1",
        "traits": {"e.mail": "a", "__proto__": "b", "ü": {"x y": "c"}},
        "context": {"ip": "1.2.3.4"},
    }
    paths = ("userId", "traits.e\\.mail", "traits.__proto__", "traits.ü.x y", "context.ip")
    assert msgspec.json.decode(hashed(msgspec.json.encode(event), *paths)) == {
        "type": "identify",
        "userId": sha("u1"),
        "traits": {"e.mail": sha("a"), "__proto__": sha("b"), "ü": {"x y": sha("c")}},
        "context": {"ip": sha("1.2.3.4")},
    }


def test_with_a_key_it_is_an_hmac() -> None:
    body = b'{"type":"track","properties":{"x":"' + TEXT.encode() + b'"}}'
    found = hashed(body, "properties.x", algorithm="sha256", encoding="base64", key=KEY)
    assert msgspec.json.decode(found)["properties"]["x"] == "Dhj7Qul5A2IyDEMEOR0+KjTntcAFoSxKyeCNk4V1+Ok="


def test_lists_without_end_cost_little() -> None:
    body = b'{"type":"track","properties":{"x":' + b"[" * 800 + b'{"y":1}' + b"]" * 800 + b"}}"
    assert hashed(body, "properties.x.y") is body
