"""The object store in S3 (and what speaks its protocol), Google Cloud Storage and Azure Blob Storage.

Credentials come from the environment variables that the vendors' own tools read. They never reach a message: requests
carry them in headers, except Azure's shared access signatures, and those are query strings, which are cut.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import AzureStore, GCSStore, S3Store

from trunkline.archive.errors import ObjectMissing, StoreAddressError, StoreError
from trunkline.archive.store import ObjectInfo, checked_key

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_TIMEOUT: Final = timedelta(seconds=10)
REQUEST_TIMEOUT: Final = timedelta(minutes=5)
"""A file of the archive at 3 Mbit/s."""
SINGLE_REQUEST_BYTES: Final = 100_000_000
_QUERY: Final = re.compile(r"\?[^\s\"')]*")
_MAX_MESSAGE: Final = 500
_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": (),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


class CloudStore:
    """See :class:`trunkline.archive.store.ObjectStore`. Safe in any thread; its requests never touch the event loop."""

    def __init__(self, scheme: str, bucket: str, prefix: str) -> None:
        """``scheme``: ``s3``, ``gs`` or ``az``. Raises StoreAddressError when the environment says too little."""
        self._where = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
        endpoint = next((os.environ[name] for name in _ENDPOINTS[scheme] if os.environ.get(name)), "")
        client: ClientConfig = {
            "connect_timeout": CONNECT_TIMEOUT,
            "timeout": REQUEST_TIMEOUT,
            # Named by the operator together with the endpoint: a store of their own, often on the same machine.
            "allow_http": endpoint.startswith("http://"),
        }
        # The writer has a patience of its own, without end; two tries mend a connection that was just closed.
        retry: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
        try:
            self._store: S3Store | GCSStore | AzureStore
            if scheme == "s3":
                self._store = (
                    S3Store(bucket, prefix=prefix or None, client_options=client, retry_config=retry, endpoint=endpoint)
                    if endpoint
                    else S3Store(bucket, prefix=prefix or None, client_options=client, retry_config=retry)
                )
            elif scheme == "gs":
                self._store = GCSStore(bucket, prefix=prefix or None, client_options=client, retry_config=retry)
            else:
                self._store = AzureStore(bucket, prefix=prefix or None, client_options=client, retry_config=retry)
        except (BaseError, ValueError) as error:
            raise StoreAddressError(f"{self._where}: cannot be used: {_clean(error)}") from None

    def put(self, key: str, content: bytes | Path) -> None:
        with self._errors(key, "write"):
            size_bytes = len(content) if isinstance(content, bytes) else content.stat().st_size
            # In one request where that is possible: parts of an upload that was cut off stay behind, unseen and paid.
            obstore.put(self._store, checked_key(key), content, use_multipart=size_bytes > SINGLE_REQUEST_BYTES)

    def get(self, key: str) -> bytes:
        with self._errors(key, "read"):
            return bytes(obstore.get(self._store, checked_key(key)).bytes())

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._errors(key, "read"):
            return bytes(obstore.get_range(self._store, checked_key(key), start=offset, length=length))

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        with self._errors(folder or "the whole store", "list"):
            for chunk in obstore.list(self._store, prefix=checked_key(folder) if folder else None):
                for item in chunk:
                    yield ObjectInfo(item["path"], item["size"])

    def delete(self, key: str) -> None:
        try:
            with self._errors(key, "remove"):
                obstore.delete(self._store, checked_key(key))
        except ObjectMissing:
            pass

    def describe(self) -> str:
        return self._where

    @contextmanager
    def _errors(self, what: str, does: str) -> Iterator[None]:
        # `from None`: the vendor's own error may quote a whole request.
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            raise ObjectMissing(
                f"{self._where}: {what}: there is no such object or bucket. Restore it, or mend `archive_url`: "
                f"{_clean(error)}"
            ) from None
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(
                f"{self._where}: cannot {does} {what}. Check the address, the credentials in the environment and that "
                f"the store is up: {_clean(error)}"
            ) from None


def _clean(error: Exception) -> str:
    """An error's text without query strings, which may be signatures, and on one line."""
    return _QUERY.sub("?…", " ".join(str(error).split()))[:_MAX_MESSAGE]
