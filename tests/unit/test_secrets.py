from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from trunkline.secrets import MASK, Secrets, SecretsError, is_masked, mask

untimed = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEY = bytes(range(32))


def test_first_start_creates_a_private_key_and_the_next_reads_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    first = Secrets.open(data_dir)
    path = data_dir / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(path.read_bytes())) == 32
    assert [item.name for item in data_dir.iterdir()] == ["master.key"]
    assert Secrets.open(data_dir).decrypt(first.encrypt(b"x")) == b"x"
    assert Secrets.open(tmp_path / "other").derive("a") != first.derive("a")


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        derived = set(pool.map(lambda _: Secrets.open(tmp_path).derive("a"), range(32)))
    assert len(derived) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    Secrets.open(tmp_path)
    path = tmp_path / "master.key"
    path.chmod(mode)
    with pytest.raises(SecretsError, match=f"chmod 600 {path}"):
        Secrets.open(tmp_path)
    path.chmod(0o600)
    Secrets.open(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(KEY).decode(),
        base64.urlsafe_b64encode(KEY).decode() + "\n",
        KEY.hex(),
        KEY.hex().upper(),
    ],
)
def test_key_from_the_environment_wins_and_leaves_no_file(tmp_path: Path, text: str) -> None:
    assert Secrets.open(tmp_path, text).derive("a") == Secrets(KEY).derive("a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [KEY, base64.b64encode(KEY) + b"\n", KEY.hex().encode()])
def test_key_files_made_by_hand(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_bytes(content)
    assert Secrets.open(tmp_path).derive("a") == Secrets(KEY).derive("a")


@pytest.mark.parametrize(
    "text", ["", "short", "a password, not 32 random bytes.", "z" * 64, base64.b64encode(KEY[:31]).decode(), "é" * 20]
)
def test_a_malformed_key_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SecretsError, match="openssl rand -base64 32") as caught:
        Secrets.open(tmp_path, text)
    assert not text or text not in str(caught.value)


def test_no_new_key_beside_data_that_needs_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "config.db").touch()
    with pytest.raises(SecretsError, match=r"Restore master\.key"):
        Secrets.open(tmp_path)
    assert not (tmp_path / "master.key").exists()


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretsError, match="can't be read or created"):
        Secrets.open(tmp_path / "file" / "data")


@untimed
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_round_trip(plaintext: bytes, associated_data: bytes) -> None:
    secrets = Secrets(KEY)
    blob = secrets.encrypt(plaintext, associated_data)
    assert blob != secrets.encrypt(plaintext, associated_data)
    assert len(plaintext) < 8 or plaintext not in blob
    assert Secrets(KEY).decrypt(blob, associated_data) == plaintext


def test_another_key_is_told_from_damage() -> None:
    blob = Secrets(KEY).encrypt(b"value", b"here")
    with pytest.raises(SecretsError, match="another master key"):
        Secrets(bytes(32)).decrypt(blob, b"here")
    with pytest.raises(SecretsError, match="moved from another place"):
        Secrets(KEY).decrypt(blob, b"there")


@untimed
@given(st.data())
def test_any_flipped_bit_or_cut_is_noticed(data: st.DataObject) -> None:
    secrets = Secrets(KEY)
    blob = bytearray(secrets.encrypt(b"value"))
    if data.draw(st.booleans()):
        del blob[data.draw(st.integers(0, len(blob) - 1)) :]
    else:
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SecretsError):
        secrets.decrypt(bytes(blob))


def test_sub_keys_are_stable_and_apart() -> None:
    secrets = Secrets(KEY)
    assert secrets.derive("dedupe") == Secrets(KEY).derive("dedupe")
    assert secrets.derive("dedupe") != secrets.derive("other")
    assert len(secrets.derive("dedupe", 16)) == 16
    # HKDF-SHA256 by RFC 5869 with an all-zero salt, computed apart from the library:
    extracted = hmac.new(bytes(32), KEY, hashlib.sha256).digest()
    assert secrets.derive("dedupe") == hmac.new(extracted, b"trunkline/dedupe\x01", hashlib.sha256).digest()


def test_the_key_is_neither_printed_nor_pickled() -> None:
    secrets = Secrets(KEY)
    assert KEY.hex() not in repr(secrets)
    with pytest.raises(TypeError):
        pickle.dumps(secrets)
    with pytest.raises(SecretsError):
        Secrets(KEY[:16])


@untimed
@given(st.text(max_size=60))
def test_mask_shows_four_characters_at_most(value: str) -> None:
    shown = mask(value).removeprefix(MASK)
    assert len(shown) <= 4
    assert len(shown) * 4 <= len(value)
    assert value.endswith(shown)
    assert is_masked(mask(value))


def test_environment_key_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(SecretsError):
        Secrets.open(tmp_path, os.fsdecode(b"\xff" * 40))
