"""The contract of the object store, on every engine; S3 is a real server on loopback."""

from __future__ import annotations

import threading
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.s3 import SECRET, S3Server
from trunkline.archive.errors import ObjectMissing, StoreAddressError, StoreError, StoreFull
from trunkline.archive.local_store import LocalStore
from trunkline.archive.open_store import open_store
from trunkline.archive.store import ObjectStore


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def use_s3(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["local", "file-url", "s3", "s3-without-prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "local":
        return open_store("", tmp_path / "objects", reserve_bytes=1)
    if request.param == "file-url":
        return open_store((tmp_path / "with space").as_uri(), tmp_path / "unused")
    use_s3(monkeypatch, request.getfixturevalue("s3_server"))
    url = "s3://archive" if request.param == "s3-without-prefix" else f"s3://archive/{tmp_path.name}/deep"
    store = open_store(url, tmp_path / "unused")
    for item in list(store.list()):
        store.delete(item.key)
    return store


def listed(store: ObjectStore, folder: str = "") -> dict[str, int]:
    return {item.key: item.size_bytes for item in store.list(folder)}


def test_what_is_put_is_got(store: ObjectStore) -> None:
    content = bytes(range(256)) * 1000
    store.put("a/b/c.gz", content)
    store.put("empty", b"")
    assert store.get("a/b/c.gz") == content
    assert store.get("empty") == b""
    assert listed(store) == {"a/b/c.gz": 256_000, "empty": 0}


def test_an_object_is_replaced_whole(store: ObjectStore) -> None:
    store.put("a", b"long content")
    store.put("a", b"new")
    assert store.get("a") == b"new"
    assert listed(store) == {"a": 3}


def test_a_file_is_put(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 6_000_000 + b"end")
    store.put("large", source)
    assert store.get_range("large", 5_999_999, 4) == b"xend"
    assert source.exists()


def test_a_range(store: ObjectStore) -> None:
    store.put("a", b"0123456789")
    assert store.get_range("a", 0, 3) == b"012"
    assert store.get_range("a", 7, 3) == b"789"
    assert store.get_range("a", 8, 100) == b"89"


def test_a_list_is_of_a_folder(store: ObjectStore) -> None:
    for key in ("web/1/x", "web/1/y", "web/2/x", "web2/1/x"):
        store.put(key, b"1")
    assert set(listed(store, "web")) == {"web/1/x", "web/1/y", "web/2/x"}
    assert set(listed(store, "web/1")) == {"web/1/x", "web/1/y"}
    assert listed(store, "nowhere") == {}


def test_a_long_list(store: ObjectStore) -> None:
    keys = {f"many/{number:04}" for number in range(1010)}
    for key in keys:
        store.put(key, b"")
    assert set(listed(store, "many")) == keys


def test_delete(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.put("a/c", b"1")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was/there")
    assert set(listed(store)) == {"a/c"}
    store.delete("a/c")
    store.put("a", b"what was a folder")
    assert listed(store) == {"a": 17}


def test_what_is_missing_is_named(store: ObjectStore) -> None:
    calls: list[Callable[[], object]] = [lambda: store.get("not/here"), lambda: store.get_range("not/here", 0, 1)]
    for call in calls:
        with pytest.raises(ObjectMissing, match=r"not/here.*[Rr]estore"):
            call()


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a b", "a/é", "a\n", "x" * 901])
def test_a_key_that_leads_elsewhere_is_refused(store: ObjectStore, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b""),
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="is no key"):
            call()


def test_a_source_that_cannot_be_read_is_an_error_of_the_store(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        store.put("a", tmp_path / "none")
    assert listed(store) == {}


def test_threads_may_share_it(store: ObjectStore) -> None:
    failed: list[Exception] = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                store.put(f"{name}/{number}", name.encode() * 1000)
                assert store.get(f"{name}/{number}") == name.encode() * 1000
        except Exception as error:  # noqa: BLE001 - the test looks at it
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(listed(store)) == 40


# -- one engine only -----------------------------------------------------------------------------------------------


def test_a_draft_that_a_crash_left_is_no_object(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b", b"1")
    (tmp_path / "a" / ".b.draft").write_bytes(b"half")
    (tmp_path / "a" / ".c.draft").write_bytes(b"half")
    assert listed(store) == {"a/b": 1}
    store.put("a/b", b"12")
    store.delete("a/c")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b"]


def test_the_reserve_stays_free(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, reserve_bytes=1 << 60)
    with pytest.raises(StoreFull, match=r"reserve_bytes.*archive_retention_days"):
        store.put("a", b"1")
    assert listed(store) == {}


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        LocalStore(tmp_path / "file").put("a", b"")


def test_a_store_that_is_down_or_without_the_bucket(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(monkeypatch, s3_server)
    with pytest.raises(ObjectMissing, match="archive_url"):
        open_store("s3://no-such-bucket", tmp_path).put("a", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreError) as caught:
        open_store("s3://archive/x", tmp_path).put("a", b"")
    message = str(caught.value)
    assert "s3://archive/x: cannot write a. Check" in message
    assert SECRET not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/a",
        "archive",
        "s3://",
        "s3://UPPER",
        "s3://bucket/../x",
        "s3://bucket/a b",
        "file://host/a",
        "file:a",
    ],
)
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreAddressError, match=r"archive_url: .*Use s3://BUCKET"):
        open_store(url, tmp_path)


@pytest.mark.parametrize("url", [f"s3://key:{SECRET}@bucket/x", f"az://box/x?sig={SECRET}", f"s3://bucket#{SECRET}"])
def test_an_address_with_a_secret_is_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreAddressError, match="belong in the environment") as caught:
        open_store(url, tmp_path)
    assert SECRET not in str(caught.value)


def test_every_scheme_opens_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    for url in ("s3://bucket/a/b", "gs://bucket/a", "az://container"):
        assert open_store(url, tmp_path).describe() == url
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(StoreAddressError, match="az://container: cannot be used"):
        open_store("az://container", tmp_path)


def test_the_s3_server_refuses_what_is_not_there(s3_server: S3Server) -> None:
    """The server under the suite is a real one: it says no."""
    with pytest.raises(urllib.error.HTTPError):
        s3_server.request("GET", "archive/none")
