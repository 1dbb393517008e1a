"""Damaged files: never silent, never a wrong answer, at most an hour forgotten and said so."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from trunkline.dedupe import HOUR_MS, DedupeCorrupt, DedupeIndex
from trunkline.dedupe.filter import SlicedFilter
from trunkline.dedupe.run import BLOCK_BYTES

Open = Callable[..., DedupeIndex]
NOON = 500_000 * HOUR_MS
ROWS = 1000


@pytest.fixture
def two_hours(open_index: Open, tmp_path: Path) -> tuple[list[bytes], list[bytes], list[Path]]:
    """Keys of two hours, on disk, closed in order; and their run files."""
    source = random.Random(1)
    keys = [source.randbytes(16) for _ in range(2 * ROWS)]
    index = open_index()
    for hour in range(2):
        index.add_new(keys[hour * ROWS : (hour + 1) * ROWS], [NOON + hour * HOUR_MS] * ROWS)
        index.flush(str(hour), wait=True)
    index.close()
    runs = sorted((tmp_path / "index").glob("*.run"))
    assert len(runs) == 2
    return keys[:ROWS], keys[ROWS:], runs


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "empty": lambda path: overwrite(path, b""),
    "removed": lambda path: path.unlink(),
    "footer": lambda path: flip(path, path.stat().st_size - 20),
    "footer checksum": lambda path: flip(path, path.stat().st_size - 1),
    "fences": lambda path: flip(path, path.stat().st_size - 36 - 3),
    "a block lost": lambda path: overwrite(path, path.read_bytes()[BLOCK_BYTES:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_damaged_at_opening_is_set_aside(
    open_index: Open, two_hours: tuple[list[bytes], list[bytes], list[Path]], damage: str
) -> None:
    old, young, runs = two_hours
    DAMAGES[damage](runs[0])
    index = open_index()
    assert index.stats().lost_hours_ms == (NOON,)
    assert index.stats().keys == ROWS
    assert runs[0].with_suffix(".corrupt").exists() is (damage != "removed")
    assert not any(index.add_new(young, [NOON + HOUR_MS] * ROWS))
    # The owner can close the gap from its log.
    index.restore(b"".join(old), [NOON] * ROWS)
    index.flush("again", wait=True)
    assert not any(index.add_new(old, [NOON] * ROWS))
    index.close()
    again = open_index()
    assert again.stats().lost_hours_ms == (NOON,)  # still said after a restart, until the hour is over
    again.expire(NOON + 26 * HOUR_MS)
    again._settle()
    assert again.stats().lost_hours_ms == ()


@pytest.mark.parametrize("batch", [1, ROWS])
def test_a_block_damaged_is_noticed_when_read(
    open_index: Open, two_hours: tuple[list[bytes], list[bytes], list[Path]], batch: int
) -> None:
    old, young, runs = two_hours
    for block in range(ROWS // 204 + 1):
        flip(runs[0], block * BLOCK_BYTES + 100)
    index = open_index()
    assert index.stats().lost_hours_ms == ()
    answers: list[bool] = []
    for start in range(0, ROWS, batch):
        answers += index.add_new(old[start : start + batch], [NOON] * batch)
    assert all(answers)
    index._settle()
    assert index.stats().lost_hours_ms == (NOON,)
    assert runs[0].with_suffix(".corrupt").exists()
    assert not any(index.add_new(old + young, [NOON] * 2 * ROWS))


def test_a_block_damaged_is_noticed_by_a_merge(open_index: Open, tmp_path: Path) -> None:
    source = random.Random(1)
    keys = [source.randbytes(16) for _ in range(800)]
    index = open_index(min_filter_words=2**16)
    for number in range(7):
        index.add_new(keys[number * 100 : number * 100 + 100], [NOON] * 100)
        index.flush(str(number), wait=True)
    runs = sorted((tmp_path / "index").glob("*.run"))
    assert len(runs) == 7
    flip(runs[3], 100)
    index.add_new(keys[700:], [NOON] * 100)
    index.flush("last", wait=True)
    index._settle()
    assert index.stats().lost_hours_ms == (NOON,)
    lost = keys[300:400]
    assert not any(index.add_new([key for key in keys if key not in lost], [NOON] * 700))
    assert all(index.add_new(lost, [NOON] * 100))


def test_a_block_damaged_is_noticed_when_the_filter_is_built_anew(
    open_index: Open, two_hours: tuple[list[bytes], list[bytes], list[Path]], tmp_path: Path
) -> None:
    _, young, runs = two_hours
    flip(runs[0], 100)
    for path in (tmp_path / "index").glob("*.filter"):
        path.unlink()
    index = open_index()
    assert index.stats().lost_hours_ms == (NOON,)
    assert not any(index.add_new(young, [NOON] * ROWS))


@pytest.mark.parametrize("at", [0, 5, 40, -1])
def test_a_damaged_manifest_is_refused_with_its_mend(
    open_index: Open, two_hours: tuple[list[bytes], list[bytes], list[Path]], tmp_path: Path, at: int
) -> None:
    path = tmp_path / "index" / "manifest"
    flip(path, at)
    with pytest.raises(DedupeCorrupt, match=rf"{path} has a wrong checksum; move .* away") as caught:
        open_index()
    assert "accepted log" in str(caught.value)


def test_a_manifest_of_another_version_is_refused(
    open_index: Open, two_hours: tuple[list[bytes], list[bytes], list[Path]], tmp_path: Path
) -> None:
    path = tmp_path / "index" / "manifest"
    text = path.read_bytes().partition(b"\n")[2].replace(b'"version":1', b'"version":2')
    path.write_bytes(f"{zlib.crc32(text):08x}\n".encode() + text)
    with pytest.raises(DedupeCorrupt, match="format version 2"):
        open_index()


def test_files_that_nobody_names_are_removed(
    open_index: Open, two_hours: tuple[list[bytes], list[bytes], list[Path]], tmp_path: Path
) -> None:
    stray = tmp_path / "index" / "00009999.run"
    stray.write_bytes(b"half a run")
    index = open_index()
    assert not stray.exists()
    assert index.stats().lost_hours_ms == ()


def test_a_filter_is_trusted_after_a_kill_or_an_ordered_close_only(tmp_path: Path) -> None:
    path = tmp_path / "one.filter"
    made = SlicedFilter(path, 1024, b"i" * 16, create=True)
    made.mark_covers(5, b"boot-1")

    def trusted(generation: int, boot: bytes | None, identity: bytes = b"i" * 16) -> bool:
        return SlicedFilter(path, 1024, identity, create=False).trusted(generation, boot)

    assert trusted(5, b"boot-1")
    assert trusted(4, b"boot-1")
    assert not trusted(6, b"boot-1")  # bits of a run of the newer manifest may be missing
    assert not trusted(5, b"boot-2")
    assert not trusted(5, b"")
    assert trusted(5, None)
    assert not trusted(6, None)
    assert not trusted(5, b"boot-1", b"j" * 16)
    made.mark(5, b"boot-1", clean=True)
    assert trusted(5, b"boot-2")
    made.mark(5, b"boot-1")
    assert not trusted(5, b"boot-2")
    flip(path, 30)
    assert not trusted(5, b"boot-1")


def test_after_a_power_cut_only_unsynced_slices_are_read_again(
    open_index: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut leaves the table as it was at the last sync, whatever was set or cleared since."""
    on_disk: dict[str, bytes] = {}
    sync = SlicedFilter.sync

    def sync_and_remember(table: SlicedFilter) -> None:
        sync(table)
        on_disk[table.path.name] = table.path.read_bytes()

    monkeypatch.setattr(SlicedFilter, "sync", sync_and_remember)
    monkeypatch.setattr("trunkline.dedupe.store.Store._rebuild", None)
    source = random.Random(1)
    for day in range(0, 8, 2):  # from the second round on, slices of expired hours are used again
        now = NOON + day * 24 * HOUR_MS
        index = open_index(min_filter_words=2**14)  # 1,024 keys a slice
        index.expire(now)
        index._settle()
        keys = [source.randbytes(16) for _ in range(3600)]
        for start in range(0, 3600, 300):
            assert all(index.add_new(keys[start : start + 300], [now + start * 1000] * 300))
            index.flush(str(start), wait=True)
            index._settle()
            if on_disk and start in (1500, 3000, 3300):
                index.close()
                for name, table in on_disk.items():
                    (tmp_path / "index" / name).write_bytes(table)
                index = open_index(min_filter_words=2**14)
                assert not any(index.add_new(keys[: start + 300], [now + 5 * HOUR_MS] * (start + 300)))
        index.close()
    assert len(on_disk) == 1


def test_the_filter_is_not_built_anew_without_need(
    open_index: Open,
    two_hours: tuple[list[bytes], list[bytes], list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("built anew")

    monkeypatch.setattr("trunkline.dedupe.store.Store._rebuild", refuse)
    open_index().close()
    for path in (tmp_path / "index").glob("*.filter"):
        flip(path, 50)  # its identity
    with pytest.raises(AssertionError, match="built anew"):
        open_index()
