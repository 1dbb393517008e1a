from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.destinations.kit import SAMPLE_BYTES, HttpResponse
from trunkline.destinations.masking import (
    LONGEST_HEADER,
    MOST_HEADERS,
    mask_headers,
    mask_url,
    names_a_secret,
    scrub,
    secrets_in,
    secrets_in_url,
)
from trunkline.destinations.recorder import DETAIL_LENGTH, Recorder
from trunkline.secrets import MASK, mask

TOKEN = "xoxb0123456789abcdefXYZ"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("https://example.com:8443/a/b?source=web&n=1", "https://example.com:8443/a/b?source=web&n=1"),
        ("https://me:pass@example.com/", f"https://{MASK}@example.com/"),
        ("https://me@example.com/", f"https://{MASK}@example.com/"),
        ("https://e.com/?token=abcdefgh", f"https://e.com/?token={mask('abcdefgh')}"),
        ("https://e.com/?a=1&api_key=abcdefgh&b=2", f"https://e.com/?a=1&api_key={mask('abcdefgh')}&b=2"),
        ("https://e.com/?api%5Fkey=abcdefgh", f"https://e.com/?api%5Fkey={mask('abcdefgh')}"),
        ("https://e.com/?a=1;pwd=abcdefgh", f"https://e.com/?a=1;pwd={mask('abcdefgh')}"),
        ("https://e.com/?code=abcdefgh", f"https://e.com/?code={mask('abcdefgh')}"),
        ("https://e.com/?token=", "https://e.com/?token="),
        (f"https://e.com/?x={TOKEN}", f"https://e.com/?x={mask(TOKEN)}"),
        (f"https://e.com/?{TOKEN}", f"https://e.com/?{mask(TOKEN)}"),
        (f"https://e.com/services/T1/{TOKEN}", f"https://e.com/services/T1/{mask(TOKEN)}"),
        ("https://e.com/a-long-name-of-some-folder", "https://e.com/a-long-name-of-some-folder"),
        (f"https://e.com/#access_token={TOKEN}", "https://e.com/"),
        ("/elsewhere?sig=abcdefgh", f"/elsewhere?sig={mask('abcdefgh')}"),
        ("http:me:pass1234@e.com/x", f"http:///{mask('me:pass1234@e.com')}/x"),
        ("http://[::1", MASK),
        ("", ""),
    ],
)
def test_addresses(url: str, expected: str) -> None:
    assert mask_url(url) == expected


@given(st.text())
def test_any_text_is_taken_for_an_address(text: str) -> None:
    mask_url(text)


words = st.from_regex(r"[A-Za-z0-9]{8,30}", fullmatch=True)


@given(words, words, words)
def test_no_secret_in_its_usual_place_is_shown(user: str, password: str, token: str) -> None:
    shown = mask_url(f"https://{user}:{password}@host.test/p?access_token={token}&q=z")
    assert shown == f"https://{MASK}@host.test/p?access_token={mask(token)}&q=z"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "X-Auth",
        "Set-Cookie",
        "cookie",
        "X-Api-Key",
        "apikey",
        "X-Amz-Security-Token",
        "accessKey",
        "client_secret",
        "X-Signature",
        "sig",
        "X-CSRF",
        "password",
        "session_id",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["Content-Type", "WWW-Authenticate", "author", "X-Request-Id", "Date", "zip_code"])
def test_names_of_other_things(name: str) -> None:
    assert not names_a_secret(name)


def test_headers() -> None:
    headers = {
        "Content-Type": "application/json",
        "X-Custom": "abcdefgh",
        "Set-Cookie": "sid=12345678",
        "Location": f"https://u:p@e.com/?t={TOKEN}",
        "X-Echo": "you sent hush-hush",
        "X-Long": "x" * 9000,
    }
    assert mask_headers(headers, secret_names={"x-custom"}, secrets=["hush-hush"]) == {
        "Content-Type": "application/json",
        "X-Custom": mask("abcdefgh"),
        "Set-Cookie": mask("sid=12345678"),
        "Location": f"https://{MASK}@e.com/?t={mask(TOKEN)}",
        "X-Echo": f"you sent {mask('hush-hush')}",
        "X-Long": "x" * LONGEST_HEADER,
    }
    assert len(mask_headers({f"X-{number}": "" for number in range(500)})) == MOST_HEADERS


