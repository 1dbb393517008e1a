"""The master key and what is made with it: encryption at rest, sub-keys by purpose, masks for output.

The key is 32 random bytes, in ``master.key`` in the data directory (base64, mode 0600, created at the first
start) or in ``TRUNKLINE_MASTER_KEY`` (base64 or hex), which wins.

An encrypted blob is ``TKS1``, 4 bytes that name the key, a 12-byte nonce, then AES-256-GCM's ciphertext and tag.
The name of the key (derived from it, so it tells nothing) lets a wrong key be told from a damaged blob.

Errors::

    SecretsError     the key is missing, unsafe or malformed, or a blob was not made with it; says the mend
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets as _random
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trunkline.failpoints import failpoint
from trunkline.files import sync_directory

KEY_FILE: Final = "master.key"
KEY_BYTES: Final = 32
ENVIRONMENT_VARIABLE: Final = "TRUNKLINE_MASTER_KEY"

MASK: Final = "********"
"""How a masked value starts. No real value may start with it."""

_MAGIC: Final = b"TKS1"
_KEY_NAME_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_MAGIC) + _KEY_NAME_BYTES

_PROTECTED_FILES: Final = ("config.db",)
"""Files of the data directory that are worthless without the key: beside them no new key is made."""


class SecretsError(Exception):
    """The master key can't be used, or what should be decrypted was not made with it."""


def mask(value: str) -> str:
    """A value for output: the mask and at most the last 4 characters, which are at most a quarter of it."""
    shown = min(4, len(value) // 4)
    return MASK + (value[-shown:] if shown else "")


def is_masked(value: str) -> bool:
    """Whether a value came out of :func:`mask` and so is no value at all."""
    return value.startswith(MASK)


class Secrets:
    """Everything that is done with one master key. Safe to share between threads; never pickled or printed."""

    def __init__(self, master_key: bytes) -> None:
        """``master_key``: 32 bytes. Raises SecretsError for another length."""
        if len(master_key) != KEY_BYTES:
            raise SecretsError(f"The master key has {len(master_key)} bytes; it must have {KEY_BYTES}.")
        self._master_key = master_key
        self._name = self.derive("key-name", _KEY_NAME_BYTES)
        self._cipher = AESGCM(self.derive("encrypt"))

    @classmethod
    def open(cls, data_dir: Path, master_key: str | None = None) -> Secrets:
        """The secrets of a data directory; ``master_key`` is the setting of that name.

        Without the setting the key file is read, or created (with the directory) at the first start. Raises
        SecretsError when the key is malformed, when others may read the file, or when it is gone while files
        that it protects are there.
        """
        if master_key is not None:
            return cls(_parse_key(master_key.encode("utf-8", "surrogateescape"), ENVIRONMENT_VARIABLE))
        path = data_dir / KEY_FILE
        try:
            key = _read_key_file(path)
            if key is None:
                orphans = [name for name in _PROTECTED_FILES if (data_dir / name).exists()]
                # Another process may have made the key, then the files, since we looked.
                key = _read_key_file(path)
                if key is None and orphans:
                    raise SecretsError(
                        f"{path} is gone, but {orphans[0]}, which can't be read without it, is there. "
                        f"Restore {KEY_FILE} from a backup, or set {ENVIRONMENT_VARIABLE}. If the key is lost for "
                        f"good, move {orphans[0]} away and load the workspace's file again."
                    )
            if key is None:
                _create_key_file(path)
                key = _read_key_file(path)
        except OSError as error:
            raise SecretsError(
                f"{path}: can't be read or created ({error.strerror}). Make {data_dir} writable for this user, "
                f"or set {ENVIRONMENT_VARIABLE}."
            ) from error
        if key is None:
            raise SecretsError(f"{path} vanished while it was being created. Start again.")
        return cls(key)

    def __repr__(self) -> str:
        return f"Secrets(key {self._name.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("the master key is not to be pickled; open the data directory in the other process")

    def derive(self, purpose: str, size_bytes: int = 32) -> bytes:
        """A key for one purpose (HKDF-SHA256): always the same for the same master key, unrelated to the others."""
        info = b"trunkline/" + purpose.encode()
        return HKDF(algorithm=SHA256(), length=size_bytes, salt=None, info=info).derive(self._master_key)

    def encrypt(self, plaintext: bytes, associated_data: bytes = b"") -> bytes:
        """A blob that only :meth:`decrypt` with the same key and the same ``associated_data`` opens."""
        nonce = _random.token_bytes(_NONCE_BYTES)
        head = _MAGIC + self._name
        return head + nonce + self._cipher.encrypt(nonce, plaintext, head + associated_data)

    def check_key(self, blob: bytes) -> None:
        """Raises SecretsError if the blob (its first 8 bytes do) was made with another master key."""
        name = blob[len(_MAGIC) : _HEAD_BYTES]
        if name != self._name:
            raise SecretsError(
                f"Encrypted with another master key (key {name.hex()}; this one is {self._name.hex()}). "
                f"Restore the {KEY_FILE} that belongs to this data directory, or set {ENVIRONMENT_VARIABLE} to it."
            )

    def decrypt(self, blob: bytes, associated_data: bytes = b"") -> bytes:
        """What was encrypted. Raises SecretsError: made with another key, damaged, or not such a blob."""
        if not blob.startswith(_MAGIC) or len(blob) < _HEAD_BYTES + _NONCE_BYTES + 16:
            raise SecretsError(
                "Not an encrypted blob of a version that this program knows: it is damaged, or written by a "
                "newer Trunkline. Restore it from a backup, or update Trunkline."
            )
        head, nonce, rest = blob[:_HEAD_BYTES], blob[_HEAD_BYTES:][:_NONCE_BYTES], blob[_HEAD_BYTES + _NONCE_BYTES :]
        self.check_key(blob)
        try:
            return self._cipher.decrypt(nonce, rest, head + associated_data)
        except InvalidTag:
            raise SecretsError(
                "An encrypted blob is damaged or was moved from another place. Restore it from a backup."
            ) from None


def _parse_key(raw: bytes, place: str) -> bytes:
    text = raw.strip()
    try:
        if len(text) == 2 * KEY_BYTES:
            return binascii.unhexlify(text)
        key = base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SecretsError(
            f"{place}: not {KEY_BYTES} bytes in base64 or hex. Make a key with: openssl rand -base64 {KEY_BYTES}"
        )
    return key


def _read_key_file(path: Path) -> bytes | None:
    """The key, None if there is no such file. Raises SecretsError or OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode & 0o777
        if mode & 0o077:
            raise SecretsError(f"{path}: others may read or write it (mode {mode:04o}). Mend it with: chmod 600 {path}")
        content = file.read(1024)
        return content if len(content) == KEY_BYTES else _parse_key(content, str(path))


def _create_key_file(path: Path) -> None:
    """Make a new key appear whole and durable, or not at all; leave alone what another process made meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{KEY_FILE}.{_random.token_hex(8)}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(_random.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            failpoint("secrets.key.before_fsync")
            os.fsync(descriptor)
            failpoint("secrets.key.after_fsync")
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    sync_directory(path.parent)
