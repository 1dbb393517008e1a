"""Digests of values, as transformations write them (``spec/event_path.md`` §4.7)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

from trunkline.spec.transformations import ALGORITHMS, ENCODINGS

Digest = Callable[[bytes], str]

_ENCODERS: Final[Mapping[str, Callable[[bytes], str]]] = {
    "hex": bytes.hex,
    "base16": lambda digest: base64.b16encode(digest).decode("ascii"),
    "base64": lambda digest: base64.b64encode(digest).decode("ascii"),
    "base64url": lambda digest: base64.urlsafe_b64encode(digest).decode("ascii"),
}


def compile_digest(algorithm: str, encoding: str, key: str | None) -> Digest:
    """The digest of some bytes as text; with a key (as UTF-8) it is their HMAC.

    ``hex`` is in small letters, ``base16`` in capitals (RFC 4648); both forms of base64 are padded.
    Raises ValueError for what there is not.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {algorithm[:60]!r}; use one of {', '.join(ALGORITHMS)}")
    if encoding not in ENCODINGS:
        raise ValueError(f"there is no encoding {encoding[:60]!r}; use one of {', '.join(ENCODINGS)}")
    encode = _ENCODERS[encoding]
    if key is None:
        return lambda content: encode(hashlib.new(algorithm, content, usedforsecurity=False).digest())
    if not key:
        raise ValueError("the key is empty")
    secret = key.encode("utf-8")
    return lambda content: encode(hmac.digest(secret, content, algorithm))
