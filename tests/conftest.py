"""What holds for all tests: one that hangs is ended wherever it hangs, and the slow ones go first."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

GRACE_S = 60.0
"""After a test's limit. The failure that pytest-timeout raises at the limit is an exception like others: a task of an
event loop keeps it as its result, and the test goes on waiting. So the process is ended then, with all its stacks."""

STDERR = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        config.stash[STDERR] = os.dup(2)
        return
    with capture.global_and_fixture_disabled():
        config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("timeout")
    limit_s = float(marker.args[0]) if marker else float(item.config.getini("timeout"))
    faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the last ones would run while the other processes have nothing left to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
