"""The file of keys, one a line, the newest first: it encrypts new values, and all of them decrypt."""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.domain.errors import InvalidInput, SecretMissing

_KEY_BYTES: Final = 32
_MOST_BYTES: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyFileMissing(SecretMissing):
    """There is no file of keys."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file of keys at ``path``. ``origin`` says who named that path.

    ``managed``: something else keeps it, as systemd does its credentials, so that it is never written and its
    mode is not ours to judge. ``lock`` is a file beside which changes of keys and values take turns.
    """

    path: Path
    origin: str
    lock: Path
    managed: bool = False

    def read(self) -> tuple[bytes, ...]:
        """The keys, the newest first.

        Raises KeyFileMissing when there is no file, SecretMissing when it cannot be read, is no file of keys,
        belongs to somebody else, or is open to others.
        """
        try:
            with self.path.open("rb") as file:
                self._judge(os.fstat(file.fileno()))
                content = file.read(_MOST_BYTES)
        except FileNotFoundError:
            raise KeyFileMissing(
                f"the key of the encrypted secrets, {self.path} ({self.origin}), does not exist",
                "put it back from where you keep a copy; without it the stored secrets are lost, and have to"
                " be removed and set again",
            ) from None
        except OSError as error:
            raise SecretMissing(
                f"the key of the encrypted secrets, {self.path} ({self.origin}), cannot be read: "
                f"{error.strerror}",
                "let the user that runs the orchestrator read it",
            ) from None
        keys = tuple(line.strip() for line in content.splitlines() if line.strip())
        if not keys or not all(map(_is_key, keys)):
            raise SecretMissing(
                f"{self.path} ({self.origin}) does not hold keys of secrets",
                "one key a line, each 32 bytes in URL-safe base64; put the right file back",
            )
        return keys

    def create(self) -> tuple[bytes, ...]:
        """Make the file with a new key, complete or not at all; else the keys that are there.

        To be called, as ``replace`` is, by who is ``locked`` alone.
        """
        self._not_managed()
        part = self._written([new_key()])
        with self._telling(self.path):
            try:
                # A link is refused where the name is taken, so that no key is ever replaced.
                with suppress(FileExistsError):
                    os.link(part, self.path)
            finally:
                part.unlink()
            self._sync_folder()
        return self.read()

    def replace(self, keys: Sequence[bytes]) -> None:
        """Put other keys in place of those in the file, all at once."""
        self._not_managed()
        part = self._written(keys)
        with self._telling(self.path):
            part.replace(self.path)
            self._sync_folder()

    @contextmanager
    def locked(self, *, alone: bool) -> Iterator[None]:
        """Hold the keys as they are; ``alone`` to change them. Waits for others. Raises SecretMissing."""
        with self._telling(self.lock):
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def _judge(self, found: os.stat_result) -> None:
        if self.managed:
            return
        if found.st_uid not in (0, os.geteuid()):
            raise SecretMissing(
                f"the key {self.path} ({self.origin}) belongs to another user (uid {found.st_uid})",
                f"chown {os.geteuid()} {self.path}, or name another file",
            )
        if found.st_mode & _OTHERS:
            raise SecretMissing(
                f"the key {self.path} ({self.origin}) is open to others: mode "
                f"{stat.S_IMODE(found.st_mode):04o}",
                f"chmod 600 {self.path}",
            )

    def _not_managed(self) -> None:
        if self.managed:
            raise InvalidInput(
                f"the key {self.path} ({self.origin}) cannot be written here",
                "change it where it comes from: a new key is a line before the others, such as"
                " `head -c 32 /dev/urandom | base64 | tr +/ -_` prints; then run `secrets rotate`",
            )

    def _written(self, keys: Sequence[bytes]) -> Path:
        part = self.path.with_name(f".{self.path.name}.part")
        with self._telling(self.path):
            with suppress(FileNotFoundError):
                part.unlink()
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"".join(key + b"\n" for key in keys))
                file.flush()
                os.fsync(file.fileno())
        return part

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _telling(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SecretMissing(
                f"{path} cannot be written: {error.strerror}",
                "let the user that runs the orchestrator write there, or name another file by storage.key",
            ) from None


def new_key() -> bytes:
    """A key that nobody has."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES))


def _is_key(line: bytes) -> bool:
    try:
        return len(base64.b64decode(line, b"-_", validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
