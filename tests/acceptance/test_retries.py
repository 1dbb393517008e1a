"""Destinations that misbehave."""

from __future__ import annotations

import sqlite3

from tests.support.fixtures import MakeServer
from tests.support.server import Server
from tests.support.sink import HANG, OK, Hit, Place, Reply, Sink
from tests.support.waiting import wait_until
from tests.support.workspace import source, webhook, workspace
from trunkline.runtime.layout import DataDir


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def send(server: Server, message_ids: list[str]) -> None:
    server.send("wk_web", *({"type": "track", "event": "E", "userId": "u", "messageId": one} for one in message_ids))


def reasons(server: Server, destination: str) -> dict[tuple[str, str], int]:
    """(outcome, reason) and how often, of one destination."""
    with sqlite3.connect(f"file:{DataDir(server.data_dir).state}?mode=ro", uri=True) as db:
        rows = db.execute(
            "SELECT outcome, reason, sum(count) FROM lane_books WHERE destination=? GROUP BY 1, 2", (destination,)
        )
        return {(outcome, reason): count for outcome, reason, count in rows}


def answer_first(place: Place, reply: Reply) -> None:
    """The first attempt at each event gets this reply, later ones 200."""
    place.answer = lambda hit: reply if place.received[hit.message_id] == 1 else OK


def test_what_fails_for_a_while_is_tried_again_and_delivered_once(sink: Sink, make_server: MakeServer) -> None:
    replies = {
        "s500": Reply(500),
        "s503": Reply(503, {"Retry-After": "1"}),
        "s408": Reply(408),
        "s429": Reply(429, {"Retry-After": "1"}),
    }
    places = {name: sink.place(name) for name in replies}
    gone = Sink()
    try:
        gone_place = gone.place("gone")
        destinations = [webhook(name, place.url, ["web"]) for name, place in places.items()]
        server = make_server(workspace([source("web")], [*destinations, webhook("gone", gone_place.url, ["web"])]))
        for name, place in places.items():
            answer_first(place, replies[name])
        gone.go_away()
        server.start()
        send(server, ids("m", 30))
        wait_until(
            lambda: (
                all(place.received.total() >= 30 for place in places.values())
                and server.balanced_books().destinations["gone"].pending == 30
            ),
            "every event has failed once",
        )
        assert server.balanced_books().destinations["gone"].delivered == 0
        gone.come_back()
        books = server.wait_until_drained()
        for name, place in {**places, "gone": gone_place}.items():
            assert place.ids() == set(ids("m", 30)), name
            assert place.doubles() == 0, name
            assert (books.destinations[name].delivered, books.destinations[name].failed) == (30, 0), name
        for name, place in places.items():
            assert all(count == 2 for count in place.received.values()), name
    finally:
        gone.close()


def test_any_other_refusal_fails_at_once_with_its_reason(sink: Sink, make_server: MakeServer) -> None:
    statuses = (301, 400, 401, 404, 410, 422, 423)
    places = {str(status): sink.place(f"s{status}") for status in statuses}
    for status, place in places.items():
        place.always(Reply(int(status), {"Location": "/elsewhere"}, b"go away"))
    server = make_server(
        workspace([source("web")], [webhook(place.name, place.url, ["web"]) for place in places.values()])
    )
    server.start()
    send(server, ids("m", 5))
    books = server.wait_until_drained(*(place.name for place in places.values()))
    for status, place in places.items():
        line = books.destinations[place.name]
        assert (line.failed, line.delivered) == (5, 0), status
        assert reasons(server, place.name) == {("failed", status): 5}
        assert place.received == dict.fromkeys(ids("m", 5), 1), status
    assert not sink.place("elsewhere").received


def test_a_destination_that_hangs_delays_no_other(sink: Sink, make_server: MakeServer) -> None:
    """The healthy one gets everything while the other has answered nothing at all."""
    stuck, healthy = sink.place("stuck"), sink.place("healthy")
    stuck.always(HANG)
    server = make_server(
        workspace([source("web")], [webhook("stuck", stuck.url, ["web"]), webhook("healthy", healthy.url, ["web"])]),
        settings={"send_timeout_s": "600", "lane_concurrency": "4"},
    )
    server.start()
    for number in range(30):
        send(server, ids(f"m{number}", 20))
    books = server.wait_until_drained("healthy")
    assert len(healthy.ids()) == books.destinations["healthy"].delivered == 600
    assert not stuck.taken
    assert books.destinations["stuck"].pending == 600
    stuck.always(OK)
    stuck.let_go()
    server.wait_until_drained("stuck")
    assert stuck.ids() == healthy.ids()
    assert stuck.doubles() == 0


def test_one_event_that_hangs_delays_no_other_event(sink: Sink, make_server: MakeServer) -> None:
    """It becomes a row of its own after a second, so that the lane's mark moves on."""
    hook = sink.place("hook")
    hook.answer = lambda hit: HANG if hit.message_id == "m0-3" and not hook.taken["m0-3"] else OK
    server = make_server(
        workspace([source("web")], [webhook("hook", hook.url, ["web"])]), settings={"send_timeout_s": "600"}
    )
    server.start()
    for number in range(30):
        send(server, ids(f"m{number}", 20))

    def all_but_one_settled() -> bool:
        store = sqlite3.connect(f"file:{DataDir(server.data_dir).state}?mode=ro", uri=True)
        try:
            rows = [message_id for (message_id,) in store.execute("SELECT message_id FROM retries")]
            lanes = store.execute("SELECT count(*) FROM lanes").fetchone()[0]
        finally:
            store.close()
        return rows == ["m0-3"] and lanes == 0 and len(hook.ids()) == 599

    wait_until(all_but_one_settled, "one row, and no state of the lane")
    line = server.balanced_books().destinations["hook"]
    assert (line.delivered, line.pending) == (599, 1)
    hook.let_go()
    assert server.wait_until_drained("hook").destinations["hook"].delivered == 600


def test_attempts_that_time_out_are_tried_again(sink: Sink, make_server: MakeServer) -> None:
    hook = sink.place("hook")

    def hang_first(hit: Hit) -> Reply:
        return HANG if hook.received[hit.message_id] == 1 else OK

    hook.answer = hang_first
    server = make_server(
        workspace([source("web")], [webhook("hook", hook.url, ["web"])]), settings={"send_timeout_s": "1"}
    )
    server.start()
    send(server, ids("m", 5))
    books = server.wait_until_drained("hook")
    assert books.destinations["hook"].delivered == 5
    assert hook.taken == dict.fromkeys(ids("m", 5), 1)
