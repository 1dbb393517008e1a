"""The keys of a destination that say how it is delivered to: concurrency, timeout, rate limit, retries, age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trunkline.workspace import vocabulary
from trunkline.workspace.model import DeliveryOptions
from trunkline.workspace.section_reader import SectionReader
from trunkline.workspace.yaml_tree import At, Broken


@dataclass(frozen=True)
class _Range:
    """What a number may be. ``unit``: what it counts, for the message."""

    least: float
    most: float | None
    unit: str
    example: str
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.most is None:
            return f"{kind} of {self.unit}, {self.least:g} at least"
        return f"{kind} of {self.unit} from {self.least:g} to {self.most:.15g}"


CONCURRENCY: Final = _Range(1, 10_000, "requests at once", "16", whole=True)
TIMEOUT_S: Final = _Range(0.1, 600, "seconds", "10")
REQUESTS_PER_S: Final = _Range(0.001, 1_000_000, "requests a second", "10")
EVENTS_PER_S: Final = _Range(0.001, 1_000_000, "events a second", "1000")
RETRY_WINDOW_S: Final = _Range(60, 86_400, "seconds", "14400, which are 4 hours")
RETRY_ATTEMPTS: Final = _Range(1, 20, "attempts", "10", whole=True)
MAX_EVENT_AGE_S: Final = _Range(60, None, "seconds", "432000, which are 5 days")


class DeliverySection(SectionReader):
    """How a destination is delivered to."""

    def options(self, keys: Mapping[str, At]) -> DeliveryOptions:
        """``keys``: all of the destination that have a value. What is wrong is reported and left out."""
        rates = self._mapping(keys.get("rate_limit"), vocabulary.RATE_LIMIT, "rate_limit: {requests_per_s: 10}")
        retry = self._mapping(keys.get("retry"), vocabulary.RETRY, "retry: {window_s: 14400, attempts: 10}")
        return DeliveryOptions(
            concurrency=self._whole(keys.get("concurrency"), CONCURRENCY),
            timeout_s=self._number(keys.get("timeout_s"), TIMEOUT_S),
            requests_per_s=self._number(rates.get("requests_per_s"), REQUESTS_PER_S),
            events_per_s=self._number(rates.get("events_per_s"), EVENTS_PER_S),
            retry_window_s=self._number(retry.get("window_s"), RETRY_WINDOW_S),
            retry_attempts=self._whole(retry.get("attempts"), RETRY_ATTEMPTS),
            max_event_age_s=self._number(keys.get("max_event_age_s"), MAX_EVENT_AGE_S),
        )

    def _number(self, at: At | None, allowed: _Range) -> float | None:
        if at is None or isinstance(at.node.value, Broken):
            return None
        value = at.node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            mend = f"Write {value}, without the quotes" if _is_number(value) else f"Write one such as {allowed.example}"
            self._refuse(at, f"not {allowed}", mend)
        elif allowed.whole and value != int(value):
            self._refuse(at, f"not {allowed}", f"Write one such as {allowed.example}")
        elif value < allowed.least:
            self._refuse(at, f"{value} is not {allowed}", f"Raise it; {allowed.least:g} is the least")
        elif allowed.most is not None and value > allowed.most:
            self._refuse(at, f"{value} is not {allowed}", f"Lower it; {allowed.most:.15g} is the most")
        else:
            return float(value)
        return None

    def _whole(self, at: At | None, allowed: _Range) -> int | None:
        number = self._number(at, allowed)
        return None if number is None else int(number)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and len(value) < 20 and value.isascii() and value.replace(".", "", 1).isdigit()


def delivery_keys(options: DeliveryOptions) -> dict[str, object]:
    """The keys that :meth:`DeliverySection.options` reads these from; those that say nothing are left out."""
    written: dict[str, object] = {
        "concurrency": options.concurrency,
        "timeout_s": options.timeout_s,
        "rate_limit": _said({"requests_per_s": options.requests_per_s, "events_per_s": options.events_per_s}),
        "retry": _said({"window_s": options.retry_window_s, "attempts": options.retry_attempts}),
        "max_event_age_s": options.max_event_age_s,
    }
    return _said(written)


def _said(values: Mapping[str, object]) -> dict[str, object]:
    whole = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in values.items()
    }
    return {key: value for key, value in whole.items() if value is not None and value != {}}
