"""Damage by hand: what a checksum cannot show, the chain of ordinals and totals does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.log.log_place import Place, new
from trunkline.log.base import INGESTED, LogCorrupt
from trunkline.log.embedded.format import encode_block_start, encode_index, encode_segment_header
from trunkline.log.embedded.segment import SegmentCursor, list_segments


def rewrite(path: Path, *, drop: int | None = None, drop_block: int | None = None, miscount: int | None = None) -> None:
    """Write a segment anew, every checksum right, without one record or block or with one count changed."""
    cursor = SegmentCursor(path.parent, int(path.stem))
    head = cursor.header
    data = encode_segment_header(head.first_ordinal, head.created_ms, head.previous_append_ms, head.salt, head.totals)
    limit, number = cursor.size_bytes(), -1
    while block := cursor.next_block(limit, payloads=True):
        number += 1
        if number == drop_block:
            continue
        first, at = block.header.first_ordinal, block.payload_at
        payloads = b""
        lengths: list[int] = []
        counts: list[Mapping[str, int]] = []
        for offset, (length, count) in enumerate(zip(block.index.lengths, block.index.counts, strict=True)):
            if first + offset != drop:
                lengths.append(length)
                counts.append({key: n + 1 for key, n in count.items()} if first + offset == miscount else count)
                payloads += block.window[at : at + length]
            at += length
        index = encode_index(lengths, counts, block.index.totals)
        data += encode_block_start(
            index, payloads, len(lengths), first, block.header.appended_ms, head.salt, block.header.flags
        )
        data += payloads
    cursor.close()
    path.write_bytes(data)


@pytest.fixture
def filled(tmp_path: Path) -> Place:
    place = Place(tmp_path / "log", segment_bytes=600)
    appender = place.appender()
    for start in range(0, 24, 3):
        appender.append([new(b"%d" % number * 20, web=1, app=number) for number in range(start, start + 3)])
    appender.close()
    assert len(place.segments) > 2
    assert place.check() == []
    return place


def test_rewriting_alone_changes_nothing(filled: Place) -> None:
    before = [path.read_bytes() for path in filled.segments]
    for path in filled.segments:
        rewrite(path)
    assert [path.read_bytes() for path in filled.segments] == before


@pytest.mark.parametrize("ordinal", range(24))
def test_one_record_taken_out_by_hand_is_noticed(filled: Place, ordinal: int) -> None:
    for path in filled.segments:
        rewrite(path, drop=ordinal)
    problems = filled.check()
    assert problems, f"record {ordinal} went unnoticed"


@pytest.mark.parametrize(("segment", "number"), [(0, 0), (0, 1), (1, 0), (1, 1), (-1, 0)])
def test_one_block_taken_out_by_hand_is_noticed(filled: Place, segment: int, number: int) -> None:
    rewrite(filled.segments[segment], drop_block=number)
    assert filled.check()


@pytest.mark.parametrize("ordinal", range(24))
def test_one_count_changed_by_hand_is_noticed(filled: Place, ordinal: int) -> None:
    for path in filled.segments:
        rewrite(path, miscount=ordinal)
    problems = filled.check()
    assert problems
    assert all("totals" in problem for problem in problems)


def test_one_segment_taken_out_or_exchanged_is_noticed(filled: Place) -> None:
    segments = filled.segments
    middle = segments[1].read_bytes()
    segments[1].unlink()
    assert filled.check()
    segments[1].write_bytes(segments[2].read_bytes())
    assert any("name says" in problem for problem in filled.check())
    segments[1].write_bytes(middle)
    assert filled.check() == []


def test_damage_to_every_byte_of_a_whole_segment_is_noticed(filled: Place) -> None:
    path = filled.segments[1]
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        problems = filled.check()
        assert problems, f"byte {at} went unnoticed"
        assert path.name in problems[0]
        with pytest.raises(LogCorrupt, match=path.name):
            filled.read()
    path.write_bytes(whole)
    assert filled.check() == []


def test_every_damage_is_reported_not_the_first_alone(filled: Place) -> None:
    for path in filled.segments[:2]:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    problems = filled.check()
    assert len(problems) == 2
    assert [path.name in problem for path, problem in zip(filled.segments, problems, strict=False)] == [True, True]


def test_reading_on_behind_damage_needs_a_seek(filled: Place) -> None:
    first = filled.segments[0]
    data = bytearray(first.read_bytes())
    data[-1] ^= 1  # the last payload of the last block
    first.write_bytes(data)
    behind = int(filled.segments[1].stem)
    reader = filled.log().reader(INGESTED, "p")
    found = reader.read(10_000)
    assert found[-1].position < behind - 1, "what is sound before the damage is given out first"
    for _ in range(2):
        with pytest.raises(LogCorrupt, match=f"offset .*record {found[-1].next_position}"):
            reader.read(10_000)
    reader.seek(behind)
    assert reader.read(1)[0].position == behind
    reader.close()


def test_retention_meanwhile_is_no_damage(filled: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes old segments between the listing and the opening."""
    first, second, third = filled.segments[:3]
    listed = list_segments(filled.directory)
    for path in (first, second):
        path.unlink()
    answers = [listed]
    monkeypatch.setattr(
        "trunkline.log.embedded.check.list_segments", lambda path: answers.pop() if answers else list_segments(path)
    )
    assert filled.check() == []
    kept = third.read_bytes()
    third.unlink()
    first.write_bytes(b"")
    answers.append(listed[1:])
    assert any("vanished" in problem for problem in filled.check()), "a hole behind an older segment is damage"
    third.write_bytes(kept)
