"""A metric with thousands of samples, written as Prometheus text without a library's cost for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


class MetricTable:
    """One family, its samples by the values of their labels. prometheus-client takes some 20 us to write a sample and
    this a fraction of one, as what comes before the value is made once. One thread changes it, any may ask for its
    text."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, kind: Literal["counter", "gauge"]
    ) -> None:
        """``name``: without ``_total``, as prometheus-client takes it."""
        self.name = f"{name}_total" if kind == "counter" else name
        self._head = f"# HELP {self.name} {documentation}\n# TYPE {self.name} {kind}\n"
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}
        self._beginnings: dict[tuple[str, ...], str] = {}

    def add(self, labels: tuple[str, ...], amount: float) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Have these samples and no others."""
        self._values = dict(values)

    def text(self) -> str:
        """With the lines that say what it is; a line for each sample."""
        lines = [self._head]
        for labels, value in self._values.copy().items():
            beginning = self._beginnings.get(labels)
            if beginning is None:
                beginning = self._beginnings[labels] = self._beginning(labels)
            lines.append(f"{beginning} {float(value)!r}\n")
        if len(self._beginnings) > 2 * len(self._values):
            self._beginnings.clear()
        return "".join(lines)

    def _beginning(self, labels: tuple[str, ...]) -> str:
        pairs = sorted(zip(self._labels, labels, strict=True))
        told = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs)
        return f"{self.name}{{{told}}}"
