"""What commands say to somebody who mistyped, and what the first start shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.fixtures import MakeServer
from tests.support.server import run_trunkline
from tests.support.sink import Sink
from tests.support.workspace import source, webhook, workspace


@pytest.mark.parametrize("config", [(), ("--config", "workspace.yaml")])
def test_a_data_directory_that_cannot_be_made_is_named_without_a_traceback(tmp_path: Path, config: tuple[str]) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "no" / "such" / "place")
    ended = run_trunkline("serve", "--data-dir", tmp_path / "dangling", *config)
    assert ended.returncode == 2
    assert "the data directory can't be made" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_unknown_keys_of_a_directory_that_was_never_served(tmp_path: Path) -> None:
    ended = run_trunkline("unknown-keys", "--data-dir", tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "nothing was ever served from" in ended.stderr


def test_the_line_to_paste_uses_a_source_that_a_destination_hears(make_server: MakeServer, sink: Sink) -> None:
    heard = webhook("hook", sink.place("hook").url, ["web"])
    server = make_server(workspace([source("alone", "wk_alone"), source("web", "wk_web")], [heard]))
    server.start()
    assert "Write key of source web: wk_web" in server.log_text()
    assert "-u wk_web:" in server.log_text()
    assert run_trunkline("unknown-keys", "--data-dir", server.data_dir, "--json").stdout.strip() == json.dumps([])


def test_send_to_nobody_says_how_to_name_the_server() -> None:
    ended = run_trunkline(
        *("send", "--url", "http://127.0.0.1:1", "--write-key", "wk", "--event", "e", "--user", "u"),
        *("--retry-for", "0"),
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--url" in ended.stderr
