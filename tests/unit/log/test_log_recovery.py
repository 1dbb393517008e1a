"""What a crash may leave behind, and what opening the partition makes of it."""

from __future__ import annotations

import contextlib
import shutil
import struct
import zlib
from pathlib import Path

import pytest

from tests.unit.log.log_place import Place, new
from trunkline.log.base import INGESTED, LogCorrupt
from trunkline.log.embedded.head import HEAD_FILE, HeadView


def head_of(place: Place) -> tuple[int, int, int]:
    head = HeadView(place.directory).read()
    assert head is not None
    return head.segment, head.offset, head.next_ordinal


def unpublished_block(place: Place) -> tuple[Path, int, int]:
    """Two published appends and a third one that the head does not know; return the file, its start and its end."""
    appender = place.appender()
    appender.append([new(b"one", web=1), new(b"two", web=2)])
    appender.append([new(b"three" * 5, app=3)])
    start = head_of(place)[1]
    published = (place.directory / HEAD_FILE).read_bytes()
    appender.append([new(b"four" * 4, web=4), new(b"", app=5), new(b"six", other=6)])
    appender.close()
    end = head_of(place)[1]
    (place.directory / HEAD_FILE).write_bytes(published)
    (segment,) = place.segments
    assert segment.stat().st_size == end
    return segment, start, end


TWO = [b"one", b"two", b"three" * 5]
THREE = [*TWO, b"four" * 4, b"", b"six"]


def reopen_and_append(place: Place, expected: list[bytes]) -> None:
    """The partition opens with exactly these payloads, and is a sound log that goes on."""
    appender = place.appender()
    assert appender.head == len(expected)
    assert place.payloads() == expected
    assert place.check() == []
    appender.append([new(b"next", web=10)])
    appender.close()
    assert place.payloads() == [*expected, b"next"]
    assert place.check() == []
    web = 1 + 2 + (4 if len(expected) == len(THREE) else 0) + 10
    assert place.log().totals(INGESTED, "p").counts["web"] == web


def test_a_whole_block_above_the_head_is_kept(place: Place) -> None:
    unpublished_block(place)
    assert place.payloads() == TWO, "without an appender only what was published is seen"
    reopen_and_append(place, THREE)


def test_a_block_cut_off_at_any_byte_is_removed(place: Place, tmp_path: Path) -> None:
    segment, start, end = unpublished_block(place)
    for size in range(start, end):
        copy = Place(tmp_path / "copy")
        shutil.copytree(place.root, copy.root)
        with (copy.directory / segment.name).open("r+b") as file:
            file.truncate(size)
        appender = copy.appender()
        assert appender.truncated_bytes == size - start
        appender.close()
        reopen_and_append(copy, TWO)
        shutil.rmtree(copy.root)


@pytest.mark.parametrize("flip", [0x01, 0xFF])
def test_a_block_with_any_byte_flipped_is_removed(place: Place, tmp_path: Path, flip: int) -> None:
    segment, start, end = unpublished_block(place)
    for at in range(start, end):
        copy = Place(tmp_path / "copy")
        shutil.copytree(place.root, copy.root)
        with (copy.directory / segment.name).open("r+b") as file:
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ flip]))
        reopen_and_append(copy, TWO)
        shutil.rmtree(copy.root)


def test_a_block_of_zeros_or_of_another_segments_bytes_is_removed(place: Place, tmp_path: Path) -> None:
    segment, start, end = unpublished_block(place)
    stranger = Place(tmp_path / "stranger")
    foreign, *_ = unpublished_block(stranger)
    for left in (bytes(end - start), bytes(100_000), foreign.read_bytes()[start:], foreign.read_bytes()):
        copy = Place(tmp_path / "copy")
        shutil.copytree(place.root, copy.root)
        with (copy.directory / segment.name).open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            file.write(left)
        reopen_and_append(copy, TWO)
        shutil.rmtree(copy.root)


def test_a_torn_block_that_carries_a_sound_block_in_its_payload_is_removed(place: Place) -> None:
    """A client may send what looks like a block: not even this log's own bytes bring a record in by that way."""
    appender = place.appender()
    appender.append([new(b"one"), new(b"two", web=2)])
    start = head_of(place)[1]
    appender.append([new(b"three" * 5, app=3)])
    (segment,) = place.segments
    sound = segment.read_bytes()[start:]
    published = (place.directory / HEAD_FILE).read_bytes()
    begin = head_of(place)[1]
    appender.append([new(b"-" * 20 + sound + b"-" * 20)])
    appender.close()
    (place.directory / HEAD_FILE).write_bytes(published)
    with segment.open("r+b") as file:
        file.seek(begin + 60)  # in the index: the header stays sound and tells how far the block goes
        file.write(b"\xff")
    reopen_and_append(place, TWO)


def test_damage_below_the_head_is_never_cut_off(place: Place, tmp_path: Path) -> None:
    appender = place.appender()
    appender.append([new(b"one", web=1)])
    start = head_of(place)[1]
    appender.append([new(b"two", web=2)])
    appender.close()
    (segment,) = place.segments
    end = segment.stat().st_size
    for at in range(start, end):
        copy = Place(tmp_path / "copy")
        shutil.copytree(place.root, copy.root)
        file = copy.directory / segment.name
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
        with contextlib.suppress(LogCorrupt):  # damage to a payload alone does not keep anybody from appending
            copy.appender().close()
        assert file.stat().st_size == end
        with pytest.raises(LogCorrupt, match=rf"{segment.name}.* at offset {start}, record 1$"):
            copy.read(1)
        assert [segment.name in problem for problem in copy.check()] == [True]
        shutil.rmtree(copy.root)


