"""The browser SDK's files: Segment's own npm package, installed into the data directory at set-up.

Trunkline ships a ``package.json`` and a lock file (versions and checksums, no address); deno, which is a
dependency of ours anyway, fetches the package from whatever registry the machine is set up for. Only the files
that a browser asks for are kept, in ``DATA_DIR/cache/analytics-next/<version>/``, beside a manifest of their
checksums. The folder appears by one rename after everything in it is durable, so a half-made install is never
served.

Errors::

    CdnError
    ├── AssetsMissing    not installed yet; says what to run
    ├── AssetsDamaged    a file is not what was installed; says which, and what to run
    ├── InstallFailed    deno, the network, the disk or the package's layout; says why
    ├── InstallTimeout   deno took longer than it was given
    └── InstallCancelled who asked for it no longer wants it
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import IO, Final

import deno

from trunkline.clock import SystemClock
from trunkline.files import sync_directory, write_atomically

PACKAGE: Final = "@segment/analytics-next"
STANDALONE: Final = "standalone.js"
"""The file behind ``analytics.min.js``; the others are loaded by it on demand."""

WRITE_KEY_PLACEHOLDER: Final = "__WRITE_KEY__"
"""Stands once in the standalone file; the CDN replaces it per source (``spec/event_path.md`` §2.1)."""

INSTALL_COMMAND: Final = "trunkline cdn install --data-dir DIR"

INSTALL_TIMEOUT_S: Final = 180.0
_POLL_S: Final = 0.2

_BUNDLE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\.bundle\.[0-9a-f]{8,}\.js")
_STAGING_PREFIX: Final = ".install-"
_MANIFEST: Final = "manifest.json"
_INSTALL_OUTPUT_CHARACTERS: Final = 2_000


class CdnError(Exception):
    """Base of what the CDN's files raise."""


class AssetsMissing(CdnError):
    """The browser SDK is not installed in this data directory."""


class AssetsDamaged(CdnError):
    """A file in the data directory is not the one that was installed."""


class InstallFailed(CdnError):
    """The package could not be fetched, or is not laid out as this version of Trunkline expects."""


class InstallTimeout(CdnError):
    """The package was not fetched in the time given."""


class InstallCancelled(CdnError):
    """The install was called off before it was done."""


def _say_nothing(_: str) -> None:
    """No one wants to hear of the progress."""


def pinned_version() -> str:
    """The version of the browser SDK that this Trunkline serves."""
    declared: dict[str, dict[str, str]] = json.loads(_packaged("package.json"))
    return declared["dependencies"][PACKAGE]