def test_which_of_a_destinations_headers_are_looked_for_in_answers() -> None:
    headers = {"Authorization": "Bearer abc.defgh", "Accept": "application/json", "X-Id": TOKEN, "X-Key": "abc"}
    assert secrets_in(headers) == [TOKEN, "Bearer abc.defgh", "abc.defgh"]


def test_which_parts_of_an_address_are_looked_for_in_answers() -> None:
    url = f"https://e.com/hook/{TOKEN}?key=ab%2Fcd&v=1&token=abc&plain=word"
    assert secrets_in_url(url) == [TOKEN, "ab%2Fcd", "ab/cd"]
    assert secrets_in_url("http://[::1") == []


@given(st.sampled_from(["token", "api_key", "x[password]"]), words)
def test_what_is_masked_is_looked_for(name: str, value: str) -> None:
    url = f"https://e.com/p?q=z&{name}={value}"
    assert secrets_in_url(url) == [value]
    assert value not in mask_url(url)


def test_scrub() -> None:
    assert scrub("a secret1 and secret1", ["secret1"]) == f"a {mask('secret1')} and {mask('secret1')}"


def test_an_exchange_shows_no_secret_of_the_destination_even_when_the_peer_echoes_it() -> None:
    own = {"Authorization": "Bearer abcd1234efgh", "X-Env": "prod"}
    recorder = Recorder("https://e.com/?key=12345678", own, "sh4red-secret")
    answer = b'{"got": "Bearer abcd1234efgh", "token": "abcd1234efgh", "by": "sh4red-secret", "url": "/?key=12345678"}'
    response = HttpResponse(400, {"Set-Cookie": "a=b", "X-Echo": "abcd1234efgh"}, answer)
    exchange = recorder.exchange(own | {"Content-Type": "application/json", "X-Signature": "0" * 40}, b"{}", response)
    shown = repr(exchange) + recorder.detail(response) + recorder.clean("Bearer abcd1234efgh")
    for secret in ("abcd1234efgh", "sh4red-secret", "12345678", "0" * 40, "'prod'"):
        assert secret not in shown
    assert exchange.request_headers["Content-Type"] == "application/json"
    assert (exchange.method, exchange.status, exchange.request_body) == ("POST", 400, "{}")
    assert '{"got": "' in exchange.response_body


def test_bodies_are_cut_and_a_secret_across_the_cut_is_masked() -> None:
    recorder = Recorder("https://e.com/", {}, "the-shared-secret")
    before = "ü" * (SAMPLE_BYTES // 2 - 3)
    response = HttpResponse(500, {}, f"{before}the-shared-secret{before}".encode())
    exchange = recorder.exchange({}, b"x" * 10_000, response)
    assert exchange.request_body == "x" * SAMPLE_BYTES
    assert exchange.response_body == before + MASK[:6]
    assert recorder.detail(HttpResponse(500, {}, b"x" * 1000)) == "x" * DETAIL_LENGTH


def test_no_answer_is_status_0() -> None:
    exchange = Recorder("https://e.com/", {}).exchange({}, b"{}", None)
    assert (exchange.status, exchange.response_headers, exchange.response_body) == (0, {}, "")


@pytest.mark.parametrize("location", ["", "https://u:passw0rd@e.com/new"])
def test_a_redirect_says_where_it_leads_and_what_to_do(location: str) -> None:
    response = HttpResponse(307, {"Location": location} if location else {}, b"moved")
    detail = Recorder("https://e.com/", {}).detail(response)
    assert "put the final address into url" in detail
    assert "passw0rd" not in detail
    assert ("@e.com/new" in detail) == bool(location)
