"""Installing the browser SDK: whole or not at all, with a clear word when it fails."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trunkline.cli import cdn as cli_cdn
from trunkline.ingest.analytics_js import (
    STANDALONE,
    AnalyticsJsAssets,
    AssetsMissing,
    BackgroundInstall,
    CdnError,
    InstallFailed,
    InstallTimeout,
)


def left_behind(data_dir: Path) -> list[str]:
    cache = data_dir / "cache" / "analytics-next"
    return sorted(path.name for path in cache.iterdir() if path.name != ".lock") if cache.exists() else []


def environment_with_registry(home: Path, port: int) -> dict[str, str]:
    home.mkdir()
    address = f"http://127.0.0.1:{port}/"
    return {"PATH": os.environ["PATH"], "HOME": str(home), "NPM_CONFIG_REGISTRY": address}


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_installed_files_are_whole_and_of_the_pinned_version(installed_data_dir: Path) -> None:
    assets = AnalyticsJsAssets(installed_data_dir)
    assert assets.installed
    assert left_behind(installed_data_dir) == [assets.version]
    manifest = json.loads((assets.directory / "manifest.json").read_text("utf-8"))
    assert manifest["version"] == assets.version
    names = {path.name for path in assets.directory.iterdir()}
    assert set(manifest["files"]) == names - {"manifest.json", "LICENSE.MD"}
    assert assets.read(STANDALONE).startswith(b"!function")


def test_installing_again_fetches_nothing(installed_data_dir: Path, tmp_path: Path, silent_server: int) -> None:
    said: list[str] = []
    environment = environment_with_registry(tmp_path / "home", silent_server)
    AnalyticsJsAssets(installed_data_dir).install(said.append, timeout_s=1, environment=environment)
    assert len(said) == 1
    assert "is installed" in said[0]


def test_an_unreachable_registry_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assets = AnalyticsJsAssets(tmp_path / "data")
    with pytest.raises(InstallFailed, match="could not fetch"):
        assets.install(timeout_s=60, environment=environment_with_registry(tmp_path / "home", port))
    assert not assets.installed
    assert left_behind(tmp_path / "data") == []
    with pytest.raises(AssetsMissing, match="trunkline cdn install"):
        assets.read(STANDALONE)


def test_a_registry_that_hangs_is_given_up(tmp_path: Path, silent_server: int) -> None:
    assets = AnalyticsJsAssets(tmp_path / "data")
    with pytest.raises(InstallTimeout, match="within 1 s"):
        assets.install(timeout_s=1, environment=environment_with_registry(tmp_path / "home", silent_server))
    assert left_behind(tmp_path / "data") == []


def test_a_data_directory_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", "utf-8")
    with pytest.raises(InstallFailed, match="cannot write"):
        AnalyticsJsAssets(tmp_path).install(timeout_s=1)


def test_the_remains_of_a_killed_install_are_not_served_and_go_with_the_next(
    tmp_path: Path, installed_data_dir: Path
) -> None:
    remains = tmp_path / "cache" / "analytics-next" / ".install-abc" / "staged"
    remains.mkdir(parents=True)
    (remains / STANDALONE).write_text("half", "utf-8")
    assets = AnalyticsJsAssets(tmp_path)
    assert not assets.installed
    assets.install()
    assert left_behind(tmp_path) == [assets.version]


def test_installs_at_the_same_time_wait_for_each_other(tmp_path: Path, installed_data_dir: Path) -> None:
    fetched: list[str] = []
    failures: list[BaseException] = []

    def install() -> None:
        try:
            AnalyticsJsAssets(tmp_path).install(
                lambda line: fetched.append(line) if line.startswith("fetching") else None
            )
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=install) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(fetched) == 1
    assert AnalyticsJsAssets(tmp_path).installed


def test_an_install_in_the_background_tries_again_until_it_works(tmp_path: Path, installed_data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = environment_with_registry(tmp_path / "home", port)
    assets = AnalyticsJsAssets(tmp_path / "data")
    failed = threading.Event()

    def mend(error: CdnError) -> None:
        assert isinstance(error, InstallFailed)
        environment.clear()
        environment.update(os.environ)
        failed.set()

    work = BackgroundInstall(assets, lambda _: None, mend, retry_every_s=0.01, environment=environment)
    work.start()
    assert failed.wait(60)
    work._thread.join(120)
    assert assets.installed
    work.stop()


def test_an_install_in_the_background_ends_when_the_server_does(tmp_path: Path, silent_server: int) -> None:
    environment = environment_with_registry(tmp_path / "home", silent_server)
    fetching = threading.Event()
    failures: list[CdnError] = []
    work = BackgroundInstall(
        AnalyticsJsAssets(tmp_path / "data"), lambda _: fetching.set(), failures.append, environment=environment
    )
    work.start()
    assert fetching.wait(30)
    work.stop()
    assert not work._thread.is_alive()
    assert failures == []
    assert left_behind(tmp_path / "data") == []


def test_nothing_is_started_when_the_files_are_there(installed_data_dir: Path) -> None:
    said: list[str] = []
    work = BackgroundInstall(AnalyticsJsAssets(installed_data_dir), said.append, lambda error: said.append(str(error)))
    work.start()
    work.stop()
    assert said == []


def test_the_lock_file_pins_by_checksum_and_names_no_address() -> None:
    text = (resources.files("trunkline.ingest") / "analytics_js_package" / "lock.json").read_text("utf-8")
    assert "://" not in text
    assert all(package["integrity"].startswith("sha512-") for package in json.loads(text)["npm"].values())


def test_the_command_installs_and_says_why_it_cannot(
    tmp_path: Path, installed_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    cli_cdn.register(app)
    done = CliRunner().invoke(app, ["cdn", "install", "--data-dir", str(installed_data_dir)])
    assert done.exit_code == 0, done.output
    assert "is installed" in done.output
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for name, value in environment_with_registry(tmp_path / "home", port).items():
        monkeypatch.setenv(name, value)
    failed = CliRunner().invoke(app, ["cdn", "install", "--data-dir", str(tmp_path / "data")])
    assert failed.exit_code == 1
    assert "could not fetch" in failed.output
