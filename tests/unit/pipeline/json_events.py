"""Events as hypothesis draws them, and what it means to hold a part of one."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

KEYS = ("a", "b", "c", "properties", "0", "1", "x y", "d.e", "ü")
keys = st.sampled_from(KEYS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
events = st.dictionaries(keys, values, max_size=5)
paths = st.lists(keys.filter(lambda key: "." not in key), max_size=3).map(".".join)


def is_part(part: Any, whole: Any) -> bool:
    """Whether ``part`` is ``whole`` with keys left out, and with items of lists replaced by null."""
    if isinstance(whole, dict):
        return isinstance(part, dict) and all(key in whole and is_part(part[key], whole[key]) for key in part)
    if isinstance(whole, list):
        return (
            isinstance(part, list)
            and len(part) == len(whole)
            and all(one is None or is_part(one, other) for one, other in zip(part, whole, strict=True))
        )
    return type(part) is type(whole) and bool(part == whole)
