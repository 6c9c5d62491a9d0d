"""Secrets at rest: encrypted with a key outside the database, bound to their names, through rotations."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import text

from orchestrator.adapters.vault import KeyFile, Vault
from orchestrator.domain.errors import InvalidInput, SecretMissing
from orchestrator.observe import Masker
from orchestrator.ports.secrets import SealedSecret, SecretRows
from orchestrator.store import SqlStore, open_store
from orchestrator.store.engine import Database, parse_url

VALUE = "correct-horse-battery-staple"
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(f"sqlite:///{tmp_path}/orchestrator.db")
    yield opened
    opened.close()


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "secret.key", "a test", tmp_path / "secrets.lock")


@pytest.fixture
def vault(store: SqlStore, keys: KeyFile) -> Vault:
    return Vault(store.secrets, keys, lambda: AT)


def change(tmp_path: Path, statement: str, **values: str) -> None:
    """What somebody does who can write to the database."""
    database = Database(parse_url(f"sqlite:///{tmp_path}/orchestrator.db"))
    with database.writing() as session:
        session.execute(text(statement), values)
    database.close()


def test_neither_the_database_nor_a_repr_holds_a_value(
    vault: Vault, store: SqlStore, keys: KeyFile, tmp_path: Path
) -> None:
    vault.set("TOKEN", VALUE, "ann")
    assert vault.get("TOKEN") == VALUE
    shown = "".join(map(repr, (vault, keys, store, *vault.rows(), Masker([VALUE]))))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    key = files.pop("secret.key").strip()
    assert {"orchestrator.db", "orchestrator.db-wal"} <= set(files)
    for content in (*files.values(), shown.encode()):
        assert VALUE.encode() not in content
        assert key not in content


def test_the_key_is_for_its_owner_alone_and_made_once(vault: Vault, keys: KeyFile) -> None:
    old = os.umask(0)
    try:
        vault.set("A", VALUE, "ann")
    finally:
        os.umask(old)
    made = keys.path.read_bytes()
    vault.set("B", VALUE, "ann")
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.path.read_bytes() == made
    assert sorted(path.name for path in keys.path.parent.glob(".*")) == []


def test_many_that_store_the_first_secret_at_once_share_one_key(vault: Vault, keys: KeyFile) -> None:
    barrier = threading.Barrier(8)

    def store_one(number: int) -> None:
        barrier.wait()
        vault.set(f"TOKEN_{number}", f"{VALUE}-{number}", "ann")

    threads = [threading.Thread(target=store_one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [vault.get(f"TOKEN_{number}") for number in range(8)] == [f"{VALUE}-{n}" for n in range(8)]
    assert len(keys.read()) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(vault: Vault, keys: KeyFile, mode: int) -> None:
    vault.set("TOKEN", VALUE, "ann")
    keys.path.chmod(mode)
    with pytest.raises(SecretMissing, match=f"open to others: mode 0{mode:o}; chmod 600"):
        vault.get("TOKEN")
    with pytest.raises(SecretMissing, match="open to others"):
        vault.set("TOKEN", "another", "ann")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_of_another_user_is_refused(vault: Vault, keys: KeyFile) -> None:
    vault.set("TOKEN", VALUE, "ann")
    os.chown(keys.path, 12345, -1)
    with pytest.raises(SecretMissing, match=r"belongs to another user \(uid 12345\); chown 0 "):
        vault.get("TOKEN")


def test_a_lost_key_is_said_and_never_replaced(vault: Vault, keys: KeyFile) -> None:
    vault.set("TOKEN", VALUE, "ann")
    away = keys.path.rename(keys.path.with_name("copy"))
    for act in (lambda: vault.get("TOKEN"), lambda: vault.set("OTHER", VALUE, "ann")):
        with pytest.raises(SecretMissing, match="does not exist; put it back"):
            act()
    assert not keys.path.exists()
    away.rename(keys.path)
    assert vault.get("TOKEN") == VALUE


def test_another_key_opens_nothing(vault: Vault, keys: KeyFile) -> None:
    vault.set("TOKEN", VALUE, "ann")
    keys.path.unlink()
    keys.create()
    with pytest.raises(SecretMissing, match=r"TOKEN cannot be decrypted: none of the keys in .*secret\.key"):
        vault.get("TOKEN")
    with pytest.raises(SecretMissing, match="cannot be decrypted"):
        vault.rotate("ann")


@pytest.mark.parametrize("content", [b"", b"\n", b"hunter2\n", b"x" * 44 + b"\n", b"A" * 43 + b"=\nshort\n"])
def test_what_is_no_file_of_keys_is_said(vault: Vault, keys: KeyFile, content: bytes) -> None:
    vault.set("TOKEN", VALUE, "ann")
    keys.path.write_bytes(content)
    with pytest.raises(SecretMissing, match="does not hold keys"):
        vault.get("TOKEN")


def test_exchanged_rows_are_noticed(vault: Vault, tmp_path: Path) -> None:
    vault.set("HARMLESS", VALUE, "ann")
    vault.set("DEPLOY_KEY", "the deploy key", "ann")
    change(
        tmp_path,
        "UPDATE secrets SET ciphertext = (SELECT ciphertext FROM secrets WHERE name = 'DEPLOY_KEY')"
        " WHERE name = 'HARMLESS'",
    )
    with pytest.raises(SecretMissing, match="HARMLESS holds what was stored for another name"):
        vault.get("HARMLESS")
    assert vault.get("DEPLOY_KEY") == "the deploy key"


@pytest.mark.parametrize("ciphertext", ["", "x", "gAAAAA==", "é"])
def test_a_damaged_row_is_said_and_harms_no_other(vault: Vault, tmp_path: Path, ciphertext: str) -> None:
    vault.set("TOKEN", VALUE, "ann")
    vault.set("OTHER", VALUE, "ann")
    change(tmp_path, "UPDATE secrets SET ciphertext = :new WHERE name = 'TOKEN'", new=ciphertext)
    with pytest.raises(SecretMissing, match="TOKEN cannot be decrypted"):
        vault.get("TOKEN")
    assert vault.get("OTHER") == VALUE


def test_after_a_rotation_the_older_key_opens_nothing_any_more(
    vault: Vault, keys: KeyFile, store: SqlStore, tmp_path: Path
) -> None:
    vault.set("A", VALUE, "ann")
    vault.set("B", "another value", "ann")
    before = keys.path.read_bytes()
    done = vault.rotate("bob")
    assert (done.new_key, done.resealed) == (True, 2)
    assert keys.path.read_bytes().endswith(before)
    old = KeyFile(tmp_path / "old.key", "a copy", keys.lock)
    old.replace([before.strip()])
    with pytest.raises(SecretMissing, match="cannot be decrypted"):
        Vault(store.secrets, old, lambda: AT).get("A")
    assert vault.retire("bob") == 1
    assert before.strip() not in keys.path.read_bytes()
    assert (vault.get("A"), vault.get("B")) == (VALUE, "another value")
    assert vault.retire("bob") == 0


class Killed(BaseException):
    """The process ends here."""


def killing(real: Callable[..., object], *, before: bool) -> Callable[..., object]:
    def act(*arguments: object) -> object:
        if not before:
            real(*arguments)
        raise Killed

    return act


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", ["written", "renamed", "resealed"])
def test_a_rotation_killed_anywhere_leaves_every_secret_readable(
    vault: Vault, keys: KeyFile, store: SqlStore, step: str, before: bool
) -> None:
    vault.set("A", VALUE, "ann")
    vault.set("B", "another value", "ann")
    target, name = {
        "written": (KeyFile, "_written"),
        "renamed": (Path, "replace"),
        "resealed": (type(store.secrets), "reseal"),
    }[step]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, killing(getattr(target, name), before=before))
        with pytest.raises(Killed):
            vault.rotate("bob")
    assert (vault.get("A"), vault.get("B")) == (VALUE, "another value")
    vault.set("C", "set meanwhile", "ann")
    vault.rotate("bob")
    assert len(keys.read()) <= 3
    vault.retire("bob")
    assert len(keys.read()) == 1
    assert [vault.get(each) for each in "ABC"] == [VALUE, "another value", "set meanwhile"]


def test_an_unfinished_rotation_is_finished_without_another_key(
    vault: Vault, keys: KeyFile, store: SqlStore
) -> None:
    vault.set("A", VALUE, "ann")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(store.secrets), "reseal", killing(lambda: None, before=True))
        with pytest.raises(Killed):
            vault.rotate("bob")
    assert len(keys.read()) == 2
    done = vault.rotate("bob")
    assert (done.new_key, done.resealed, len(keys.read())) == (False, 1, 2)


def test_a_value_that_is_stored_while_keys_change_is_not_lost(vault: Vault, keys: KeyFile) -> None:
    vault.set("A", VALUE, "ann")
    stop = threading.Event()
    errors: list[SecretMissing] = []

    def keep_setting() -> None:
        number = 0
        while not stop.is_set():
            try:
                vault.set("B", f"value {number}", "ann")
                assert vault.get("B") is not None
            except SecretMissing as error:
                errors.append(error)
            number += 1

    setting = threading.Thread(target=keep_setting)
    setting.start()
    try:
        for _ in range(10):
            vault.rotate("bob")
            vault.retire("bob")
    finally:
        stop.set()
        setting.join()
    assert (vault.get("A"), errors) == (VALUE, [])
    assert (vault.get("B") or "").startswith("value ")


def test_a_value_is_read_although_its_key_is_retired_in_that_moment(
    vault: Vault, store: SqlStore, keys: KeyFile
) -> None:
    vault.set("TOKEN", VALUE, "ann")

    class Slow:
        """Rows of which one is encrypted anew, and its key forgotten, just after it was read."""

        rotations = 1

        def __getattr__(self, name: str) -> object:
            return getattr(store.secrets, name)

        def get(self, name: str) -> SealedSecret | None:
            found = store.secrets.get(name)
            if self.rotations:
                self.rotations -= 1
                vault.rotate("bob")
                vault.retire("bob")
            return found

    slow = Vault(cast(SecretRows, Slow()), keys, lambda: AT)
    assert slow.get("TOKEN") == VALUE


def test_a_place_that_takes_no_key_is_named(
    vault: Vault, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    # As file systems do that know no links.
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(SecretMissing, match=r"secret\.key cannot be written: Operation not permitted"):
        vault.set("TOKEN", VALUE, "ann")
    assert sorted(path.name for path in keys.path.parent.glob("*secret.key*")) == []


def test_a_key_that_another_keeps_is_used_and_not_written(store: SqlStore, keys: KeyFile) -> None:
    Vault(store.secrets, keys, lambda: AT).set("A", VALUE, "ann")
    first = keys.read()
    keys.path.chmod(0o440)
    managed = KeyFile(keys.path, "a credential", keys.lock, managed=True)
    vault = Vault(store.secrets, managed, lambda: AT)
    assert vault.get("A") == VALUE
    with pytest.raises(InvalidInput, match="cannot be written here"):
        vault.rotate("bob")
    keys.replace([b"A" * 43 + b"=", *first])
    assert vault.rotate("bob").resealed == 1
    assert vault.get("A") == VALUE
