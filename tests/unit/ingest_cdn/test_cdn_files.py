"""The browser SDK's files: what is put in, how they are cached, and what is said when they are not there."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trunkline.ingest import cdn as cdn_module
from trunkline.ingest.analytics_js import STANDALONE, AnalyticsJsAssets
from trunkline.ingest.cdn import Cdn, personalised
from trunkline.workspace.model import Snapshot, Source

Ask = Callable[..., Any]
SCRIPT = "/analytics.js/v1/wk_web/analytics.min.js"


def test_the_script_carries_the_sources_write_key(cdn: Cdn, ask: Ask) -> None:
    answer = ask(cdn, SCRIPT)
    assert answer.status == 200
    assert answer.header("content-type") == "application/javascript; charset=utf-8"
    assert b'window.analyticsWriteKey="wk_web"' in answer.body
    assert b"__WRITE_KEY__" not in answer.body
    assert b"sourceMappingURL" not in answer.body
    assert b'analyticsWriteKey="wk_shop"' in ask(cdn, SCRIPT.replace("wk_web", "wk_shop")).body


def test_the_rest_of_the_script_is_segments_own(cdn: Cdn, ask: Ask, installed_data_dir: Path) -> None:
    original = AnalyticsJsAssets(installed_data_dir).read(STANDALONE).decode()
    code, _, _ = original.replace("__WRITE_KEY__", "wk_web").partition("\n//# sourceMappingURL")
    assert code in ask(cdn, SCRIPT).body.decode()


def test_the_unminified_name_of_old_snippets_is_served_too(cdn: Cdn, ask: Ask) -> None:
    assert ask(cdn, SCRIPT.replace(".min", "")).body == ask(cdn, SCRIPT).body


def test_the_host_never_gets_into_the_script(cdn: Cdn, ask: Ask) -> None:
    assert ask(cdn, SCRIPT, host="one.example").body == ask(cdn, SCRIPT, host="two.example").body


def test_a_write_key_cannot_leave_its_string() -> None:
    script = personalised(b'window.analyticsWriteKey="__WRITE_KEY__"', '"</script>\\\n\u2028')
    literal = script.decode().split("analyticsWriteKey=")[1].split("\n")[0]
    assert json.loads(literal) == '"</script>\\\n\u2028'
    assert "<" not in literal


@pytest.mark.parametrize("path", [SCRIPT, "bundle"])
def test_gzip_is_used_when_it_is_taken(cdn: Cdn, ask: Ask, installed_data_dir: Path, path: str) -> None:
    path = path if path == SCRIPT else "/analytics-next/bundles/" + _a_bundle(installed_data_dir)
    plain = ask(cdn, path)
    assert plain.header("content-encoding") is None
    assert plain.header("vary") == "Accept-Encoding"
    for accepted in ("gzip", "br, gzip;q=0.5", "*"):
        packed = ask(cdn, path, accept_encoding=accepted)
        assert packed.header("content-encoding") == "gzip"
        assert int(packed.header("content-length")) == len(packed.body) < len(plain.body)
        assert gzip.decompress(packed.body) == plain.body
    for refused in ("br", "gzip;q=0", "gzip; q=0.000, br"):
        assert ask(cdn, path, accept_encoding=refused).body == plain.body


def test_bundles_are_immutable_and_the_script_is_not(cdn: Cdn, ask: Ask, installed_data_dir: Path) -> None:
    bundle = ask(cdn, "/analytics-next/bundles/" + _a_bundle(installed_data_dir))
    assert bundle.header("cache-control") == "public, max-age=31536000, immutable"
    assert "immutable" not in str(ask(cdn, SCRIPT).header("cache-control"))


def test_every_bundle_that_the_script_can_name_is_served(cdn: Cdn, ask: Ask, installed_data_dir: Path) -> None:
    names = AnalyticsJsAssets(installed_data_dir).bundles()
    script = ask(cdn, SCRIPT).body.decode()
    assert len(names) >= 5
    for name in names:
        content_hash = name.split(".")[-2]
        assert content_hash in script, f"{name} is not of this script"
        assert ask(cdn, f"/analytics-next/bundles/{name}").status == 200


@pytest.mark.parametrize("name", ["nothing.bundle.0123456789abcdef.js", STANDALONE, "manifest.json", "..", "%2e%2e"])
def test_no_other_file_can_be_read(cdn: Cdn, ask: Ask, name: str) -> None:
    answer = ask(cdn, f"/analytics-next/bundles/{name}")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")


def test_what_the_browser_has_is_not_sent_again(cdn: Cdn, ask: Ask) -> None:
    tag = ask(cdn, SCRIPT, accept_encoding="gzip").header("etag")
    for sent in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        answer = ask(cdn, SCRIPT, if_none_match=sent)
        assert (answer.status, answer.body, answer.header("etag")) == (304, b"", tag)
    assert ask(cdn, SCRIPT, if_none_match='"other"').status == 200
    assert ask(cdn, SCRIPT.replace("wk_web", "wk_shop"), if_none_match=tag).status == 200


@pytest.mark.parametrize(("key", "code"), [("wk_nobody", "unknown_source"), ("wk_old", "source_disabled")])
def test_an_unknown_key_gets_no_script(cdn: Cdn, ask: Ask, key: str, code: str) -> None:
    answer = ask(cdn, SCRIPT.replace("wk_web", key))
    assert (answer.status, answer.json()["code"]) == (404, code)


@pytest.mark.parametrize("path", [SCRIPT, "/analytics-next/bundles/x.bundle.0123456789abcdef.js"])
def test_without_the_sdk_the_answer_says_what_to_run(bare_cdn: Cdn, ask: Ask, path: str) -> None:
    answer = ask(bare_cdn, path)
    assert (answer.status, answer.json()["code"]) == (503, "analytics_js_missing")
    assert "trunkline cdn install --data-dir" in answer.json()["message"]
    assert answer.header("cache-control") == "no-store"
    assert int(answer.header("retry-after")) > 0


def test_the_sdk_is_served_as_soon_as_it_is_there(
    bare_cdn: Cdn, ask: Ask, tmp_path: Path, installed_data_dir: Path
) -> None:
    assert ask(bare_cdn, SCRIPT).status == 503
    shutil.copytree(installed_data_dir / "cache", tmp_path / "cache")
    assert ask(bare_cdn, SCRIPT).status == 200


def test_a_damaged_file_is_never_served(bare_cdn: Cdn, ask: Ask, tmp_path: Path, installed_data_dir: Path) -> None:
    shutil.copytree(installed_data_dir / "cache", tmp_path / "cache")
    assets = AnalyticsJsAssets(tmp_path)
    with (assets.directory / STANDALONE).open("r+b") as file:
        file.seek(5_000)
        file.write(b"!")
    answer = ask(bare_cdn, SCRIPT)
    assert (answer.status, answer.json()["code"]) == (503, "analytics_js_damaged")
    (assets.directory / "manifest.json").write_text("{", "utf-8")
    bundle = ask(Cdn(lambda: _snapshot(1), AnalyticsJsAssets(tmp_path)), "/analytics-next/bundles/x.js")
    assert (bundle.status, bundle.json()["code"]) == (503, "analytics_js_damaged")


def test_compressed_scripts_are_bounded_in_bytes(
    ask: Ask, installed_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdn_module, "_CACHE_BYTES", 200_000)
    cdn = Cdn(lambda: _snapshot(12), AnalyticsJsAssets(installed_data_dir))
    for _ in range(2):
        for number in range(12):
            body = ask(cdn, f"/analytics.js/v1/k{number}/analytics.min.js").body
            assert f'analyticsWriteKey="k{number}"'.encode() in body
    files = cdn._scripts._files
    assert 1 <= len(files) < 12
    assert cdn._scripts._size_bytes == sum(len(file.compressed) for file in files.values()) <= 200_000


def _snapshot(sources: int) -> Snapshot:
    made = [
        Source(slug=f"s{number}", name=f"s{number}", type="javascript", write_keys=(f"k{number}",))
        for number in range(sources)
    ]
    return Snapshot(version="1", slug="a", name="A", sources={each.slug: each for each in made}, destinations={})


def _a_bundle(data_dir: Path) -> str:
    return max(AnalyticsJsAssets(data_dir).bundles(), key=len)
