"""A lock on the server itself, so that two deployments to one folder never interleave, whoever does them.

The lock is a folder that is never empty: renaming another folder onto it fails as long as it stands, so that
taking it is one atomic step. It holds a note about its holder, rewritten while the deployment goes on; all
times are compared by the server's own clock. The note is named by the holder's token: to remove it gives back
our own lock, and nothing where somebody took it over. Requests go out together where a server that refuses
one of them does no harm with the next, as each answer takes a round trip.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import paramiko

from orchestrator.adapters.process import look_at
from orchestrator.adapters.sftp.client import Reply
from orchestrator.adapters.sftp.connection import Connection
from orchestrator.domain.errors import ServerRejected, ServerUnavailable

LOCK = ".mlci-lock"
_NOTE = "holder."
_REFRESH = 20.0
_STALE = 15 * 60
_STALE_OWN = 2 * 60
_POLL = 0.5
_TRIES = 5
_NOTE_LIMIT = 4096
_LINK = re.compile(r"\.mlci-current-[0-9a-f]{16}")

Along = Callable[[], Callable[[], None]]

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
        self._name = f"{_NOTE}{self._me.token}"
        self._content = json.dumps(asdict(self._me)).encode()
        self._note: paramiko.SFTPFile | None = None
        self._beside: bytes | None = None
        self._written = 0.0

    def acquire(self, along: Along = lambda: _nothing) -> int:
        """Take the lock, waiting ``patience`` seconds at most; the user id of our files on the server.
        ``along`` sends what belongs right behind taking it, and does no harm where it is not taken; what it
        returns is called once it was taken.

        A lock whose holder is dead (the same machine, no such process), or silent for two minutes (this
        installation) or fifteen (another), is taken over. Raises ServerUnavailable naming the holder.
        """
        sftp = self._connection.sftp
        with _held_guard:
            _held.add(self._me.token)
        ours = posixpath.join(self._folder, f"{LOCK}.{self._me.token}")
        made = sftp.ask_mkdir(ours, 0o700)
        try:
            # The answer to an attempt in a folder that could not be made says less than that to the folder.
            with self._after(made):
                self._note = sftp.open(posixpath.join(ours, self._name), "wx")
            return self._take(ours, along)
        except BaseException:
            self._forget()
            self._remove(ours)
            # It may have been taken, and what came with it failed.
            sftp.ask_remove(posixpath.join(self._path, self._name))
            sftp.ask_rmdir(self._path).worked()
            raise

    def refresh(self) -> None:
        """Show that the deployment goes on; cheap to call often."""
        if time.monotonic() - self._written > _REFRESH:
            self.check()

    def check(self) -> None:
        """Raise ServerUnavailable when somebody took the lock over."""
        # What is written to a note that was moved away, no reader of the lock gets to see.
        written = self._write()
        found = self._connection.sftp.ask_lstat(posixpath.join(self._path, self._name)).found()
        if found is None:
            raise ServerUnavailable(
                f"{self._connection.server}: another deployment took over the lock while this one was silent"
            )
        # A disk that is full keeps nobody from going on: the lock grows old, and that shows above.
        written.worked()

    def release(self) -> None:
        """Give the lock back, if it is still ours, and remove what killed processes left beside it."""
        try:
            listed = self._ask_beside()
            gone = self._connection.sftp.ask_remove(posixpath.join(self._path, self._name))
            self._connection.sftp.ask_rmdir(self._path).worked()
            gone.worked()
            self._sweep([entry for reply in listed for entry in _listed(reply)])
        finally:
            self._forget()

    @contextmanager
    def _after(self, before: Reply[None]) -> Iterator[None]:
        try:
            yield
        except OSError:
            before.get()
            raise

    def _take(self, ours: str, along: Along) -> int:
        """Rename our folder into place, as soon as the place is free; the user id of our files."""
        sftp = self._connection.sftp
        deadline = time.monotonic() + self._patience
        for _ in range(_TRIES):
            written, renamed = self._write(), sftp.ask_rename(ours, self._path)
            note = sftp.ask_lstat(posixpath.join(self._path, self._name))
            beside = sftp.ask_opendir(self._folder)
            settled = along()
            handle = beside.get()
            try:
                renamed.get()
                written.get()
            except OSError as error:
                refused = error
            else:
                self._beside = handle
                settled()
                return note.get().st_uid or 0
            sftp.ask_close(handle).worked()
            written.get()
            while busy := self._clear(sftp.lstat(posixpath.join(ours, self._name)).st_mtime or 0):
                if time.monotonic() > deadline:
                    raise ServerUnavailable(f"{self._connection.server}: {busy}") from refused
                time.sleep(_POLL)
                self._write().get()
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
        sftp = self._connection.sftp
        try:
            name = next((name for name in sftp.listdir(folder) if name.startswith(_NOTE)), None)
            if name is None:
                return None, 0
            with sftp.open(posixpath.join(folder, name), "r") as file:
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

    def _write(self) -> Reply[None]:
        """Write our note over itself, which leaves it whole at each moment and makes it young."""
        if self._note is None:
            raise RuntimeError("the lock is taken before it is refreshed")
        self._written = time.monotonic()
        return self._connection.sftp.ask_write(self._note, 0, self._content)

    def _remove(self, folder: str) -> None:
        sftp = self._connection.sftp
        try:
            for name in sftp.listdir(folder):
                sftp.remove(posixpath.join(folder, name))
            sftp.rmdir(folder)
        except OSError:
            return

    def _ask_beside(self) -> list[Reply[list[paramiko.SFTPAttributes]]]:
        """Ask what lies in the folder: as good as always, one answer has it all, and the next its end."""
        if self._beside is None:
            return []
        return [self._connection.sftp.ask_entries(self._beside) for _ in range(2)]

    def _sweep(self, entries: Sequence[paramiko.SFTPAttributes]) -> None:
        """Remove what killed processes left: links that were to become ``current``, and folders of locks."""
        now = next((entry.st_mtime or 0 for entry in entries if entry.filename == LOCK), 0)
        for entry in entries:
            old = now - (entry.st_mtime or now) > _STALE
            if _LINK.fullmatch(entry.filename):
                self._connection.sftp.ask_remove(posixpath.join(self._folder, entry.filename)).worked()
            elif old and entry.filename.startswith(f"{LOCK}.") and stat.S_ISDIR(entry.st_mode or 0):
                self._remove(posixpath.join(self._folder, entry.filename))

    def _forget(self) -> None:
        with _held_guard:
            _held.discard(self._me.token)


def _nothing() -> None:
    return None


def _listed(reply: Reply[list[paramiko.SFTPAttributes]]) -> list[paramiko.SFTPAttributes]:
    try:
        return reply.get()
    except (EOFError, OSError):
        return []


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
