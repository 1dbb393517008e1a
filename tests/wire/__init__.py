"""Segment's own clients, unmodified, against the product as its users start it."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.kit")
