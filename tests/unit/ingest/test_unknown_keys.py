from __future__ import annotations

from pathlib import Path

from trunkline.ingest.unknown_keys import MAX_ENTRIES, UnknownKey, UnknownKeys, read_unknown_keys


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic_s(self) -> float:
        return self.seconds


def test_equal_requests_are_one_entry_and_the_key_is_not_kept(tmp_path: Path) -> None:
    keys = UnknownKeys(FakeClock(), tmp_path / "run")
    for _ in range(3):
        keys.note("a-secret-looking-key", "192.0.2.1", "curl", "unknown_source")
    keys.note(None, "192.0.2.1", "curl", "unknown_source")
    keys.note("abc", "192.0.2.1", "x" * 1000, "unknown_source")
    assert [(entry.key_end, entry.count, len(entry.sdk)) for entry in keys.entries()] == [
        ("abc", 1, 100), ("", 1, 4), ("-key", 3, 4),
    ]  # fmt: skip
    assert keys.total == 5
    keys.flush(at_once=True)
    assert "secret" not in next((tmp_path / "run").iterdir()).read_text()


def test_the_last_hundred_are_kept() -> None:
    keys = UnknownKeys(FakeClock())
    for number in range(MAX_ENTRIES + 20):
        keys.note(f"{number:04}", "192.0.2.1", "", "unknown_source")
    assert [entry.key_end for entry in keys.entries()] == [f"{number:04}" for number in range(119, 19, -1)]
    assert keys.total == MAX_ENTRIES + 20


def test_the_file_is_written_at_most_once_a_second(tmp_path: Path) -> None:
    clock = FakeClock()
    keys = UnknownKeys(clock, tmp_path)
    keys.note("aaaa", "192.0.2.1", "", "unknown_source")
    assert len(read_unknown_keys(tmp_path)) == 1
    keys.note("bbbb", "192.0.2.1", "", "unknown_source")
    keys.flush()
    assert len(read_unknown_keys(tmp_path)) == 1
    clock.seconds += 1
    keys.flush()
    assert len(read_unknown_keys(tmp_path)) == 2


def test_the_files_of_all_processes_are_joined(tmp_path: Path) -> None:
    clock = FakeClock()
    first, second = UnknownKeys(clock, tmp_path, "ingest-0"), UnknownKeys(clock, tmp_path, "ingest-1")
    first.note("aaaa", "192.0.2.1", "go", "unknown_source")
    clock.seconds += 5
    second.note("bbbb", "192.0.2.2", "", "source_disabled")
    (tmp_path / "unknown-keys-broken.json").write_text("{")
    assert read_unknown_keys(tmp_path) == [
        UnknownKey(1_005_000, "bbbb", "192.0.2.2", "", "source_disabled", 1),
        UnknownKey(1_000_000, "aaaa", "192.0.2.1", "go", "unknown_source", 1),
    ]
    assert read_unknown_keys(tmp_path / "nothing") == []


def test_a_disk_that_refuses_the_file_stops_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    keys = UnknownKeys(FakeClock(), blocked / "run")
    keys.note("aaaa", "192.0.2.1", "", "unknown_source")
    assert keys.total == 1
