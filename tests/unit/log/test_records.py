"""Records of the topics as bytes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from trunkline.log.records import (
    RECORD_VERSION,
    AcceptedEvent,
    BlockedEvent,
    Delta,
    Envelope,
    RecordError,
    decode_envelope,
    decode_envelope_head,
    encode_envelope,
)

FULL = Envelope(
    RECORD_VERSION,
    7,
    "ingest.0",
    "shared",
    3,
    9,
    "v1",
    [AcceptedEvent("web", 1, "m1", "track", "E", b"{}", "1.0")],
    b"k" * 16,
    [1],
    [Delta("web", "track", "E", "accepted", "", 1)],
    False,
    [BlockedEvent("web", 1, "m2", "track", "F", b"{}", "unplanned", b'{"sourceId":"web"}')],
)


def test_the_head_of_an_envelope_is_the_envelope_without_its_parts() -> None:
    assert decode_envelope(encode_envelope(FULL)) == FULL
    assert decode_envelope_head(encode_envelope(FULL)) == Envelope(
        RECORD_VERSION, 7, "ingest.0", "shared", 3, 9, "v1", [], b"", [], []
    )
    fence = Envelope(RECORD_VERSION, 8, "", "", 0, 0, "", [], b"", [], [], True)
    assert decode_envelope_head(encode_envelope(fence)) == fence


def test_envelopes_from_before_blocked_events_were_kept_are_read() -> None:
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(encode_envelope(FULL))[:11])
    assert decode_envelope(old).blocked == []
    assert decode_envelope_head(old).stop == 9


@pytest.mark.parametrize("decode", [decode_envelope, decode_envelope_head])
def test_other_versions_and_other_shapes_are_refused(decode: Callable[[bytes], Envelope]) -> None:
    content = msgspec.msgpack.decode(encode_envelope(FULL))
    with pytest.raises(RecordError, match="envelope of version 99; this program reads 1"):
        decode(msgspec.msgpack.encode([99, *content[1:]]))
    for broken in (b"", b"\xc1", msgspec.msgpack.encode(content[:5]), msgspec.msgpack.encode({"version": 1})):
        with pytest.raises(RecordError, match="not an envelope"):
            decode(broken)
