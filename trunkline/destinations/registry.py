"""The native destinations by name. Adding one means adding its file and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trunkline.destinations.inbox import InboxType
from trunkline.destinations.kit import NativeDestination
from trunkline.destinations.webhook import WebhookType

NATIVE_DESTINATIONS: Final[Mapping[str, NativeDestination]] = {kind.name: kind for kind in (WebhookType(), InboxType())}
