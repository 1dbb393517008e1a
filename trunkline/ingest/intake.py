"""From a request's body to records of the log: who sent it, which events are good, what they look like.

Everything here is synchronous and does no I/O; the answer is given by :mod:`trunkline.ingest.app` once the records
are durable.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trunkline.clock import Clock
from trunkline.ingest.auth import Callers
from trunkline.ingest.unknown_keys import UnknownKeys
from trunkline.log.base import NewRecord
from trunkline.log.records import RECORD_VERSION, IngestedChunk, LoggedEvent, Rejection, encode_chunk
from trunkline.spec import codes
from trunkline.spec.batch import parse_batch
from trunkline.spec.context import ObjectMemory
from trunkline.spec.event import TYPES, Decoded, decode_event
from trunkline.spec.limits import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, MAX_EXCERPT_BYTES
from trunkline.spec.normalise import Arrival
from trunkline.spec.objects import parse_objects
from trunkline.spec.strict_json import InvalidJson, check_utf8, load_unique, minify
from trunkline.spec.verdicts import judge
from trunkline.workspace.model import Snapshot, Source


class Caller(msgspec.Struct, gc=False):
    """Who sent a request: the write key of the header, the address, the ``User-Agent``."""

    header_key: str | None
    address: str
    user_agent: str | None


class Taken(msgspec.Struct):
    """What a request brought. ``rejected`` are (index, code) of events refused one by one.

    ``unknown_events`` belong to no source and are recorded nowhere; ``disabled`` tells that a source was disabled;
    ``code`` is what the request as a whole has to say.
    """

    records: list[NewRecord] = []
    rejected: list[tuple[int, str]] = []
    events: int = 0
    objects: int = 0
    unknown_events: int = 0
    unknown: bool = False
    disabled: bool = False
    code: str | None = None


class Intake:
    """Turns bodies into records."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        clock: Clock,
        unknown_keys: UnknownKeys,
        callers: Callers,
    ) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._unknown_keys = unknown_keys
        self._callers = callers
        self._memory = ObjectMemory()

    def single(self, body: bytes, kind: str, caller: Caller) -> Taken:
        """One event whose type the path implies. Raises InvalidJson."""
        check_utf8(body)
        if body[:1] != b"{" or b'": ' in body[:64]:
            body = minify(body)
        arrival = Arrival(
            self._memory,
            self._clock.now_ms(),
            client_ip=self._callers.ipv4(caller.address),
            user_agent=caller.user_agent,
        )
        decoded = decode_event(body, kind)
        if decoded.fault == codes.BAD_REQUEST:
            raise InvalidJson("the body must be a JSON object")
        key = decoded.event.writeKey or caller.header_key
        taken = Taken()
        source = self._snapshot().by_write_key.get(key) if key else None
        if source is None:
            arrival.check()
            taken.unknown_events = 1
            self._trace_unknown(taken, key, caller, decoded)
            return taken
        chunk = self._chunk(source, arrival.received_at_ms)
        self._take(chunk, source, body, 0, decoded, arrival, caller, taken)
        arrival.check()
        self._finish(taken, [chunk])
        if taken.rejected:
            taken.code = taken.rejected[0][1]
        return taken

    def batch(self, body: bytes, caller: Caller) -> Taken:
        """Many events. Raises InvalidJson."""
        batch = parse_batch(body)
        taken = Taken()
        if not batch.items:
            taken.code = codes.EMPTY_BATCH
        arrival = Arrival(
            self._memory,
            self._clock.now_ms(),
            client_ip=self._callers.ipv4(caller.address),
            user_agent=caller.user_agent,
            sent_at=batch.sent_at,
            context=batch.context,
            integrations=batch.integrations,
        )
        by_write_key = self._snapshot().by_write_key
        default_key = batch.write_key or caller.header_key
        key = default_key
        source = by_write_key.get(key) if key else None
        chunk = None if source is None else self._chunk(source, arrival.received_at_ms)
        chunks: dict[str, IngestedChunk] = {}
        if source is not None and chunk is not None:
            chunks[source.slug] = chunk
        elif not batch.items:
            self._trace_unknown(taken, key, caller, None)
        checked = batch.checked
        for index, raw in enumerate(batch.items):
            text = bytes(raw)
            decoded = decode_event(text, None, checked)
            item_key = decoded.event.writeKey or default_key
            if item_key != key:
                key = item_key
                source = by_write_key.get(key) if key else None
                if source is not None:
                    chunk = chunks.get(source.slug)
                    if chunk is None:
                        chunk = chunks[source.slug] = self._chunk(source, arrival.received_at_ms)
            if source is None or chunk is None:
                taken.unknown_events += 1
                if not taken.unknown:
                    self._trace_unknown(taken, key, caller, decoded)
                continue
            self._take(chunk, source, text, index, decoded, arrival, caller, taken)
        arrival.check()
        self._finish(taken, list(chunks.values()))
        return taken

    def objects(self, body: bytes, caller: Caller) -> Taken:
        """A ``/v1/set`` request. Raises InvalidJson."""
        request = parse_objects(body)
        taken = Taken()
        key = request.write_key or caller.header_key
        source = self._snapshot().by_write_key.get(key) if key else None
        if source is None:
            self._trace_unknown(taken, key, caller, None)
        elif not source.enabled:
            self._trace_disabled(taken, source, key, caller, None)
        else:
            chunk = self._chunk(source, self._clock.now_ms())
            chunk.objects = request.objects
            self._finish(taken, [chunk])
        return taken

    def _chunk(self, source: Source, received_at_ms: int) -> IngestedChunk:
        return IngestedChunk(RECORD_VERSION, source.slug, received_at_ms, [], [], [])

    def _take(
        self,
        chunk: IngestedChunk,
        source: Source,
        text: bytes,
        index: int,
        decoded: Decoded,
        arrival: Arrival,
        caller: Caller,
        taken: Taken,
    ) -> None:
        """One event into the chunk of its source, accepted or rejected. Raises InvalidJson."""
        event = decoded.event
        if not source.enabled:
            if not taken.disabled:
                self._trace_disabled(taken, source, event.writeKey or caller.header_key, caller, decoded)
            code: str | None = codes.SOURCE_DISABLED
        elif index >= MAX_BATCH_EVENTS:
            code = codes.BATCH_TOO_LONG
        elif len(text) > MAX_EVENT_BYTES:
            code = codes.EVENT_TOO_LARGE
        else:
            code = judge(decoded)
        kind = event.type
        if code is None:
            result = arrival.normalise(decoded, source.client_side)
            if type(result) is tuple:
                body, message_id, has_own_id = result
                name = event.event if kind == "track" else event.name if kind in _NAMED else ""
                chunk.events.append(LoggedEvent(message_id, kind, name or "", body, has_own_id))  # type: ignore[arg-type]
                return
            code = result  # type: ignore[assignment]
        assert code is not None
        if not decoded.checked:
            load_unique(text)
        known_kind = kind if isinstance(kind, str) and kind in TYPES else ""
        chunk.rejections.append(Rejection(code, text[:MAX_EXCERPT_BYTES], known_kind))
        taken.rejected.append((index, code))

    def _finish(self, taken: Taken, chunks: list[IngestedChunk]) -> None:
        for chunk in chunks:
            events, objects = len(chunk.events), len(chunk.objects)
            if events or objects or chunk.rejections:
                taken.events += events
                taken.objects += objects
                taken.records.append(NewRecord(encode_chunk(chunk), chunk.counts()))
        if taken.rejected and taken.code is None:
            taken.code = codes.MULTI_USER_ERROR if taken.events else codes.EMPTY_BATCH_RESULT

    def _trace_unknown(self, taken: Taken, key: str | None, caller: Caller, decoded: Decoded | None) -> None:
        taken.unknown = True
        self._unknown_keys.note(key, caller.address, _sdk(decoded, caller), codes.UNKNOWN_SOURCE)

    def _trace_disabled(
        self, taken: Taken, source: Source, key: str | None, caller: Caller, decoded: Decoded | None
    ) -> None:
        taken.disabled = True
        shown = key if key in source.write_keys else source.write_keys[0]
        self._unknown_keys.note(shown, caller.address, _sdk(decoded, caller), codes.SOURCE_DISABLED)


_NAMED = frozenset({"page", "screen"})


class _Library(msgspec.Struct):
    name: str = ""
    version: str | int | float = ""


class _Context(msgspec.Struct):
    library: _Library | None = None


_decode_context = msgspec.json.Decoder(_Context).decode


def _sdk(decoded: Decoded | None, caller: Caller) -> str:
    """What the client is: the library of the event's context, else its ``User-Agent``."""
    if decoded is not None and isinstance(decoded.event.context, msgspec.Raw):
        try:
            library = _decode_context(decoded.event.context).library
        except msgspec.MsgspecError:
            library = None
        if library is not None and library.name:
            return f"{library.name} {library.version}".strip()
    return caller.user_agent or ""


__all__ = ["Caller", "Intake", "InvalidJson", "Taken"]
