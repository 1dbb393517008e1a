"""Names to addresses: remembered, bounded, and a slow server holds up nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.delivery.http_kit import LOOPBACK, client_of, error_of, serving
from trunkline.clock import SystemClock
from trunkline.delivery import resolver as module
from trunkline.delivery.resolver import CACHE_S, FAILURE_CACHE_S, LOOKUPS_AT_ONCE, STALE_S, Resolver, system_addresses


class SetClock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s


class Names:
    """A name server: what it answers, and how often it was asked. ``silent`` names wait for :meth:`release`."""

    def __init__(self, **answers: Sequence[str] | Exception) -> None:
        self.answers: dict[str, Sequence[str] | Exception] = {k.replace("_", "."): v for k, v in answers.items()}
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.at_once = 0
        self.most_at_once = 0
        self._released = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, host: str) -> Sequence[str]:
        with self._lock:
            self.asked.append(host)
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        if host in self.silent:
            self._released.wait(60)
        with self._lock:
            self.at_once -= 1
        answer = self.answers.get(host, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self) -> None:
        self._released.set()


AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_answers_are_remembered_for_a_minute() -> None:
    async def test() -> None:
        names, clock = Names(a=["192.0.2.1"]), SetClock()
        resolver = Resolver(clock, names)
        for _ in range(3):
            assert list(await resolver.addresses("a")) == ["192.0.2.1"]
        clock.at_s += CACHE_S - 1
        await resolver.addresses("a")
        assert names.asked == ["a"]
        names.answers["a"] = ["192.0.2.2"]
        clock.at_s += 2
        assert list(await resolver.addresses("a")) == ["192.0.2.2"]
        assert names.asked == ["a", "a"]
        await resolver.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), socket.EAI_NONAME),
        (AGAIN, socket.EAI_AGAIN),
        (OSError(24, "Too many open files"), socket.EAI_AGAIN),
        (UnicodeError("label too long"), socket.EAI_NONAME),
        ([], socket.EAI_NONAME),
    ],
)
def test_failures_are_remembered_for_some_seconds(answer: Sequence[str] | Exception, code: int) -> None:
    async def test() -> None:
        names, clock = Names(a=answer), SetClock()
        resolver = Resolver(clock, names)
        for _ in range(3):
            with pytest.raises(socket.gaierror) as caught:
                await resolver.addresses("a")
            assert caught.value.errno == code
        assert names.asked == ["a"]
        names.answers["a"] = ["192.0.2.1"]
        clock.at_s += FAILURE_CACHE_S + 1
        assert list(await resolver.addresses("a")) == ["192.0.2.1"]
        await resolver.close()

    asyncio.run(test())


def test_many_who_ask_at_once_cost_one_lookup() -> None:
    async def test() -> None:
        names = Names(a=["192.0.2.1"])
        names.silent.add("a")
        resolver = Resolver(SystemClock(), names)
        asking = [asyncio.create_task(resolver.addresses("a")) for _ in range(50)]
        await asyncio.sleep(0.05)
        asking[0].cancel()
        names.release()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [("192.0.2.1",)] * 49, "who gives up takes nobody along"
        assert names.asked == ["a"]
        await resolver.close()

    asyncio.run(test())


def test_a_silent_server_holds_up_its_own_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT_S", 0.2)

    async def test() -> None:
        names = Names(good=["192.0.2.1"])
        names.silent = {f"slow{number}" for number in range(LOOKUPS_AT_ONCE - 1)}
        resolver = Resolver(SystemClock(), names)
        slow = [asyncio.create_task(resolver.addresses(name)) for name in sorted(names.silent) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert list(await resolver.addresses("good")) == ["192.0.2.1"]
        for answer in await asyncio.gather(*slow, return_exceptions=True):
            assert isinstance(answer, socket.gaierror)
            assert answer.errno == socket.EAI_AGAIN
        assert len(names.asked) == LOOKUPS_AT_ONCE, "one thread a name, however many ask"
        await resolver.close()
        names.release()

    asyncio.run(test())


def test_there_are_never_more_threads_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT_S", 0.2)

    async def test() -> None:
        names = Names()
        names.silent = {f"slow{number}" for number in range(3 * LOOKUPS_AT_ONCE)}
        resolver = Resolver(SystemClock(), names)
        await asyncio.gather(*map(resolver.addresses, names.silent), return_exceptions=True)
        assert names.most_at_once == LOOKUPS_AT_ONCE
        names.release()
        await resolver.close()

    asyncio.run(test())


def test_an_answer_that_ran_out_is_used_while_the_server_is_silent_or_in_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALE_WAIT_S", 0.01)
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT_S", 3600)

    async def test() -> None:
        names, clock = Names(a=["192.0.2.1"], b=["192.0.2.2"], c=["192.0.2.3"]), SetClock()
        resolver = Resolver(clock, names)
        for name in "abc":
            await resolver.addresses(name)
        clock.at_s += CACHE_S + 1
        names.silent.add("a")
        names.answers |= {"b": AGAIN, "c": socket.gaierror(socket.EAI_NONAME, "gone")}
        async with asyncio.timeout(60):
            assert list(await resolver.addresses("a")) == ["192.0.2.1"]
        monkeypatch.setattr(module, "STALE_WAIT_S", 10)
        assert list(await resolver.addresses("b")) == ["192.0.2.2"]
        with pytest.raises(socket.gaierror):
            await resolver.addresses("c")
        clock.at_s += STALE_S
        with pytest.raises(socket.gaierror):
            await resolver.addresses("b")
        await resolver.close()
        names.release()

    asyncio.run(test())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NAMES", 3)

    async def test() -> None:
        names = Names(**{name: ["192.0.2.1"] for name in "abcd"})
        resolver = Resolver(SystemClock(), names)
        for name in "abcd":
            await resolver.addresses(name)
        for name in "dcb":
            await resolver.addresses(name)
        assert len(names.asked) == 4
        await resolver.addresses("a")
        assert len(names.asked) == 5
        await resolver.close()

    asyncio.run(test())


def test_the_system_is_asked() -> None:
    assert set(system_addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert list(system_addresses("localhost"))


def test_a_slow_name_server_holds_up_neither_the_loop_nor_other_destinations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the client, with the machine's own resolver, slow for one name."""
    released = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        if host == "slow.example":
            released.wait(60)
        return real("localhost" if host in ("slow.example", "quick.example") else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def test() -> None:
        async with serving() as peer, client_of(LOOPBACK, timeout_s=0.5) as client:
            slow = [asyncio.create_task(error_of(client, f"http://slow.example:{peer.port}/")) for _ in range(100)]
            await asyncio.sleep(0.05)
            quick = await client.post(f"http://quick.example:{peer.port}/", body=b"{}", headers={})
            assert quick.status == 200
            assert not any(task.done() for task in slow)
            assert {error.code for error in await asyncio.gather(*slow)} == {"ETIMEDOUT"}
            released.set()

    asyncio.run(test())
