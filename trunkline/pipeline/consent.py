"""Whether the user's consent lets an event go to a destination (``spec/event_path.md`` §11).

``context.consent.categoryPreferences`` says true or false for each category. A destination that is mapped to
categories gets the event if all of them are true; one that is mapped to none gets every event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.spec.discards import FILTERED_BY_END_USER_CONSENT


def mapped_categories(categories: Sequence[str], known_categories: frozenset[str]) -> tuple[str, ...]:
    """Those that the workspace has: a destination whose categories are all unknown counts as mapped to none."""
    return tuple(category for category in categories if category in known_categories)


def consent_allows(
    context: Any, integrations_given: bool, categories: Sequence[str], known_categories: frozenset[str]
) -> str | None:
    """None if the event may go to a destination of these categories, else the reason.

    ``context``: the event's, whatever it holds. ``integrations_given``: whether its ``integrations`` say anything; an
    empty consent object counts as a refusal then, and as none given otherwise.
    """
    return decide(context, integrations_given, mapped_categories(categories, known_categories))


def decide(context: Any, integrations_given: bool, mapped: Sequence[str]) -> str | None:
    """As :func:`consent_allows`, for categories that are known."""
    if not mapped or not isinstance(context, Mapping):
        return None
    consent = context.get("consent")
    if consent is None:
        return None
    preferences = consent.get("categoryPreferences") if isinstance(consent, Mapping) else _UNREADABLE
    if preferences is None and not integrations_given:
        return None
    # What was said but can't be read is no consent, and neither is anything but true.
    if isinstance(preferences, Mapping) and all(preferences.get(category) is True for category in mapped):
        return None
    return FILTERED_BY_END_USER_CONSENT


_UNREADABLE = object()
