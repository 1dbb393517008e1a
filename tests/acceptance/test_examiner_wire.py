"""What an outside reader of the wire facts checks first, on a running server."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fixtures import MakeServer
from tests.support.server import Server
from tests.support.workspace import source, workspace

LIMIT_BYTES = 32 * 1024


def _item(size_bytes: int) -> dict[str, Any]:
    """An event that has so many bytes as ``json.dumps`` spells it, whitespace included."""
    item = {"type": "track", "userId": "u", "event": "Sized", "properties": {"list": [1] * 50, "text": ""}}
    item["properties"] = {"list": [1] * 50, "text": "x" * (size_bytes - len(json.dumps(item)))}
    assert len(json.dumps(item)) == size_bytes
    return item


def _server(make_server: MakeServer) -> Server:
    server = make_server(workspace([source("shop", "wk_shop")], []))
    server.start()
    return server


def test_the_limit_of_an_item_counts_its_whitespace_however_the_batch_is_spelled(make_server: MakeServer) -> None:
    server = _server(make_server)
    for separators in ((", ", ": "), (",", ":")):
        for more in ({}, {"unheard_of": 1}):
            for size_bytes, codes in ((LIMIT_BYTES, []), (LIMIT_BYTES + 1, ["event_too_large"])):
                envelope = json.dumps({"writeKey": "wk_shop", "batch": [], **more}, separators=separators)
                body = envelope.replace("[]", "[" + json.dumps(_item(size_bytes)) + "]")
                answer = server.request("POST", "/v1/batch", body=body.encode())
                assert answer.status == 200
                assert [entry["code"] for entry in answer.json().get("rejected", [])] == codes, (separators, more)


def test_the_answer_to_a_single_rejected_event_bears_the_code_of_the_event(make_server: MakeServer) -> None:
    server = _server(make_server)
    answer = server.post("/v1/track", {"writeKey": "wk_shop", "event": "Nobody's"}).json()
    assert (answer["success"], answer["code"]) == (True, "no_user_anon_id")
    batch = {"writeKey": "wk_shop", "batch": [{"type": "track", "event": "Nobody's"}]}
    assert server.post("/v1/batch", batch).json()["code"] == "empty_batch_result"


def test_a_refusal_says_what_is_wrong_with_the_body(make_server: MakeServer) -> None:
    server = _server(make_server)
    event = b'{"writeKey": "wk_shop", "userId": "u", "event": "e", "properties": {"x": %b}}'
    for path in ("/v1/track", "/v1/batch", "/v1/set"):
        assert server.request("POST", path, b"").json()["message"] == "malformed JSON: the body is empty"
    lone = server.request("POST", "/v1/track", event % b'"\\ud800"')
    assert (lone.status, "surrogate" in lone.json()["message"]) == (400, True)
    infinite = server.request("POST", "/v1/track", event % b"1e999")
    assert infinite.json()["message"] == "malformed JSON: number is infinity when parsed as double"
