"""A rehearsal: recorded traffic through today's workspace and a new one, batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from trunkline.clock import Clock
from trunkline.rehearsal.findings import DEFAULT_SAMPLES, Findings
from trunkline.rehearsal.world import Given, Passage, World
from trunkline.workspace.model import Snapshot


@dataclass(slots=True)
class Cost:
    """Seconds that the stages took, in this run, for so many events."""

    events: int = 0
    today_s: float = 0.0
    new_s: float = 0.0

    @property
    def today_us(self) -> float | None:
        """Microseconds an event."""
        return self.today_s / self.events * 1e6 if self.events else None

    @property
    def new_us(self) -> float | None:
        return self.new_s / self.events * 1e6 if self.events else None


@dataclass(slots=True)
class Rehearsal:
    """What was found so far; :meth:`take` adds to it. Nothing is sent, nothing is written."""

    today: World
    new: World
    clock: Clock
    samples: int = DEFAULT_SAMPLES
    cost: Cost = field(init=False)
    findings: Findings = field(init=False)
    _batches: int = 0

    def __post_init__(self) -> None:
        self.cost = Cost()
        self.findings = Findings(self.today, self.new, samples=self.samples)

    def take(self, batch: Sequence[Given]) -> None:
        """Both workspaces see the batch as a whole, in turn the first: what the machine does meanwhile slows neither
        of them alone."""
        self._batches += 1
        if self._batches % 2:
            today, today_s = self._run(self.today, batch)
            new, new_s = self._run(self.new, batch)
        else:
            new, new_s = self._run(self.new, batch)
            today, today_s = self._run(self.today, batch)
        self.cost.events += len(batch)
        self.cost.today_s += today_s
        self.cost.new_s += new_s
        for given, before, after in zip(batch, today, new, strict=True):
            self.findings.add(given, before, after)

    def _run(self, world: World, batch: Iterable[Given]) -> tuple[list[Passage], float]:
        start_s = self.clock.monotonic_s()
        passages = [world.run(given) for given in batch]
        return passages, self.clock.monotonic_s() - start_s


def sources_to_read(
    snapshots: Iterable[Snapshot], sources: Collection[str] = (), destinations: Collection[str] = ()
) -> frozenset[str] | None:
    """The sources whose traffic a rehearsal of these workspaces has to read; None: of all.

    ``sources`` and ``destinations`` empty: all of them. A source that forwards to one that is connected counts too.
    """
    if sources:
        return frozenset(sources)
    if not destinations:
        return None
    wanted: set[str] = set()
    for snapshot in snapshots:
        connected = {
            source for item in snapshot.destinations.values() if item.slug in destinations for source in item.sources
        }
        wanted |= connected
        for source in snapshot.sources:
            configuration = snapshot.schema_configuration_of(source)
            if not connected.isdisjoint((configuration.forward_blocked_events_to, configuration.forward_violations_to)):
                wanted.add(source)
    return frozenset(wanted)
