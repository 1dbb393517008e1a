"""Names to addresses: the system's resolver, where a name whose server is slow holds up nobody else.

Each lookup has a thread of its own, a bounded number at once and one a name; they are daemons, because a lookup can't
be broken off and must not hold up the end of the process. Answers are remembered, failures too, for a shorter time.
While a name server is silent, an answer that has run out goes on being used for some minutes.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.clock import Clock

LOOKUPS_AT_ONCE: Final = 32
LOOKUP_TIMEOUT_S: Final = 5.0
CACHE_S: Final = 60.0
FAILURE_CACHE_S: Final = 5.0
"""Or as long as the failure took: names whose servers are silent must not keep all threads busy."""
STALE_S: Final = 600.0
STALE_WAIT_S: Final = 0.5
_NAMES: Final = 10_000

GetAddresses = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[str, ...]
    failure: tuple[int, str] | None
    """As of :class:`socket.gaierror`."""
    took_s: float


@dataclass(frozen=True, slots=True)
class _Remembered:
    answer: _Answer
    fresh_until_s: float
    usable_until_s: float


def system_addresses(host: str) -> Sequence[str]:
    """IP literals, in the order in which the system would try them. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    texts = [
        f"{address[0]}%{address[3]}" if family == socket.AF_INET6 and len(address) == 4 and address[3] else address[0]
        for family, _, _, _, address in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    return [str(text) for text in dict.fromkeys(texts)]


class Resolver:
    """Belongs to one event loop."""

    def __init__(self, clock: Clock, look_up: GetAddresses = system_addresses) -> None:
        self._clock = clock
        self._look_up = look_up
        self._slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        self._remembered: dict[str, _Remembered] = {}
        self._running: dict[str, asyncio.Task[_Answer]] = {}

    async def addresses(self, host: str) -> Sequence[str]:
        """IP literals, at least one. Raises socket.gaierror, ``EAI_AGAIN`` when there is no answer in time."""
        known = self._remembered.get(host)
        if known is not None and self._clock.monotonic_s() < known.fresh_until_s:
            return _addresses(known.answer)
        stale = known.answer if known is not None and self._clock.monotonic_s() < known.usable_until_s else None
        lookup = self._running.get(host)
        if lookup is None:
            lookup = self._running[host] = asyncio.create_task(self._find(host))
            lookup.add_done_callback(lambda _: self._running.pop(host, None))
        await asyncio.wait({lookup}, timeout=STALE_WAIT_S if stale else LOOKUP_TIMEOUT_S)
        if lookup.done() and not lookup.cancelled():
            answer = lookup.result()
            temporary = answer.failure is not None and answer.failure[0] == socket.EAI_AGAIN
            return _addresses(stale if temporary and stale else answer)
        if stale is not None:
            return _addresses(stale)
        raise socket.gaierror(socket.EAI_AGAIN, f"the name server did not answer within {LOOKUP_TIMEOUT_S:g} s")

    async def close(self) -> None:
        """Forget everything; lookups that are under way end by themselves."""
        running = list(self._running.values())
        for lookup in running:
            lookup.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._remembered.clear()

    async def _find(self, host: str) -> _Answer:
        async with self._slots:
            answer = await self._in_thread(host)
        now_s = self._clock.monotonic_s()
        known = self._remembered.pop(host, None)  # back in at the end: the dict's order is that of the last lookups
        while len(self._remembered) >= _NAMES:
            del self._remembered[next(iter(self._remembered))]
        if answer.failure is None:
            self._remembered[host] = _Remembered(answer, now_s + CACHE_S, now_s + CACHE_S + STALE_S)
        elif known is not None and answer.failure[0] == socket.EAI_AGAIN and now_s < known.usable_until_s:
            self._remembered[host] = _Remembered(known.answer, now_s + FAILURE_CACHE_S, known.usable_until_s)
        else:
            until_s = now_s + min(max(FAILURE_CACHE_S, answer.took_s), CACHE_S)
            self._remembered[host] = _Remembered(answer, until_s, until_s)
        return answer

    async def _in_thread(self, host: str) -> _Answer:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[_Answer] = loop.create_future()

        def deliver(answer: _Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def run() -> None:
            answer = self._ask(host)
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(deliver, answer)
                except RuntimeError:
                    return  # it was closed just now, and nobody waits any more

        try:
            threading.Thread(target=run, name="resolver", daemon=True).start()
        except RuntimeError as error:
            return _Answer((), (socket.EAI_AGAIN, str(error)), 0.0)
        return await answered

    def _ask(self, host: str) -> _Answer:
        started_s = self._clock.monotonic_s()
        addresses: Sequence[str] = ()
        failure: tuple[int, str] | None = None
        try:
            addresses = self._look_up(host)
        except socket.gaierror as error:
            failure = (error.errno or socket.EAI_FAIL, error.strerror or "the name can't be resolved")
        except OSError as error:
            failure = (socket.EAI_AGAIN, error.strerror or type(error).__name__)
        except ValueError:
            failure = (socket.EAI_NONAME, "no name that can be resolved")
        if not addresses and failure is None:
            failure = (socket.EAI_NONAME, "the name has no address")
        return _Answer(tuple(addresses), failure, self._clock.monotonic_s() - started_s)


def _addresses(answer: _Answer) -> Sequence[str]:
    if answer.failure is not None:
        raise socket.gaierror(*answer.failure)
    return answer.addresses
