"""Bulk batches: a file of one event a line, sent as one array in pieces."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sink import HANG, Place, Reply
from tests.unit.destinations.webhook_kit import sender_of, with_sender
from trunkline.destinations.json_array_file import PIECE_BYTES, JsonArrayFile
from trunkline.destinations.kit import (
    DELIVERED_OUTCOME,
    SAMPLE_BYTES,
    BulkBatch,
    BulkSender,
    HttpError,
    HttpResponse,
    Outcome,
    Result,
)
from trunkline.destinations.webhook import BULK_BYTES_PER_S, BULK_TIMEOUT_S, WebhookSender
from trunkline.workspace.model import DeliveryOptions

BULK: dict[str, Any] = {"enable_batching": True, "batch_size": 1000}


def write(path: Path, count: int, size_bytes: int = 1000, *, last_newline: bool = True) -> BulkBatch:
    lines = [json.dumps({"messageId": f"m{number}", "filler": "ü,\n]" * (size_bytes // 12)}) for number in range(count)]
    content = "\n".join(lines) + ("\n" if last_newline else "")
    path.write_text(content)
    return BulkBatch(path, count, path.stat().st_size)


def send_bulk(url: str, batch: BulkBatch, **how: Any) -> Outcome:
    async def use(sender: WebhookSender) -> Outcome:
        return await sender.send_bulk(batch)

    return with_sender(url, use, **(BULK | how))


class RecordingHttp:
    """Takes the pieces of a body, up to a point."""

    def __init__(self, stop_after: int = 1 << 60) -> None:
        self.stop_after = stop_after
        self.pieces: list[bytes] = []
        self.headers: Mapping[str, str] = {}
        self.timeout_s: float | None = None

    async def post(
        self,
        url: str,
        *,
        body: bytes | AsyncIterable[bytes],
        headers: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> HttpResponse:
        self.headers, self.timeout_s = headers, timeout_s
        assert not isinstance(body, bytes)
        try:
            async for piece in body:
                self.pieces.append(piece)
                if len(self.pieces) >= self.stop_after:
                    break
        except OSError as error:
            raise HttpError("ECONNRESET", "the connection broke off") from error
        return HttpResponse(200, {}, b"")


def test_only_a_large_batch_size_asks_for_bulk_batches() -> None:
    http = RecordingHttp()
    sender = sender_of("https://e.com/", http, enable_batching=True, batch_size=999)
    assert isinstance(sender, BulkSender)
    assert sender.bulk is None
    bulk = sender_of("https://e.com/", http, **BULK).bulk
    assert bulk is not None
    assert bulk.events == 1000


@pytest.mark.parametrize("last_newline", [True, False])
def test_the_file_arrives_as_one_array_signed_over_its_first_event(
    place: Place, tmp_path: Path, last_newline: bool
) -> None:
    batch = write(tmp_path / "batch", 3000, last_newline=last_newline)
    assert batch.size_bytes > 4 * PIECE_BYTES
    outcome = send_bulk(place.url, batch, shared_secret="s3cret")
    assert outcome is DELIVERED_OUTCOME
    [hit] = place.hits
    lines = batch.path.read_bytes().splitlines()
    assert hit.json() == [json.loads(line) for line in lines]
    assert int(hit.headers["content-length"]) == len(hit.body)
    assert "transfer-encoding" not in hit.headers
    assert hit.headers["x-signature"] == hmac.new(b"s3cret", lines[0], hashlib.sha1).hexdigest()


def test_the_same_file_can_be_sent_again(place: Place, tmp_path: Path) -> None:
    batch = write(tmp_path / "batch", 1000)
    place.always(Reply(503, {"Retry-After": "5"}, b"later"))
    outcome = send_bulk(place.url, batch)
    assert (outcome.result, outcome.reason, outcome.retry_after_s, outcome.pause_s) == (Result.RETRY, "503", 5, 5)
    place.always(Reply(200))
    assert send_bulk(place.url, batch) is DELIVERED_OUTCOME
    assert place.hits[0].body == place.hits[1].body


def test_what_is_kept_of_a_failure_is_the_beginning(place: Place, tmp_path: Path) -> None:
    batch = write(tmp_path / "batch", 1000)
    place.always(Reply(400, body=b"bad"))
    outcome = send_bulk(place.url, batch)
    assert (outcome.result, outcome.detail) == (Result.FAILED, "bad")
    assert outcome.exchange is not None
    assert len(outcome.exchange.request_body) == SAMPLE_BYTES
    assert place.hits[0].body.decode().startswith(outcome.exchange.request_body)


def test_a_207_counts_as_delivered_and_says_so(place: Place, tmp_path: Path) -> None:
    place.always(Reply(207, body=b'[{"status": 500}]'))
    outcome = send_bulk(place.url, write(tmp_path / "batch", 1))
    assert outcome.result is Result.DELIVERED
    assert "207" in outcome.detail


def test_no_answer(place: Place, tmp_path: Path) -> None:
    place.always(HANG)
    batch = write(tmp_path / "batch", 1)
    outcome = send_bulk(place.url, batch, delivery=DeliveryOptions(timeout_s=0.1))
    assert (outcome.result, outcome.reason) == (Result.RETRY, "ETIMEDOUT")
    place.let_go()


def test_a_larger_batch_may_take_longer(tmp_path: Path) -> None:
    http = RecordingHttp()
    batch = write(tmp_path / "batch", 1000)
    asyncio.run(sender_of("https://e.com/", http, **BULK).send_bulk(batch))
    assert http.timeout_s == BULK_TIMEOUT_S + (batch.size_bytes + 1) / BULK_BYTES_PER_S
    options = DeliveryOptions(timeout_s=5)
    asyncio.run(sender_of("https://e.com/", http, delivery=options, **BULK).send_bulk(batch))
    assert http.timeout_s == 5 + (batch.size_bytes + 1) / BULK_BYTES_PER_S


def test_the_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    http = RecordingHttp()
    batch = write(tmp_path / "batch", 40, 40_000)
    outcome = asyncio.run(sender_of("https://e.com/", http, **BULK).send_bulk(batch))
    assert outcome is DELIVERED_OUTCOME
    assert max(map(len, http.pieces)) == PIECE_BYTES
    assert len(http.pieces) > 5
    assert int(http.headers["Content-Length"]) == sum(map(len, http.pieces))


def test_a_file_that_is_missing_or_empty_means_another_attempt(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path in (tmp_path / "none", empty):
        http = RecordingHttp()
        outcome = asyncio.run(sender_of("https://e.com/", http, **BULK).send_bulk(BulkBatch(path, 1, 1)))
        assert (outcome.result, outcome.reason) == (Result.RETRY, "EIO")
        assert http.pieces == []


def test_a_file_that_becomes_shorter_under_way_is_an_error_of_the_disk(tmp_path: Path) -> None:
    batch = write(tmp_path / "batch", 2000)

    class Cutting(RecordingHttp):
        async def post(self, url: str, **how: Any) -> HttpResponse:
            batch.path.write_bytes(batch.path.read_bytes()[:100])
            return await super().post(url, **how)

    outcome = asyncio.run(sender_of("https://e.com/", Cutting(), **BULK).send_bulk(batch))
    assert (outcome.result, outcome.reason) == (Result.RETRY, "EIO")
    assert "shorter" in outcome.detail


def test_with_the_real_client_too(place: Place, tmp_path: Path) -> None:
    batch = write(tmp_path / "batch", 2000)

    async def use(sender: WebhookSender) -> Outcome:
        array_open = JsonArrayFile.open

        async def open_and_cut(array: JsonArrayFile) -> None:
            await array_open(array)
            batch.path.write_bytes(b"")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(JsonArrayFile, "open", open_and_cut)
            return await sender.send_bulk(batch)

    outcome = with_sender(place.url, use, **BULK)
    assert (outcome.result, outcome.reason) == (Result.RETRY, "EIO")
    assert place.hits == []


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(json_texts, min_size=1, max_size=20), st.booleans(), st.integers(1, 50))
def test_any_lines_become_their_array(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], last_newline: bool, piece_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("array") / "lines"
    path.write_text("\n".join(json.dumps(value) for value in values) + ("\n" if last_newline else ""))

    async def read() -> tuple[bytes, int]:
        array = JsonArrayFile(path)
        await array.open()
        return b"".join([piece async for piece in array.pieces()]), array.size_bytes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trunkline.destinations.json_array_file.PIECE_BYTES", piece_bytes)
        content, size_bytes = asyncio.run(read())
    assert json.loads(content) == values
    assert len(content) == size_bytes
