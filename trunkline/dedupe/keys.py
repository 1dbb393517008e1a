"""Dedupe keys: 128-bit keyed hashes of the ``messageId`` as received (``spec/event_path.md §3``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

KEY_BYTES = 16
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class KeyMaker:
    """BLAKE2b, 16 bytes, keyed with a secret, so that nobody outside can prepare two ids with one key.

    ``secret``: 1 to 64 bytes; raises ValueError otherwise.
    """

    def __init__(self, secret: bytes) -> None:
        if not 1 <= len(secret) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError("the dedupe secret must be 1 to 64 bytes long")
        # A copy of a hash that has already taken in its key costs half of making a new one.
        self._base = hashlib.blake2b(digest_size=KEY_BYTES, key=secret)

        self.fingerprint = hashlib.blake2b(b"trunkline dedupe index", digest_size=16, key=secret).hexdigest()
        """Tells one secret from another without revealing it."""

    def key(self, message_id: str) -> bytes:
        """The 16-byte key. Any string is allowed, lone surrogates and the empty one included."""
        hasher = self._base.copy()
        hasher.update(message_id.encode("utf-8", "surrogatepass"))
        return hasher.digest()

    def keys(self, message_ids: Sequence[str]) -> list[bytes]:
        """:meth:`key` of each, in order."""
        copy = self._base.copy
        made: list[bytes] = []
        append = made.append
        for message_id in message_ids:
            hasher = copy()
            hasher.update(message_id.encode("utf-8", "surrogatepass"))
            append(hasher.digest())
        return made
