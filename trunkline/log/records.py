"""What the records of the two topics hold, and their encoding (MessagePack arrays, a version first).

Adding a field at the end with a default keeps old records readable; any other change raises ``RECORD_VERSION``.
"""

from __future__ import annotations

from typing import Final

import msgspec

RECORD_VERSION: Final = 1

OBJECT_COUNT_PREFIX: Final = "object:"
"""Objects (``/v1/set``) are counted apart from events, under this prefix and the source's slug."""


class RecordError(Exception):
    """A record's payload is of a version or shape that this program does not know."""


class LoggedEvent(msgspec.Struct, array_like=True, gc=False):
    """One normalised event of an :class:`IngestedChunk`.

    ``name`` is the event name of a track call, the name of a page or screen, else empty. ``body`` is the
    normalised event as JSON. ``has_own_id`` tells whether the client sent the messageId (only then can a
    duplicate exist).
    """

    message_id: str
    type: str
    name: str
    body: bytes
    has_own_id: bool = True


class Rejection(msgspec.Struct, array_like=True, gc=False):
    """One event that ingest refused: code (``spec/event_path.md`` §1.6), its first 1,024 bytes."""

    code: str
    excerpt: bytes
    type: str = ""


class IngestedChunk(msgspec.Struct, array_like=True, gc=False):
    """A record of ``ingested``: what one request brought for one source."""

    version: int
    source: str
    received_at_ms: int
    events: list[LoggedEvent]
    rejections: list[Rejection]
    objects: list[bytes] = []

    def counts(self) -> dict[str, int]:
        """Units by key: events and rejections are received; objects are counted apart."""
        counts: dict[str, int] = {}
        received = len(self.events) + len(self.rejections)
        if received:
            counts[self.source] = received
        if self.objects:
            counts[OBJECT_COUNT_PREFIX + self.source] = len(self.objects)
        return counts


class AcceptedEvent(msgspec.Struct, array_like=True, gc=False):
    """One survivor of the source stage. ``app_version`` is its ``context.app.version``, if that is a text."""

    source: str
    received_at_ms: int
    message_id: str
    type: str
    name: str
    body: bytes
    app_version: str = ""


class BlockedEvent(msgspec.Struct, array_like=True, gc=False):
    """An event that the source stage discarded after dedupe. ``body`` is as it was ingested; ``protocols`` is the JSON
    of what would have been written to ``context.protocols``, empty for nothing."""

    source: str
    received_at_ms: int
    message_id: str
    type: str
    name: str
    body: bytes
    reason: str
    protocols: bytes = b""


class Delta(msgspec.Struct, array_like=True, gc=False):
    """So many events of a source, type and name ended the source stage with this outcome and reason.

    ``outcome`` is ``failed_on_ingest``, ``filtered_at_source``, ``accepted``, ``entered`` or ``object``.
    """

    source: str
    type: str
    name: str
    outcome: str
    reason: str
    count: int
    app_version: str = ""


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """A record of ``accepted``: what the source stage made of the ingested range [start, stop) of a partition.

    It is the source stage's commit point. ``dedupe_keys`` are the 16-byte keys of every event that passed
    stage 4, concatenated; ``dedupe_times_ms`` their receivedAt. An envelope with ``fence`` true holds no range:
    it says that the owner of ``epoch`` has taken over, and readers ignore lower epochs behind it.
    """

    version: int
    epoch: int
    partition: str
    group: str
    start: int
    stop: int
    snapshot: str
    survivors: list[AcceptedEvent]
    dedupe_keys: bytes
    dedupe_times_ms: list[int]
    deltas: list[Delta]
    fence: bool = False
    blocked: list[BlockedEvent] = []

    def counts(self) -> dict[str, int]:
        """Survivors by source; objects under their prefix."""
        counts: dict[str, int] = {}
        for event in self.survivors:
            key = event.source if event.type != "object" else OBJECT_COUNT_PREFIX + event.source
            counts[key] = counts.get(key, 0) + 1
        return counts


class _EnvelopeHead(msgspec.Struct, array_like=True, gc=False):
    """An envelope up to ``fence``, its long parts as they lie."""

    version: int
    epoch: int
    partition: str
    group: str
    start: int
    stop: int
    snapshot: str
    survivors: msgspec.Raw
    dedupe_keys: msgspec.Raw
    dedupe_times_ms: msgspec.Raw
    deltas: msgspec.Raw
    fence: bool = False


_encoder = msgspec.msgpack.Encoder()
_chunk_decoder = msgspec.msgpack.Decoder(IngestedChunk)
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)
_head_decoder = msgspec.msgpack.Decoder(_EnvelopeHead)


def encode_chunk(chunk: IngestedChunk) -> bytes:
    return _encoder.encode(chunk)


def decode_chunk(payload: bytes) -> IngestedChunk:
    """Raises RecordError."""
    try:
        chunk = _chunk_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not an ingested chunk: {error}") from error
    if chunk.version != RECORD_VERSION:
        raise RecordError(f"ingested chunk of version {chunk.version}; this program reads {RECORD_VERSION}")
    return chunk


def encode_envelope(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode_envelope(payload: bytes) -> Envelope:
    """Raises RecordError."""
    try:
        envelope = _envelope_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not an envelope: {error}") from error
    return _of_known_version(envelope)


def decode_envelope_head(payload: bytes) -> Envelope:
    """An envelope without its events, keys and deltas, which are passed over: it takes a fraction of the time. Raises
    RecordError."""
    try:
        head = _head_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not an envelope: {error}") from error
    bounds = (head.version, head.epoch, head.partition, head.group, head.start, head.stop, head.snapshot)
    return _of_known_version(Envelope(*bounds, [], b"", [], [], head.fence))


def _of_known_version(envelope: Envelope) -> Envelope:
    if envelope.version != RECORD_VERSION:
        raise RecordError(f"envelope of version {envelope.version}; this program reads {RECORD_VERSION}")
    return envelope
