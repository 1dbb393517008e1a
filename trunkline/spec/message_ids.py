"""The messageId: what dedupe goes by.

* Absent, null, empty, or not a string and not a number: a new one, ``api-`` and 27 base-62 characters, as Segment
  does (``spec/event_path.md`` §1.7). Such an event can't be a duplicate.
* A number: its JSON spelling as a string.
* Longer than 100 characters (§1.4): ``long-`` and a hash of it. Neither the event is lost nor its dedupe, because
  the same id gives the same hash whenever it is sent again.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Final

from trunkline.spec.limits import MAX_MESSAGE_ID_CHARACTERS

_KSUID_EPOCH_S: Final = 1_400_000_000
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [a + b for a in _ALPHABET for b in _ALPHABET]
_PAIR_BASE: Final = len(_PAIRS)


def new_message_id(now_ms: int) -> str:
    """``api-`` and a KSUID: 4 bytes of seconds since 2014, 16 random bytes, in 27 base-62 digits."""
    seconds = (now_ms // 1000 - _KSUID_EPOCH_S) & 0xFFFFFFFF
    number = seconds << 128 | int.from_bytes(os.urandom(16), "big")
    digits = []
    for _ in range(14):
        number, pair = divmod(number, _PAIR_BASE)
        digits.append(_PAIRS[pair])
    digits.reverse()
    return "api-" + "".join(digits)[1:]


def shorten_message_id(message_id: str) -> str:
    """A messageId of at most 100 characters, equal for equal ids."""
    if len(message_id) <= MAX_MESSAGE_ID_CHARACTERS:
        return message_id
    return "long-" + blake2b(message_id.encode(), digest_size=16).hexdigest()
