"""From the setting `archive_url` to an object store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from trunkline.archive.errors import StoreAddressError
from trunkline.archive.local_store import LocalStore
from trunkline.archive.store import ObjectStore

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")
_PREFIX: Final = re.compile(r"(?!\.)[\w.=~-]+(?:/(?!\.)[\w.=~-]+)*", re.ASCII)
_MEND: Final = "Use s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///PATH"


def open_store(url: str, directory: Path, *, reserve_bytes: int = 0) -> ObjectStore:
    """The store at ``url``; the local ``directory`` when it is empty.

    ``reserve_bytes`` of a local disk stay free. Opening a store in the cloud makes no request. Raises
    StoreAddressError.
    """
    if not url:
        return LocalStore(directory, reserve_bytes=reserve_bytes)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreAddressError(f"archive_url: not an address. {_MEND}") from None
    if parts.query or parts.fragment or "@" in parts.netloc:
        # The text may hold a key: it is not repeated.
        raise StoreAddressError(
            f"archive_url: {parts.scheme}: takes no user, password, ?… or #…. Credentials belong in the environment"
        )
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute():
            raise StoreAddressError(f"archive_url: {url}: not an absolute path of this machine. {_MEND}")
        return LocalStore(path, reserve_bytes=reserve_bytes)
    if parts.scheme not in ("s3", "gs", "az"):
        raise StoreAddressError(f"archive_url: {url}: {parts.scheme or 'no scheme'} is not known. {_MEND}")
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc) or (prefix and not _PREFIX.fullmatch(prefix)):
        raise StoreAddressError(f"archive_url: {url}: no name of a bucket and a prefix. {_MEND}")
    # Loaded only where it is used: it brings an HTTP client of its own.
    from trunkline.archive.cloud_store import CloudStore

    return CloudStore(parts.scheme, parts.netloc, prefix)
