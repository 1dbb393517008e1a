"""The published head: never torn, never too high."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trunkline.log.embedded.head import HEAD_FILE, Head, HeadView, HeadWriter


def test_no_head_is_published_at_first(tmp_path: Path) -> None:
    view = HeadView(tmp_path)
    assert view.read() is None
    writer = HeadWriter(tmp_path)
    assert writer.last is None
    assert view.read() is None
    writer.publish(0, 49, 0)
    assert view.read() == Head(1, 0, 49, 0)
    writer.close()


def test_the_last_head_is_found_again(tmp_path: Path) -> None:
    for number in range(1, 6):
        writer = HeadWriter(tmp_path)
        writer.publish(0, number * 10, number)
        writer.close()
        assert HeadView(tmp_path).read() == Head(number, 0, number * 10, number)


@pytest.mark.parametrize("at", range(512))
def test_a_damaged_slot_gives_the_head_before_it_at_worst(tmp_path: Path, at: int) -> None:
    writer = HeadWriter(tmp_path)
    for number in (1, 2):
        writer.publish(0, number * 10, number)
    writer.close()
    path = tmp_path / HEAD_FILE
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    if at >= 8:  # behind the magic, whose damage is refused
        assert HeadView(tmp_path).read() in (Head(1, 0, 10, 1), Head(2, 0, 20, 2))


def test_another_process_never_sees_a_torn_head_nor_goes_back(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from trunkline.log.embedded.head import HeadWriter
        writer = HeadWriter(Path(sys.argv[1]))
        for number in range(1, 100_001):
            writer.publish(number << 32, number * 3, number)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)])
    view, seen, different = HeadView(tmp_path), 0, 0
    while seen < 100_000:
        head = view.read()
        assert head is not None or not seen
        if head is None:
            continue
        number = head.next_ordinal
        assert head == Head(number, number << 32, number * 3, number)
        assert number >= seen
        different += number > seen
        seen = number
        assert writer.poll() in (None, 0)
    assert writer.wait() == 0
    assert different > 10
