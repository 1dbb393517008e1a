"""Requests and answers without the secrets in them: what is shown of an exchange has gone through here.

A secret is known by its place (user names in addresses), by the name beside it (``token``, ``Authorization``), by its
look (20 characters and more, with digits, as no word has), or because it is a destination's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from trunkline.secrets import MASK, mask

MOST_HEADERS: Final = 50
LONGEST_HEADER: Final = 1024
SHORTEST_SECRET: Final = 4
"""What is shorter is not looked for in other texts: it would be found everywhere."""

_NAME: Final = re.compile(
    r"auth(?!or$|enticate$)|token|secret|passw|pwd|key(?:$|[-_\[])|signature|(?:^|[-_])sig(?:$|[-_])|cookie|session"
    r"|credential|jwt|csrf|xsrf|hmac|^code$",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_+/=.~:%-]{20,}")
_DIGIT: Final = re.compile(r"[0-9]")
_ADDRESSES: Final = frozenset({"location", "content-location", "referer"})


@lru_cache(maxsize=1024)
def names_a_secret(name: str) -> bool:
    """Whether what has this name, such as a header or a parameter, is probably a secret."""
    return _NAME.search(name) is not None


def looks_like_a_token(value: str) -> bool:
    """Whether it is long, of one piece, and holds digits."""
    return _TOKEN.fullmatch(value) is not None and _DIGIT.search(value) is not None


def mask_url(url: str) -> str:
    """The address without user names, without its fragment, its secret parameters and steps masked. Takes any text."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    _, at, host = parts.netloc.rpartition("@")
    path = "/".join(map(_mask_step, parts.path.split("/")))
    query = "".join(map(_mask_parameter, re.split(r"([&;])", parts.query)))
    return urlunsplit((parts.scheme, f"{MASK}@{host}" if at else host, path, query, ""))


def secrets_in_url(url: str) -> list[str]:
    """What :func:`mask_url` masks of an address, as it stands there and decoded, the longest first."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = {step for step in parts.path.split("/") if _is_secret_step(step)}
    for parameter in re.split("[&;]", parts.query):
        name, value = _parameter(parameter)
        if _is_secret_parameter(name, value):
            found.add(value)
    decoded = found | {unquote(value) for value in found}
    return sorted((value for value in decoded if len(value) >= SHORTEST_SECRET), key=len, reverse=True)


def _is_secret_step(text: str) -> bool:
    return looks_like_a_token(text) or ("@" in text and ":" in text.partition("@")[0])


def _parameter(text: str) -> tuple[str, str]:
    """Name and value; what has no name is all value."""
    name, equals, value = text.partition("=")
    return (name, value) if equals else ("", text)


def _is_secret_parameter(name: str, value: str) -> bool:
    return bool(value) and (names_a_secret(unquote(name)) or looks_like_a_token(value))


def _mask_step(text: str) -> str:
    return mask(text) if _is_secret_step(text) else text


def _mask_parameter(text: str) -> str:
    name, value = _parameter(text)
    return text.removesuffix(value) + mask(value) if _is_secret_parameter(name, value) else text


def mask_headers(
    headers: Mapping[str, str], *, secret_names: Collection[str] = (), secrets: Iterable[str] = ()
) -> dict[str, str]:
    """The headers, at most :data:`MOST_HEADERS`, each cut. ``secret_names`` (in lower case) are masked besides those
    whose name says so, ``secrets`` wherever they stand."""
    masked: dict[str, str] = {}
    for name, value in headers.items():
        if len(masked) >= MOST_HEADERS:
            break
        lower = name.lower()
        if lower in secret_names or names_a_secret(lower):
            shown = mask(value)
        elif lower in _ADDRESSES:
            shown = mask_url(value)
        else:
            shown = value
        masked[name] = scrub(shown, secrets)[:LONGEST_HEADER]
    return masked


def secrets_in(headers: Mapping[str, str]) -> list[str]:
    """The values among a destination's own headers that must not show up elsewhere, the longest first.

    A peer may well echo them. Plain values, such as a media type, are not among them.
    """
    found = set()
    for name, value in headers.items():
        for text in (value, *value.split()):
            named = names_a_secret(name) and (text == value or len(text) >= 2 * SHORTEST_SECRET)
            if (named and len(text) >= SHORTEST_SECRET) or looks_like_a_token(text):
                found.add(text)
    return sorted(found, key=len, reverse=True)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """The text with these secrets masked wherever they stand."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, mask(secret))
    return text
