from __future__ import annotations

import re

from trunkline.spec.limits import MAX_MESSAGE_ID_CHARACTERS
from trunkline.spec.message_ids import new_message_id, shorten_message_id


def test_new_ids_have_segments_form_and_differ() -> None:
    ids = {new_message_id(1_700_000_000_000) for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"api-[0-9A-Za-z]{27}", message_id) for message_id in ids)


def test_new_ids_sort_by_time() -> None:
    assert new_message_id(1_700_000_000_000) < new_message_id(1_700_000_002_000)


def test_a_long_id_is_shortened_to_the_same_id_each_time() -> None:
    longest, long = "é" * MAX_MESSAGE_ID_CHARACTERS, "x" * (MAX_MESSAGE_ID_CHARACTERS + 1)
    assert shorten_message_id(longest) == longest
    assert shorten_message_id(long) == shorten_message_id(long) != shorten_message_id(long + "x")
    assert len(shorten_message_id(long)) <= MAX_MESSAGE_ID_CHARACTERS
