from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.dedupe.dedupe_clock import HandClock
from trunkline.dedupe import DAY_MS, HOUR_MS, DedupeError, DedupeIndex, DedupeLocked, KeyMaker

Open = Callable[..., DedupeIndex]
NOON = 500_000 * HOUR_MS


def make_keys(count: int, seed: int = 1) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(16) for _ in range(count)]


def test_keys_are_16_bytes_and_depend_on_the_secret() -> None:
    one, two = KeyMaker(b"one"), KeyMaker(b"two")
    assert len(one.key("a")) == 16
    assert one.key("a") == one.key("a") != one.key("b")
    assert one.key("a") != two.key("a")
    ids = ["a", "", "\ud800", "ключ", "a" * 100_000]
    assert one.keys(ids) == [one.key(message_id) for message_id in ids]
    assert len(set(one.keys(ids))) == len(ids)
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("secret", [b"", b"x" * 65])
def test_a_secret_of_the_wrong_length_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        KeyMaker(secret)


def test_duplicates_inside_one_call(open_index: Open) -> None:
    a, b, c = make_keys(3)
    assert open_index().add_new([a, b, a, c, b, a], [NOON] * 6) == [True, True, False, True, False, False]


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("batch", [1, 200])
@pytest.mark.parametrize("start", [NOON, NOON + 1, NOON + HOUR_MS - 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_boundary_is_24_hours_to_the_millisecond(
    open_index: Open, flushed: bool, batch: int, start: int, sign: int
) -> None:
    index = open_index()
    keys = make_keys(batch)
    assert all(index.add_new(keys, [start] * batch))
    if flushed:
        index.flush("1", wait=True)
    assert not any(index.add_new(keys, [start + sign * (DAY_MS - 1)] * batch))
    assert all(index.add_new(keys, [start + sign * DAY_MS] * batch))


@pytest.mark.parametrize("flushed", [False, True])
def test_a_duplicate_does_not_refresh_the_first_sight(open_index: Open, flushed: bool) -> None:
    index = open_index()
    (key,) = make_keys(1)
    assert index.add_new([key], [NOON]) == [True]
    if flushed:
        index.flush("1", wait=True)
    assert index.add_new([key], [NOON + 20 * HOUR_MS]) == [False]
    assert index.add_new([key], [NOON + DAY_MS]) == [True]
    # The new first sight counts from now on, and the old one for what is near it.
    assert index.add_new([key] * 2, [NOON + DAY_MS + 20 * HOUR_MS, NOON - HOUR_MS]) == [False, False]


def test_first_sights_in_memory_frozen_and_on_disk_are_one_set(open_index: Open) -> None:
    index = open_index()
    (key,) = make_keys(1)
    for day in range(6):
        assert index.add_new([key], [NOON + day * DAY_MS]) == [True]
        if day % 2:
            index.flush(str(day), wait=day == 1)
    assert index.add_new([key] * 6, [NOON + day * DAY_MS + 5 for day in range(6)]) == [False] * 6


def test_all_batch_sizes_agree_on_keys_on_disk(open_index: Open) -> None:
    index = open_index()
    keys = make_keys(3000)
    for start in range(0, 3000, 500):
        index.add_new(keys[start : start + 500], [NOON + start * 1000] * 500)
        index.flush(str(start), wait=True)
    fresh = make_keys(3000, seed=2)
    for batch in (1, 7, 15, 16, 17, 300):
        for start in range(0, 3000 - batch, 311):
            assert not any(index.add_new(keys[start : start + batch], [NOON] * batch))
    for start, batch in ((0, 1), (1, 15), (16, 16), (32, 900)):
        assert all(index.add_new(fresh[start : start + batch], [NOON] * batch))


def test_keys_that_share_their_first_half_are_told_apart(open_index: Open) -> None:
    """600 keys with equal first halves fill whole blocks of a run with one sort value."""
    keys = [b"\x77" * 8 + number.to_bytes(8, "big") for number in range(600)]
    around = [b"\x77" * 7 + b"\x76" + bytes(8), b"\x77" * 7 + b"\x78" + bytes(8), bytes(16), b"\xff" * 16]
    index = open_index()
    assert all(index.add_new(keys + around[:2], [NOON] * 602))
    index.flush("1", wait=True)
    assert not any(index.add_new(keys + around[:2], [NOON] * 602))
    # A key of zeros must not be taken for the padding of the last block.
    assert index.add_new(around, [NOON] * 4) == [False, False, True, True]
    assert all(index.add_new([b"\x77" * 8 + number.to_bytes(8, "big") for number in range(600, 700)], [NOON] * 100))


def test_a_key_at_an_odd_place_in_a_block_is_not_found(open_index: Open) -> None:
    index = open_index()
    assert index.add_new([b"a" * 8 + b"b" * 8, b"a" * 8 + b"c" * 8], [NOON] * 2) == [True, True]
    index.flush("1", wait=True)
    assert index.add_new([b"b" * 8 + b"a" * 8], [NOON]) == [True]


def test_restart_keeps_what_was_flushed_and_restore_the_rest(open_index: Open) -> None:
    first = open_index()
    keys = make_keys(300)
    first.add_new(keys[:200], [NOON] * 200)
    first.flush("after 200", wait=True)
    assert (first.checkpoint, first.unflushed) == ("after 200", 0)
    first.add_new(keys[200:], [NOON] * 100)
    assert first.unflushed == 100
    first.close()
    second = open_index()
    assert (second.checkpoint, second.unflushed) == ("after 200", 0)
    for _ in range(3):
        second.restore(b"".join(keys[200:]), [NOON] * 100)
    assert second.unflushed == 100
    assert not any(second.add_new(keys, [NOON + HOUR_MS] * 300))


def test_restore_of_keys_on_disk_is_harmless(open_index: Open) -> None:
    index = open_index(min_filter_words=2**16)
    keys = make_keys(50)
    index.add_new(keys, [NOON] * 50)
    for number in range(8):
        index.flush(str(number), wait=True)
        index.restore(b"".join(keys), [NOON] * 50)
    assert not any(index.add_new(keys, [NOON] * 50))
    index._settle()
    stats = index.stats()
    assert (stats.keys - stats.memtable_keys, stats.runs) == (50, 1)  # the merge removed the doubles


def test_restore_refuses_what_does_not_fit(open_index: Open) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        open_index().restore(b"x" * 33, [NOON, NOON])


def test_expire_drops_whole_hours_and_their_files(open_index: Open, tmp_path: Path) -> None:
    index = open_index()
    keys = make_keys(300)
    for hour in range(3):
        index.add_new(keys[hour * 100 : hour * 100 + 100], [NOON + hour * HOUR_MS] * 100)
    index.flush("1", wait=True)
    assert index.stats().hours == 3
    # The first hour ends at NOON + 1 h: its last millisecond matters until 24 h later.
    assert index.expire(NOON + HOUR_MS + DAY_MS - 1) == 0
    assert index.expire(NOON + HOUR_MS + DAY_MS) == 100
    index.close()
    assert len(list((tmp_path / "index").glob("*.run"))) == 2
    again = open_index()
    assert again.stats().keys == 200
    assert all(again.add_new(keys[:100], [NOON] * 100))
    assert not any(again.add_new(keys[100:], [NOON] * 200))


def test_space_of_expired_hours_is_used_again(open_index: Open, tmp_path: Path) -> None:
    """Four days of steady traffic need no more filter and no more files than two."""
    index = open_index()
    sizes: list[tuple[int, int]] = []
    for hour in range(100):
        keys = make_keys(60, seed=hour)
        now = NOON + hour * HOUR_MS
        assert all(index.add_new(keys, [now] * 60))
        index.flush(str(hour), wait=True)
        index.expire(now)
        index._settle()
        if hour >= 24 and hour % 8 == 0:  # slices that are emptied for reuse leave the others alone
            for past in range(hour - 23, hour + 1):
                assert not any(index.add_new(make_keys(60, seed=past), [now] * 60))
        sizes.append((index.stats().memory_bytes, len(list((tmp_path / "index").iterdir()))))
    assert sizes[-1] <= max(sizes[:48])
    assert index.stats().hours <= 26


def test_growth_of_the_filter_forgets_nothing(open_index: Open) -> None:
    index = open_index()
    keys = make_keys(20_000)
    small = index.stats().memory_bytes
    for start in range(0, 20_000, 1000):
        assert all(index.add_new(keys[start : start + 1000], [NOON + start * 1000] * 1000))
        index.flush(str(start), wait=start % 3 == 0)
    index.flush("end", wait=True)
    assert index.stats().memory_bytes > 4 * small
    assert not any(index.add_new(keys, [NOON + 10 * HOUR_MS] * 20_000))
    index.close()
    assert not any(open_index().add_new(keys, [NOON + 10 * HOUR_MS] * 20_000))


def test_clock_jumps_far_both_ways(open_index: Open) -> None:
    index = open_index()
    keys = make_keys(100)
    times = [NOON, NOON + 400 * DAY_MS, NOON - 400 * DAY_MS, 0]
    for round_ in range(4):
        for number, time_ms in enumerate(times):
            part = keys[number * 25 : number * 25 + 25]
            assert index.add_new(part, [time_ms + round_] * 25) == [round_ == 0] * 25
        index.flush(str(round_), wait=True)
    assert index.stats().hours == 4


def test_should_flush_by_size(open_index: Open) -> None:
    index = open_index(memtable_keys=100)
    keys = make_keys(100)
    answers = [index.should_flush]
    for part in (keys[:99], keys[99:]):
        index.add_new(part, [NOON] * len(part))
        answers.append(index.should_flush)
    index.flush("1", wait=True)
    assert [*answers, index.should_flush] == [False, False, True, False]


def test_should_flush_by_age(open_index: Open, clock: HandClock) -> None:
    index = open_index()
    answers = []
    clock.seconds += 10_000
    answers.append(index.should_flush)  # empty, however old
    index.add_new(make_keys(1), [NOON])
    answers.append(index.should_flush)
    clock.seconds += 3599
    answers.append(index.should_flush)
    clock.seconds += 1
    answers.append(index.should_flush)
    assert answers == [False, False, False, True]


def test_a_flush_without_new_keys_moves_the_checkpoint(open_index: Open) -> None:
    index = open_index()
    index.flush("7", wait=True)
    assert index.checkpoint == "7"
    index.close()
    assert open_index().checkpoint == "7"


def test_two_owners_are_refused(open_index: Open) -> None:
    index = open_index()
    with pytest.raises(DedupeLocked, match="another process"):
        open_index()
    index.close()
    open_index()


def test_another_secret_is_refused(open_index: Open) -> None:
    open_index().close()
    with pytest.raises(DedupeError, match="another secret"):
        open_index(secret=b"other")
    open_index()  # the lock was given back


def test_stats_count_what_is_there(open_index: Open, tmp_path: Path) -> None:
    index = open_index()
    index.add_new(make_keys(10), [NOON] * 10)
    index.flush("1", wait=True)
    index.add_new(make_keys(5, seed=2), [NOON] * 5)
    stats = index.stats()
    assert (stats.keys, stats.memtable_keys, stats.hours, stats.runs) == (15, 5, 1, 1)
    files = [path.stat().st_size for path in (tmp_path / "index").iterdir() if path.suffix in (".run", ".filter")]
    assert stats.disk_bytes == sum(files)
    assert stats.memory_bytes > 8192
    assert (stats.last_error, stats.lost_hours_ms) == (None, ())