@pytest.mark.parametrize("lost", [1, 20, 60])
def test_a_file_that_ends_below_the_head_is_damage(place: Place, lost: int) -> None:
    appender = place.appender()
    appender.append([new(b"one")])
    appender.append([new(b"two" * 30)])
    appender.close()
    (segment,) = place.segments
    size = segment.stat().st_size - lost
    with segment.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(LogCorrupt, match=segment.name):
        place.appender()
    assert segment.stat().st_size == size
    assert place.check() != []
    with pytest.raises(LogCorrupt, match="offset"):
        place.read(1)


def test_damage_with_sound_blocks_behind_it_is_never_cut_off(place: Place) -> None:
    """After a loss of power the head may be too low; a bad block in the middle is then no torn append."""
    segment, _start, end = unpublished_block(place)
    (place.directory / HEAD_FILE).unlink()  # as low as it can be
    data = bytearray(segment.read_bytes())
    first_block = 44 + 1
    damaged = bytearray(data)
    damaged[first_block + 20] ^= 1  # its header
    segment.write_bytes(damaged)
    with pytest.raises(LogCorrupt, match=f"{segment.name}.*offset"):
        place.appender()
    assert segment.read_bytes() == bytes(damaged)

    damaged = bytearray(data)
    payload = data.index(b"onetwo")
    damaged[payload] ^= 1
    segment.write_bytes(damaged)
    appender = place.appender()  # what a payload says is needed by no later append
    assert appender.head == 6
    appender.append([new(b"seven")])
    assert segment.stat().st_size > end
    with pytest.raises(LogCorrupt, match=f"{segment.name}: checksum of a block's payloads.*record 0"):
        place.read()
    assert len(place.check()) == 1
    assert [record.payload for record in place.read(2)] == [*THREE[2:], b"seven"]


def test_a_newer_format_is_refused_and_left_alone(place: Place) -> None:
    segment, start, _end = unpublished_block(place)
    data = bytearray(segment.read_bytes())
    salt = struct.unpack_from("<I", data, 40)[0]
    data[start + 4] = 2
    data[start + 44 : start + 48] = struct.pack("<I", zlib.crc32(bytes(data[start : start + 44]), salt))
    segment.write_bytes(data)
    with pytest.raises(LogCorrupt, match="block format 2"):
        place.appender()
    assert segment.read_bytes() == bytes(data)


@pytest.mark.parametrize("head", [b"", bytes(10), bytes(512)])
def test_a_head_file_that_was_lost_is_made_anew(place: Place, head: bytes) -> None:
    unpublished_block(place)
    (place.directory / HEAD_FILE).write_bytes(head)
    assert place.payloads() == []
    (problem,) = place.check()
    assert "no head" in problem
    reopen_and_append(place, THREE)


def test_a_strange_head_file_is_refused(place: Place) -> None:
    unpublished_block(place)
    (place.directory / HEAD_FILE).write_bytes(b"something else".ljust(512))
    with pytest.raises(LogCorrupt, match="head"):
        place.appender()
    with pytest.raises(LogCorrupt, match="head"):
        place.read()
    assert len(place.check()) == 1


def test_the_making_of_a_segment_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "log", segment_bytes=200)
    appender = place.appender()
    appender.append([new(b"x" * 300)])
    appender.close()
    stray = place.directory / "00000000000000000001.new"
    stray.write_bytes(b"TRKSEG1\n half a header")
    appender = place.appender()
    assert not stray.exists()
    appender.append([new(b"y" * 300)])
    appender.close()
    assert place.payloads() == [b"x" * 300, b"y" * 300]
    assert place.check() == []


def test_a_new_segment_that_the_head_does_not_know_yet_is_used(tmp_path: Path) -> None:
    place = Place(tmp_path / "log", segment_bytes=200)
    appender = place.appender()
    appender.append([new(b"x" * 300, web=3)])
    published = (place.directory / HEAD_FILE).read_bytes()
    appender.append([new(b"y" * 300, web=4)])
    appender.close()
    (place.directory / HEAD_FILE).write_bytes(published)
    with place.segments[1].open("r+b") as file:
        file.truncate(file.seek(0, 2) - 348 - 4)
    assert place.payloads() == [b"x" * 300]
    appender = place.appender()
    assert appender.head == 1
    appender.append([new(b"z", web=5)])
    assert place.payloads() == [b"x" * 300, b"z"]
    assert place.log().totals(INGESTED, "p").counts == {"web": 8}
    assert place.check() == []


def test_missing_segments_are_damage(tmp_path: Path) -> None:
    place = Place(tmp_path / "log", segment_bytes=200)
    appender = place.appender()
    for number in range(4):
        appender.append([new(b"%d" % number * 300)])
    appender.close()
    whole = {path: path.read_bytes() for path in place.segments}

    place.segments[1].unlink()
    with pytest.raises(LogCorrupt, match="missing"):
        place.read()
    assert place.check() != []
    for path, data in whole.items():
        path.write_bytes(data)

    place.segments[-1].unlink()
    with pytest.raises(LogCorrupt, match="head is at record 4"):
        place.appender()
    assert place.check() != []

    for path in place.segments:
        path.unlink()
    with pytest.raises(LogCorrupt, match="missing"):
        place.appender()
    with pytest.raises(LogCorrupt):
        place.read()
    with pytest.raises(LogCorrupt):
        place.log().totals(INGESTED, "p")
    assert place.check() != []
