"""``context.app.version`` of an event."""

from __future__ import annotations

import pytest

from trunkline.spec.app_version import MAX_LENGTH, app_version_of


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b'{"context":{"app":{"version":"1.2.3","build":"7"}}}', "1.2.3"),
        (b'{"context": {"app" : {"version" : "2"} } }', "2"),
        (b'{"context":{"app":{"version":3}}}', ""),
        (b'{"context":{"app":"1"}}', ""),
        (b'{"context":{"app":null}}', ""),
        (b'{"context":null,"properties":{"app":{"version":"9"}}}', ""),
        (b'{"properties":{"app":1}}', ""),
        (b"{}", ""),
        (b'{"context":{"app":{"version":"' + b"x" * 100 + b'"}}}', "x" * MAX_LENGTH),
    ],
)
def test_app_version(body: bytes, version: str) -> None:
    assert app_version_of(body) == version
