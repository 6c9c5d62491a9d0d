"""Values in and out of the encrypted store, and the change of its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.adapters.vault.keys import KeyFile, KeyFileMissing, new_key
from orchestrator.domain.errors import SecretMissing
from orchestrator.ports.secrets import SealedSecret, SecretRows

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did. ``new_key``: false when it finished an earlier one. ``resealed`` counts rows."""

    new_key: bool
    resealed: int


class Vault:
    """Secrets by name, each encrypted together with its name, so that exchanged rows are noticed.

    Thread-safe. Everything raises StoreUnavailable when the database does not answer, and SecretMissing with
    a remedy when the key cannot be used.
    """

    def __init__(self, rows: SecretRows, keys: KeyFile, now: Callable[[], datetime]) -> None:
        self._rows = rows
        self._keys = keys
        self._now = now

    def rows(self) -> Sequence[SealedSecret]:
        """What is stored, by name, still encrypted."""
        return self._rows.all()

    def get(self, name: str) -> str | None:
        """The value, or None when there is no secret of that name."""
        row = self._rows.get(name)
        while row is not None:
            try:
                return self.opened(row)
            except SecretMissing:
                # Its key may have been retired since the row was read, which then is another one by now.
                seen, row = row, self._rows.get(name)
                if row == seen:
                    raise
        return None

    def opened(self, row: SealedSecret) -> str:
        """The value of a row. SecretMissing when it was encrypted with another key or for another name."""
        return self._open(row, _ciphers(self._keys.read()))

    def set(self, name: str, value: str, who: str) -> SealedSecret:
        """Store a value; the first one of all makes the key."""
        self._have_key()
        with self._keys.locked(alone=False):
            keys = self._keys.read()
            sealed = _ciphers(keys).encrypt(json.dumps({"name": name, "value": value}).encode())
            return self._rows.put(name, sealed.decode("ascii"), who, self._now())

    def remove(self, name: str, who: str) -> None:
        """Take one away. NotFound."""
        self._rows.remove(name, who, self._now())

    def rotate(self, who: str) -> Rotation:
        """Encrypt all with a new key; the older ones stay for reading, until they are retired.

        The new key is in its file before any row needs it, and all rows change in one transaction: whatever
        is interrupted, every row can be read. Calling it again then finishes that rotation first.
        """
        with self._keys.locked(alone=True):
            keys = self._keys.read()
            rows = self._rows.all()
            added = not self._older(rows, keys)
            if added:
                keys = (new_key(), *keys)
                self._keys.replace(keys)
            return Rotation(added, self._reseal(rows, keys, who))

    def retire(self, who: str) -> int:
        """Forget all keys but the newest, with which every row is encrypted first; how many went."""
        with self._keys.locked(alone=True):
            keys = self._keys.read()
            self._reseal(self._rows.all(), keys, who)
            older = self._older(self._rows.all(), keys)
            if older:
                raise SecretMissing(
                    f"{', '.join(row.name for row in older)} cannot be encrypted with the newest key",
                    "set these secrets again, or remove them",
                )
            if len(keys) > 1:
                self._keys.replace(keys[:1])
            return len(keys) - 1

    def _have_key(self) -> None:
        with suppress(KeyFileMissing):
            self._keys.read()
            return
        with self._keys.locked(alone=True):
            # With another key the rows that are there could never be read again.
            if self._rows.all():
                self._keys.read()
            else:
                self._keys.create()

    def _older(self, rows: Sequence[SealedSecret], keys: Sequence[bytes]) -> list[SealedSecret]:
        """The rows that the newest key does not open."""
        newest = _ciphers(keys[:1])
        return [row for row in rows if _decrypted(newest, row.ciphertext) is None]

    def _reseal(self, rows: Sequence[SealedSecret], keys: Sequence[bytes], who: str) -> int:
        ciphers = _ciphers(keys)
        changes: dict[str, tuple[str, str]] = {}
        for row in self._older(rows, keys):
            self._open(row, ciphers)
            fresh = ciphers.rotate(row.ciphertext.encode("ascii")).decode("ascii")
            changes[row.name] = (row.ciphertext, fresh)
        return self._rows.reseal(changes, who, self._now()) if changes else 0

    def _open(self, row: SealedSecret, ciphers: MultiFernet) -> str:
        plain = _decrypted(ciphers, row.ciphertext)
        if plain is None:
            raise SecretMissing(
                f"the stored secret {row.name} cannot be decrypted: none of the keys in {self._keys.path} "
                f"({self._keys.origin}) is the one that it was encrypted with, or its row was changed",
                f"put the right key back, or set {row.name} again",
            )
        envelope = json.loads(plain)
        if envelope["name"] != row.name:
            raise SecretMissing(
                f"the row of the stored secret {row.name} holds what was stored for another name",
                f"somebody changed the database: find out who, and set {row.name} again",
            )
        return str(envelope["value"])


def _ciphers(keys: Sequence[bytes]) -> MultiFernet:
    # Loaded when a secret is really used: most commands use none.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys])


def _decrypted(ciphers: MultiFernet, ciphertext: str) -> bytes | None:
    from cryptography.fernet import InvalidToken

    try:
        return ciphers.decrypt(ciphertext.encode("utf-8", "replace"))
    except InvalidToken:
        return None
