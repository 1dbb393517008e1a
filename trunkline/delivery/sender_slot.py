"""The sender of a lane: opened when it is first needed, replaced when the settings change."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.destinations.kit import SINGLE_EVENTS, BatchRules, BulkRules, BulkSender, Sender


class SenderSlot:
    """Empty until it has been filled once; a lane without a sender sends nothing."""

    def __init__(self) -> None:
        self._open: Callable[[], Sender] | None = None
        self._sender: Sender | None = None
        self._retired: list[Sender] = []

    @property
    def is_empty(self) -> bool:
        return self._open is None

    def fill(self, open_sender: Callable[[], Sender]) -> None:
        """Use these settings from the next attempt on."""
        self._open = open_sender
        if self._sender is not None:
            self._retired.append(self._sender)
            self._sender = None

    def opened(self) -> Sender:
        """Raises whatever opening it raises."""
        if self._sender is None:
            assert self._open is not None
            self._sender = self._open()
        return self._sender

    @property
    def rules(self) -> BatchRules:
        try:
            return self.opened().batch
        except Exception:  # noqa: BLE001 - the attempt that follows meets the same error, and reports it
            return SINGLE_EVENTS

    @property
    def bulk_rules(self) -> BulkRules | None:
        """None: no bulk batches."""
        if self._open is None:
            return None
        try:
            sender = self.opened()
        except Exception:  # noqa: BLE001 - the attempt that follows meets the same error, and reports it
            return None
        return sender.bulk if isinstance(sender, BulkSender) else None

    async def close(self) -> None:
        for sender in [*self._retired, *([self._sender] if self._sender is not None else [])]:
            await sender.close()
