"""Lines of plain and compressed files, and going on behind a mark."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from trunkline.client.lines import MAX_LINE_BYTES, FileProblem, Line, Lines

CONTENT = b'{"n":1}\n\n{"n":2}\r\n{"n":3}'
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "gzip in parts": lambda content: gzip.compress(content[:5]) + gzip.compress(content[5:]),
    "zstd": lambda content: zstandard.ZstdCompressor().compress(content),
    "zstd in parts": lambda content: b"".join(
        zstandard.ZstdCompressor().compress(part) for part in (content[:5], content[5:])
    ),
}


@pytest.fixture(params=PACKERS)
def pack(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return PACKERS[request.param]


def test_lines_are_told_by_the_content(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "events"
    path.write_bytes(pack(CONTENT))
    with Lines(path) as lines:
        assert list(lines) == [
            Line(1, b'{"n":1}'),
            Line(2, b""),
            Line(3, b'{"n":2}'),
            Line(4, b'{"n":3}', unended=True),
        ]
        assert lines.mark.offset_bytes == len(CONTENT)


def test_goes_on_behind_a_mark_however_the_content_is_packed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "plain").write_bytes(CONTENT)
    (tmp_path / "longer").write_bytes(pack(CONTENT + b'\n{"n":4}\n'))
    with Lines(tmp_path / "plain") as lines:
        iterator = iter(lines)
        for _ in range(3):
            next(iterator)
        mark = lines.mark
    with Lines(tmp_path / "longer") as lines:
        assert lines.skip_to(mark)
        assert [line.number for line in lines] == [4, 5]


@pytest.mark.parametrize("other", [CONTENT.replace(b"1", b"9"), CONTENT[:10], b""])
def test_other_content_is_told(tmp_path: Path, other: bytes) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "b").write_bytes(other)
    with Lines(tmp_path / "a") as lines:
        list(lines)
        mark = lines.mark
    with Lines(tmp_path / "b") as lines:
        assert not lines.skip_to(mark)


def test_a_line_beyond_the_limit_is_cut_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"x" * (3 * MAX_LINE_BYTES) + b"\nshort\n")
    with Lines(path) as lines:
        first, second = lines
        assert (first.cut, first.number, len(first.text)) == (True, 1, MAX_LINE_BYTES + 1)
        assert second == Line(2, b"short")
        assert lines.mark.offset_bytes == path.stat().st_size


@pytest.mark.parametrize("packer", ["gzip", "zstd", "zstd in parts"])
def test_a_file_that_was_cut_off_is_not_taken_for_a_whole_one(tmp_path: Path, packer: str) -> None:
    path = tmp_path / "events"
    whole = PACKERS[packer](b"".join(b'{"n":"%032x"}\n' % (number * 2**90 // 7) for number in range(20_000)))
    path.write_bytes(whole[: len(whole) * 3 // 4])
    seen: list[Line] = []
    with Lines(path) as lines, pytest.raises(FileProblem, match="damaged or incomplete after line"):
        seen.extend(lines)
    assert 0 < len(seen) < 20_000


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events"
    damaged = bytearray(gzip.compress(CONTENT * 1000))
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)
    with Lines(path) as lines, pytest.raises(FileProblem, match="damaged"):
        list(lines)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="No such file"):
        Lines(tmp_path / "none")
    with pytest.raises(FileProblem, match="Is a directory"):
        Lines(tmp_path)
