"""Only ``integrations`` changes."""

from __future__ import annotations

import json

import msgspec
import pytest

from trunkline.replay.rewrite import Rewriter


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"track","integrations":{"All":true,"X":{"a":1}},"context":{"consent":{"a":true}},"n":1.0}',
        b'{"type":"track"}',
        b'{"integrations":null,"properties":{"integrations":{"All":false}, "big":12345678901234567890.10e2}}',
        '{"ключ":"\\u00e9 é","type":"page"}'.encode(),
    ],
)
def test_all_else_keeps_its_bytes(body: bytes) -> None:
    rewritten = Rewriter('A "quoted" näme').rewrite(body)
    before, after = (msgspec.json.decode(text, type=dict[str, msgspec.Raw]) for text in (body, rewritten))
    assert json.loads(bytes(after.pop("integrations"))) == {"All": False, 'A "quoted" näme': True}
    before.pop("integrations", None)
    assert {key: bytes(raw) for key, raw in after.items()} == {key: bytes(raw) for key, raw in before.items()}


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        Rewriter("hook").rewrite(b"[1]")
