"""The settings of a destination: from nodes to plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.secrets import is_masked
from trunkline.workspace.references import References
from trunkline.workspace.yaml_tree import BROKEN, At, Broken, items, step


class SettingsReader:
    """Settings as plain values, references resolved."""

    def __init__(
        self,
        resolve: Callable[[At, tuple[str, ...]], str | None],
        refuse: Callable[[At, str, str], None],
        steps: tuple[str, ...],
    ) -> None:
        self._resolve = resolve
        self._refuse = refuse
        self._steps = steps
        self.broken: list[str] = []
        """Paths of values that are left out because they are problems already."""
        self.secret_values: list[str] = []

    def mapping(self, at: At) -> dict[str, Any]:
        """The settings without what is a problem by itself; that is reported, and listed in ``broken``."""
        value = self._value(at, self._steps, root=True)
        return value if isinstance(value, dict) else {}

    def _value(self, at: At, steps: tuple[str, ...], *, root: bool = False) -> Any:
        """The value, or BROKEN."""
        if not root and References.kind(at.node):
            resolved = self._resolve(at, steps)
            if resolved is None:
                return self._broken(at)
            self.secret_values.append(resolved)
            return resolved
        match at.node.value:
            case Broken():
                return self._broken(at)
            case str() as text if is_masked(text):
                mend = "Put the value itself here, or a reference such as {env: NAME}"
                self._refuse(at, "a masked value, as an export shows it", mend)
                return self._broken(at)
            case list():
                listed = [self._value(item, (*steps, str(index))) for index, item in enumerate(items(at))]
                return [item for item in listed if item is not BROKEN]
            case dict() as entries:
                pairs = {key: self._value(At(node, step(at.path, key)), (*steps, key)) for key, node in entries.items()}
                return {key: value for key, value in pairs.items() if value is not BROKEN}
            case plain:
                return plain

    def _broken(self, at: At) -> Broken:
        self.broken.append(at.path)
        return BROKEN
