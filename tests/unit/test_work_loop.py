"""How long the loop sleeps, what it says, what ends it. No test waits: the sleeps are written down instead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.hand_clock import HandClock
from trunkline import work_loop
from trunkline.work_loop import COMPLAIN_EVERY_S, FIRST_BACKOFF_S, LONGEST_BACKOFF_S, SHORTEST_PAUSE_S, WorkLoop

Step = bool | Exception


class Run:
    """A loop whose work does as told, step by step, and stops it after the last. Its sleeps move the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
        self.steps = list(steps)
        self.clock = HandClock(0)
        self.sleeps_s: list[float] = []
        self.said: list[tuple[str, Any]] = []
        self.failures = 0
        self.loop = WorkLoop(
            "archive", self.work, self.clock, longest_pause_s=5.0, tried_again=(OSError,), on_failure=self.failed
        )
        monkeypatch.setattr(self.loop, "_sleep", self.sleep)
        monkeypatch.setattr(work_loop._log, "error", self.saying(), False)
        monkeypatch.setattr(work_loop._log, "info", self.saying(), False)
        monkeypatch.setattr("random.uniform", lambda least, most: 1.0)

    def work(self) -> bool:
        step = self.steps.pop(0)
        if not self.steps:
            self.loop.stop()
        if isinstance(step, Exception):
            raise step
        return step

    def sleep(self, pause_s: float) -> None:
        self.sleeps_s.append(pause_s)
        self.clock.pass_s(pause_s)

    def failed(self) -> None:
        self.failures += 1

    def saying(self) -> Callable[..., None]:
        return lambda text, **more: self.said.append((text, more.get("error")))


def test_pauses_grow_while_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, True, False, False, False, False, True, False)
    run.loop.run()
    assert run.sleeps_s == [SHORTEST_PAUSE_S, 2, 4, 5, 5, SHORTEST_PAUSE_S, 2]
    assert (run.failures, run.said) == (0, [])


def test_pauses_grow_while_it_fails_and_begin_anew_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    down = OSError("down")
    run = Run(monkeypatch, *[down] * 8, True, down, down)
    run.loop.run()
    assert run.sleeps_s == [FIRST_BACKOFF_S, 2, 4, 8, 16, 32, *[LONGEST_BACKOFF_S] * 2, SHORTEST_PAUSE_S, 1, 2]
    assert run.failures == 10


def test_it_complains_once_a_minute_and_says_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    down = [OSError(str(number)) for number in range(8)]
    run = Run(monkeypatch, *down, True, True, OSError("soon again"), True)
    run.loop.run()
    assert COMPLAIN_EVERY_S == 60, "failures come 0, 1, 3, 7, 15, 31, 63 and 123 s after the first"
    assert run.said == [
        ("archive.failed", "0"),
        ("archive.failed", "6"),
        ("archive.failed", "7"),
        ("archive.recovered", None),
        ("archive.failed", "soon again"),
        ("archive.recovered", None),
    ]


def test_what_is_not_to_be_tried_again_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, False, ValueError("a bug"), False)
    with pytest.raises(ValueError, match="a bug"):
        run.loop.run()
    assert (len(run.steps), run.failures, run.said) == (1, 0, [])


@pytest.mark.parametrize("stops", [False, True])
def test_a_sleeping_loop_is_woken_and_stopped(monkeypatch: pytest.MonkeyPatch, stops: bool) -> None:
    monkeypatch.setattr(work_loop, "SHORTEST_PAUSE_S", 3600.0)
    worked: list[bool] = []
    sleeps, again = threading.Event(), threading.Event()

    def work() -> bool:
        (again if worked else sleeps).set()
        worked.append(True)
        return False

    loop = WorkLoop("x", work, HandClock(0), longest_pause_s=3600, tried_again=(), on_failure=lambda: None)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    assert sleeps.wait(60)
    if not stops:
        loop.wake()
        assert again.wait(60)
    loop.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert loop.is_stopping
    assert len(worked) == 1 + (not stops)
