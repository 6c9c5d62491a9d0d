"""A lock on the server itself, so that two deployments to one folder never interleave, whoever does them.

The lock is a folder that is never empty: renaming another folder onto it fails as long as it stands, so that
taking it is one atomic step. It holds a note about its holder, rewritten while the deployment goes on; all
times are compared by the server's own clock.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import stat
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.adapters.process import look_at
from orchestrator.adapters.sftp.connection import Connection
from orchestrator.domain.errors import ServerRejected, ServerUnavailable

LOCK = ".mlci-lock"
_NOTE = "holder"
_REFRESH = 20.0
_STALE = 15 * 60
_STALE_OWN = 2 * 60
_POLL = 0.5
_TRIES = 5
_NOTE_LIMIT = 4096

_held: set[str] = set()
_held_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: the installation, the machine (with its process space), the process, a token."""

    owner: str
    machine: str
    process: str
    token: str
    since: str


class ServerLock:
    """The lock on one folder. Not for several threads."""

    def __init__(self, connection: Connection, folder: str, owner: str, patience: float) -> None:
        self._connection = connection
        self._folder = folder
        self._path = posixpath.join(folder, LOCK)
        self._patience = patience
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._me = Holder(
            owner, _machine(), _process(os.getpid()) or str(os.getpid()), secrets.token_hex(8), since
        )
        self._written = 0.0
        self.beside: list[str] = []
        """What lay in the folder when the lock was taken."""

    def acquire(self) -> int:
        """Take the lock, waiting ``patience`` seconds at most; the user id of our files on the server.

        A lock whose holder is dead (the same machine, no such process), or silent for two minutes (this
        installation) or fifteen (another), is taken over. Raises ServerUnavailable naming the holder.
        """
        sftp = self._connection.sftp
        with _held_guard:
            _held.add(self._me.token)
        ours = posixpath.join(self._folder, f"{LOCK}.{self._me.token}")
        sftp.mkdir(ours, 0o700)
        try:
            self._take(ours)
            own = sftp.lstat(posixpath.join(self._path, _NOTE))
            self._sweep(own.st_mtime or 0)
        except BaseException:
            # Even when it was taken: nobody holds it then, and the next try takes it over.
            self._forget()
            self._remove(ours)
            raise
        return own.st_uid or 0

    def refresh(self) -> None:
        """Show that the deployment goes on; cheap to call often."""
        if time.monotonic() - self._written > _REFRESH:
            self.check()
            self._write(self._path)

    def check(self) -> None:
        """Raise ServerUnavailable when somebody took the lock over."""
        holder, _ = self._holder(self._path)
        if holder is None or holder.token != self._me.token:
            raise ServerUnavailable(
                f"{self._connection.server}: another deployment took over the lock while this one was silent"
            )

    def release(self) -> None:
        """Give the lock back, if it is still ours."""
        try:
            holder, _ = self._holder(self._path)
            if holder is not None and holder.token == self._me.token:
                gone = f"{self._path}.{self._me.token}"
                self._connection.sftp.posix_rename(self._path, gone)
                self._remove(gone)
        finally:
            self._forget()

    def _take(self, ours: str) -> None:
        """Rename our folder into place, as soon as the place is free."""
        sftp = self._connection.sftp
        deadline = time.monotonic() + self._patience
        for _ in range(_TRIES):
            self._write(ours)
            try:
                sftp.posix_rename(ours, self._path)
                return
            except OSError as error:
                refused = error
            while busy := self._clear(sftp.lstat(posixpath.join(ours, _NOTE)).st_mtime or 0):
                if time.monotonic() > deadline:
                    raise ServerUnavailable(f"{self._connection.server}: {busy}") from refused
                time.sleep(_POLL)
                self._write(ours)
        raise ServerUnavailable(f"{self._connection.server}: the lock {self._path} cannot be taken")

    def _clear(self, now: int) -> str:
        """Remove the lock in our way if its holder is gone; else say who holds it."""
        sftp = self._connection.sftp
        entry = self._connection.lstat(self._path)
        if entry is None:
            return ""
        if not stat.S_ISDIR(entry.st_mode or 0):
            raise ServerRejected(
                f"{self._connection.server}: {self._path} is no folder of ours",
                f"rm {self._path} on the server",
            )
        holder, written = self._holder(self._path)
        age = now - (written or entry.st_mtime or 0)
        if holder is None and age < _STALE_OWN:
            return f"the lock {self._path} is being taken by somebody"
        if holder is not None and not self._is_over(holder, age):
            return f"'{holder.owner}' is deploying to {self._folder}, since {holder.since}"
        aside = f"{self._path}.{secrets.token_hex(8)}"
        try:
            sftp.posix_rename(self._path, aside)
        except OSError:
            return ""
        moved, _ = self._holder(aside)
        if moved == holder:
            self._remove(aside)
            return ""
        # Between reading and renaming somebody else took over: that lock stands, so it goes back.
        try:
            sftp.posix_rename(aside, self._path)
        except OSError:
            self._remove(aside)
        return f"the lock {self._path} has just been taken over"

    def _is_over(self, holder: Holder, age: float) -> bool:
        if holder.machine == self._me.machine:
            if holder.process == self._me.process:
                with _held_guard:
                    return holder.token not in _held
            return _process(int(holder.process.partition("@")[0])) != holder.process
        return age > (_STALE_OWN if holder.owner == self._me.owner else _STALE)

    def _holder(self, folder: str) -> tuple[Holder | None, int]:
        path = posixpath.join(folder, _NOTE)
        try:
            with self._connection.sftp.open(path, "r") as file:
                entry = file.stat()
                written = entry.st_mtime or 0
                # Asked for exactly: to be told that there is no more takes a round trip of its own.
                note = json.loads(file.read(min(entry.st_size or 0, _NOTE_LIMIT)))
        except (OSError, ValueError):
            return None, 0
        names = ("owner", "machine", "process", "token", "since")
        if not isinstance(note, dict) or not all(isinstance(note.get(name), str) for name in names):
            return None, written
        if not note["process"].partition("@")[0].isdecimal():
            return None, written
        return Holder(*(note[name] for name in names)), written

    def _write(self, folder: str) -> None:
        note = json.dumps(asdict(self._me))
        # Written beside and renamed, so that no reader ever finds half a note; nobody reads it before the
        # folder is the lock.
        place = posixpath.join(folder, _NOTE)
        temporary = f"{place}.new" if folder == self._path else place
        with self._connection.sftp.open(temporary, "w") as file:
            file.write(note.encode())
        if temporary != place:
            self._connection.sftp.posix_rename(temporary, place)
        self._written = time.monotonic()

    def _remove(self, folder: str) -> None:
        sftp = self._connection.sftp
        try:
            sftp.remove(posixpath.join(folder, _NOTE))
            sftp.rmdir(folder)
            return
        except OSError:
            pass
        try:
            for name in sftp.listdir(folder):
                sftp.remove(posixpath.join(folder, name))
            sftp.rmdir(folder)
        except OSError:
            return

    def _sweep(self, now: int) -> None:
        """Remove what killed processes left beside the lock."""
        entries = self._connection.sftp.listdir_attr(self._folder)
        self.beside = [entry.filename for entry in entries]
        for entry in entries:
            old = now - (entry.st_mtime or now) > _STALE
            if old and entry.filename.startswith(f"{LOCK}.") and stat.S_ISDIR(entry.st_mode or 0):
                self._remove(posixpath.join(self._folder, entry.filename))

    def _forget(self) -> None:
        with _held_guard:
            _held.discard(self._me.token)


def _machine() -> str:
    """The machine since its last start, and the process space in it, as numbers mean nothing outside."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return f"unknown-{secrets.token_hex(8)}"
    return f"{boot}/{space}"


def _process(number: int) -> str | None:
    """A process as ``number@start``, so that a reused number is another one; None when there is none."""
    seen = look_at(number)
    return None if seen is None else f"{number}@{seen[1]}"
