"""An answer whose beginning is bounded: a peer that sends one interim status after another is cut off."""

from __future__ import annotations

from typing import Any, Final, Self

import aiohttp

INTERIM_ANSWERS: Final = 16
"""Statuses 100 to 199 before the answer proper. Servers send one, if any."""


class BoundedResponse(aiohttp.ClientResponse):
    """The client itself would read interim answers until the time is up, at the cost of all others on its loop."""

    async def start(self, connection: Any) -> Self:
        """Raises ClientResponseError, and what the client raises."""
        protocol = connection.protocol
        read = protocol.read
        left = INTERIM_ANSWERS + 1

        async def read_counted() -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise aiohttp.ClientResponseError(
                    self.request_info, self.history, status=100, message="interim answers without end"
                )
            return await read()

        vars(protocol)["read"] = read_counted
        try:
            await super().start(connection)
        finally:
            vars(protocol).pop("read", None)
        return self
