"""What the workspace must know of a type of destination in order to check one that is set up in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

SettingProblem = tuple[str, str, str]
"""Path inside the settings (``url``, ``headers.X-Key``, ``items[0].name``; empty: the settings as a whole), the
reason, and the mend."""


class DestinationType(Protocol):
    """One type, such as ``webhook``. The registry that maps names to types is passed in, never imported here."""

    @property
    def name(self) -> str:
        """What ``type`` says in the workspace's file."""
        ...

    @property
    def storage(self) -> bool:
        """Whether it reads the accepted log as a warehouse does, skipping the stages of event destinations."""
        ...

    @property
    def methods(self) -> frozenset[str]:
        """The calls that it takes, of :data:`trunkline.spec.capabilities.METHODS`."""
        ...

    @property
    def source_kinds(self) -> frozenset[str]:
        """The kinds of sources that it works with, of :data:`trunkline.spec.capabilities.SOURCE_KINDS`."""
        ...

    @property
    def secret_settings(self) -> frozenset[str]:
        """Paths of the settings that are masked in output, with all below them (``apiKey``, ``headers``)."""
        ...

    def check_settings(self, settings: Mapping[str, Any]) -> list[SettingProblem]:
        """All problems of these settings, unknown settings included. Must take any JSON-like content.

        References to the environment and to files are resolved already. Reasons and mends must not hold the
        values of secret settings.
        """
        ...