class AnalyticsJsAssets:
    """The files of one data directory. Safe to use from several processes and threads."""

    def __init__(self, data_dir: Path) -> None:
        self.version: Final = pinned_version()
        self._cache: Final = data_dir / "cache" / "analytics-next"
        self.directory: Final = self._cache / self.version
        self._found = False

    @property
    def installed(self) -> bool:
        """Whether the files can be served. Costs one stat until it is true, then nothing."""
        if not self._found:
            self._found = (self.directory / _MANIFEST).is_file()
        return self._found

    def _installed_checksums(self) -> Mapping[str, str]:
        if not self.installed:
            raise AssetsMissing(f"the browser SDK is not installed: run `{INSTALL_COMMAND}`")
        return self._checksums

    @cached_property
    def _checksums(self) -> Mapping[str, str]:
        try:
            checksums: dict[str, str] = json.loads((self.directory / _MANIFEST).read_text("utf-8"))["files"]
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(_MANIFEST, str(error)) from error
        return checksums

    def bundles(self) -> frozenset[str]:
        """Names of the files that may be asked for below ``/analytics-next/bundles/``.

        Raises AssetsMissing or AssetsDamaged.
        """
        return frozenset(self._installed_checksums()) - {STANDALONE}

    def read(self, name: str) -> bytes:
        """The content of :data:`STANDALONE` or of one of :meth:`bundles`, checked against its checksum.

        Raises AssetsMissing, AssetsDamaged, or KeyError for a name that was not installed.
        """
        expected = self._installed_checksums()[name]
        try:
            content = (self.directory / name).read_bytes()
        except OSError as error:
            raise self._damaged(name, str(error)) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise self._damaged(name, "its checksum is wrong")
        return content

    def _damaged(self, name: str, why: str) -> AssetsDamaged:
        return AssetsDamaged(f"{self.directory / name}: {why}; remove {self.directory} and run `{INSTALL_COMMAND}`")

    def install(
        self,
        progress: Callable[[str], None] = _say_nothing,
        *,
        timeout_s: float = INSTALL_TIMEOUT_S,
        environment: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        """Fetch the package unless it is there; blocks for seconds, so call it from a thread.

        ``environment`` is that of the deno child (default: this process's, without what is Trunkline's own). When
        ``cancelled`` is set, the work ends within moments. Processes that install at once wait for each other.
        Raises InstallFailed, InstallTimeout and InstallCancelled; nothing is left behind then.
        """
        if self.installed:
            progress(f"{PACKAGE} {self.version} is installed")
            return
        patience = _Patience(timeout_s, cancelled or threading.Event())
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with (self._cache / ".lock").open("w") as lock:
                _lock(lock, patience)
                self._remove_remains()
                if not self.installed:
                    self._install(progress, patience, _clean_environment() if environment is None else environment)
        except OSError as error:
            raise InstallFailed(f"cannot write below {self._cache}: {error}") from error
        progress(f"installed in {self.directory}")

    def _install(self, progress: Callable[[str], None], patience: _Patience, environment: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=self._cache) as temporary:
            workspace = Path(temporary)
            progress(f"fetching {PACKAGE} {self.version}")
            _fetch(workspace, patience, environment)
            progress("checking what came")
            _collect(workspace, self.version).rename(self.directory)
            sync_directory(self._cache)

    def _remove_remains(self) -> None:
        """What an install left that was killed; the lock says that no one is at work."""
        for path in self._cache.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(path)


class BackgroundInstall:
    """Fetches the package beside a server's work, and tries again later when that fails.

    ``progress`` and ``failed`` are called in the thread that does it.
    """

    def __init__(
        self,
        assets: AnalyticsJsAssets,
        progress: Callable[[str], None],
        failed: Callable[[CdnError], None],
        *,
        retry_every_s: float = 900.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._assets = assets
        self._progress = progress
        self._failed = failed
        self._retry_every_s = retry_every_s
        self._environment = environment
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="analytics-js-install", daemon=True)

    def start(self) -> None:
        """Return at once. Does nothing when the package is there or being fetched."""
        if not self._assets.installed and self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End the work within moments; safe to call whatever has been done."""
        self._cancelled.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._cancelled.is_set():
            try:
                self._assets.install(self._progress, environment=self._environment, cancelled=self._cancelled)
                return
            except InstallCancelled:
                return
            except CdnError as error:
                self._failed(error)
            self._cancelled.wait(self._retry_every_s)


class _Patience:
    """How long an install may still wait."""

    def __init__(self, timeout_s: float, cancelled: threading.Event) -> None:
        self.timeout_s = timeout_s
        self._clock = SystemClock()
        self._deadline_s = self._clock.monotonic_s() + timeout_s
        self._cancelled = cancelled

    def check(self) -> None:
        """Raises InstallTimeout or InstallCancelled when there is no reason to wait any longer."""
        if self._cancelled.is_set():
            raise InstallCancelled("the install was called off")
        if self._clock.monotonic_s() > self._deadline_s:
            raise InstallTimeout(
                f"{PACKAGE} was not fetched within {self.timeout_s:g} s; is the npm registry reachable from here?"
            )

    def pause(self) -> None:
        """Wait a moment, but not after the install was called off."""
        self._cancelled.wait(_POLL_S)


def _lock(file: IO[str], patience: _Patience) -> None:
    """Hold the lock until the file is closed."""
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            patience.check()
            patience.pause()
        else:
            return


def _packaged(name: str) -> str:
    return (resources.files("trunkline.ingest") / "analytics_js_package" / name).read_text("utf-8")


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}


def _fetch(workspace: Path, patience: _Patience, environment: Mapping[str, str]) -> None:
    (workspace / "package.json").write_text(_packaged("package.json"), "utf-8")
    (workspace / "deno.lock").write_text(_packaged("lock.json"), "utf-8")
    child_environment = {
        **environment,
        "DENO_DIR": str(workspace / "deno-cache"),
        "DENO_NO_PROMPT": "1",
        "DENO_NO_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
    }
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [deno.find_deno_bin(), "install", "--frozen"],
            cwd=workspace,
            env=child_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, FileNotFoundError) as error:
        raise InstallFailed(f"cannot start deno: {error}") from error
    try:
        output = _output_of(process, patience)
    except CdnError:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode != 0:
        text = output.decode("utf-8", "replace").strip()[-_INSTALL_OUTPUT_CHARACTERS:]
        raise InstallFailed(f"deno could not fetch {PACKAGE} (exit {process.returncode}): {text}")


def _output_of(process: subprocess.Popen[bytes], patience: _Patience) -> bytes:
    """What it printed until it ended. Raises InstallTimeout and InstallCancelled, and leaves it running then."""
    while True:
        try:
            return process.communicate(timeout=_POLL_S)[0]
        except subprocess.TimeoutExpired:
            patience.check()


def _collect(workspace: Path, version: str) -> Path:
    """Copy what a browser needs into one durable folder and return it. Raises InstallFailed."""
    package = workspace / "node_modules" / PACKAGE
    built = package / "dist" / "umd"
    try:
        found = json.loads((package / "package.json").read_text("utf-8")).get("version")
        standalone = (built / STANDALONE).read_bytes()
    except (OSError, ValueError) as error:
        raise InstallFailed(f"{PACKAGE} is not laid out as expected: {error}") from error
    if found != version:
        raise InstallFailed(f"{PACKAGE} {version} was asked for, {found} came")
    if standalone.count(WRITE_KEY_PLACEHOLDER.encode()) != 1:
        raise InstallFailed(f"{PACKAGE} {version}: {STANDALONE} has no single {WRITE_KEY_PLACEHOLDER}")
    bundles = sorted(path for path in built.iterdir() if _BUNDLE_NAME.fullmatch(path.name))
    if not bundles:
        raise InstallFailed(f"{PACKAGE} {version}: no bundles beside {STANDALONE}")

    staged = workspace / "staged"
    staged.mkdir()
    checksums: dict[str, str] = {}
    for source in [built / STANDALONE, *bundles]:
        content = source.read_bytes()
        checksums[source.name] = hashlib.sha256(content).hexdigest()
        write_atomically(staged / source.name, content, durable=True)
    licence = next((path for path in package.iterdir() if path.name.upper().startswith("LICENSE")), None)
    if licence is not None:
        shutil.copyfile(licence, staged / licence.name)
    manifest = json.dumps({"package": PACKAGE, "version": version, "files": checksums}, indent=2)
    write_atomically(staged / _MANIFEST, manifest.encode(), durable=True)
    sync_directory(staged)
    return staged
