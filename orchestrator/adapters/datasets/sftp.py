"""Files on a server that is reached by SFTP, told apart by time and size."""

from __future__ import annotations

import posixpath
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import paramiko

from orchestrator.adapters.datasets.access import Accesses, access_to
from orchestrator.adapters.datasets.bounds import Bounds
from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.sftp import SshServer
from orchestrator.adapters.sftp.connection import Connection
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetRefused, DatasetUnavailable, ServerRejected, ServerUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import escaped

_CHUNK: Final = 1 << 20
_IDLE: Final = 5.0
"""Seconds after which a connection that nobody uses is closed."""
_AHEAD: Final = 64
"""How many requests are under way at once."""


class SftpPlace:
    """The Place of files on servers with SFTP. The server has to show the key that it is known by."""

    def __init__(self, accesses: Accesses) -> None:
        self._accesses = accesses
        self._lines = _Lines()

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """All files below the folder; or the one file, if it is one."""
        with self._connected(dataset) as connection, connection.errors(f"list {_root(dataset)}"):
            sftp, root = connection.sftp, _root(dataset)
            found = connection.lstat(root)
            if found is None:
                raise DatasetUnavailable(f"dataset {dataset.name}: {root} is not there")
            root = sftp.normalize(root) or root
            top = sftp.stat(root)
            if stat.S_ISREG(top.st_mode or 0):
                yield _file(posixpath.basename(root), top)
            else:
                yield from _walk(dataset, sftp, root)

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The rest of a file, which must be the one that was seen, before and after it was read."""
        with self._connected(dataset) as connection, connection.errors(f"read {_root(dataset)}"):
            path = _path(connection.sftp, dataset, entry)
            try:
                file = connection.sftp.open(path, "rb")
            except FileNotFoundError:
                raise moved(dataset, entry.path, "it is gone") from None
            with file:
                _must_be(dataset, entry, file.stat())
                file.seek(offset)
                yield _chunks(connection, file, entry.size - offset)
                _must_be(dataset, entry, file.stat())

    @contextmanager
    def _connected(self, dataset: DatasetSpec) -> Iterator[Connection]:
        access = access_to(dataset, self._accesses)
        place = urlsplit(dataset.path)
        own = Path.home() / ".ssh" / "known_hosts"
        known = access.settings.get("known_hosts")
        key = access.settings.get("host_key")
        identity = access.settings.get("identity_file")
        server = SshServer(
            dataset.name,
            place.hostname or "",
            unquote(place.username or ""),
            _root(dataset),
            place.port or 22,
            Path(identity) if identity else None,
            key,
            None if key else Path(known) if known else own,
            password=access.secrets.get("password"),
            what="dataset",
        )
        with _translated(), self._lines.use(server) as connection:
            yield connection


class _Lines:
    """Connections that are used again: to log in takes longer than to fetch a small file. Thread-safe."""

    def __init__(self) -> None:
        self._idle: list[tuple[SshServer, Connection, float]] = []
        self._lock = threading.Lock()
        self._closing: threading.Timer | None = None

    @contextmanager
    def use(self, server: SshServer) -> Iterator[Connection]:
        """A connection for one user at a time; one that broke, or was left in the middle, is not kept."""
        connection = self._taken(server) or Connection(server, ask_for_shell=False)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle.append((server, connection, time.monotonic()))
            self._close_later()

    def _taken(self, server: SshServer) -> Connection | None:
        with self._lock:
            for entry in reversed(self._idle):
                if entry[0] == server:
                    self._idle.remove(entry)
                    if entry[1].alive:
                        return entry[1]
        return None

    def _close_later(self) -> None:
        if self._closing is None and self._idle:
            self._closing = threading.Timer(_IDLE, self._close)
            self._closing.daemon = True
            self._closing.start()

    def _close(self) -> None:
        """Close what nobody used for long."""
        with self._lock:
            since = time.monotonic() - _IDLE
            old = [entry for entry in self._idle if entry[2] <= since]
            self._idle = [entry for entry in self._idle if entry[2] > since]
            self._closing = None
            self._close_later()
        for _, connection, _ in old:
            connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    """From the words of deployment, whose connection this is, to those of data."""
    try:
        yield
    except ServerRejected as error:
        raise DatasetRefused(error.message, error.remedy) from error
    except ServerUnavailable as error:
        raise DatasetUnavailable(error.message, error.remedy) from error


def _walk(dataset: DatasetSpec, sftp: paramiko.SFTPClient, root: str) -> Iterator[RemoteFile]:
    bounds = Bounds(dataset)
    folders = [("", 0)]
    while folders:
        folder, depth = folders.pop()
        bounds.folder(depth)
        try:
            # One request at a time: others, of links below, must not come in between.
            names = sftp.listdir_iter(posixpath.join(root, folder), read_aheads=1)
            entries = list(bounds.files(names))
        except UnicodeDecodeError as error:
            raise _refused(dataset, folder, "a name in it is not UTF-8", "rename it there") from error
        for entry in entries:
            path = posixpath.join(folder, entry.filename)
            mode = entry.st_mode or 0
            if stat.S_ISDIR(mode):
                folders.append((path, depth + 1))
            elif stat.S_ISLNK(mode):
                yield _linked(dataset, sftp, root, path)
            elif stat.S_ISREG(mode):
                yield _file(path, entry)
            else:
                raise _refused(dataset, path, "it is no regular file", "remove it there")


def _linked(dataset: DatasetSpec, sftp: paramiko.SFTPClient, root: str, path: str) -> RemoteFile:
    """A link to a file of the same folder is that file."""
    try:
        real = sftp.normalize(posixpath.join(root, path)) or ""
        found = sftp.stat(real)
    except OSError as error:
        raise _refused(dataset, path, "it is a link that leads nowhere", "remove it there") from error
    if posixpath.commonpath((root, real)) != root:
        why = f"it is a link that leaves the folder, to {escaped(real)}"
        raise _refused(dataset, path, why, "copy the file there")
    if not stat.S_ISREG(found.st_mode or 0):
        raise _refused(dataset, path, "it is a link to something that is no file", "remove it there")
    return _file(path, found)


def _file(path: str, found: paramiko.SFTPAttributes) -> RemoteFile:
    changed = found.st_mtime or 0
    return RemoteFile(path, found.st_size or 0, f"modified:{changed}", datetime.fromtimestamp(changed, UTC))


def _must_be(dataset: DatasetSpec, entry: FileEntry, found: paramiko.SFTPAttributes) -> None:
    now = _file(entry.path, found)
    if (now.size, now.identity) != (entry.size, entry.identity):
        raise moved(dataset, entry.path, "it has changed there")


def _chunks(connection: Connection, file: paramiko.SFTPFile, left: int) -> Iterator[bytes]:
    file.prefetch(left + file.tell(), _AHEAD)
    while left > 0:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk


def _path(sftp: paramiko.SFTPClient, dataset: DatasetSpec, entry: FileEntry) -> str:
    root = sftp.normalize(_root(dataset)) or _root(dataset)
    if stat.S_ISREG(sftp.stat(root).st_mode or 0):
        return root
    path = posixpath.join(root, entry.path)
    try:
        real = sftp.normalize(path) or path
    except FileNotFoundError:
        raise moved(dataset, entry.path, "it is gone") from None
    if posixpath.commonpath((root, real)) != root:
        raise moved(dataset, entry.path, "it leaves the folder")
    return real


def _root(dataset: DatasetSpec) -> str:
    return unquote(urlsplit(dataset.path).path)


def _refused(dataset: DatasetSpec, path: str, why: str, remedy: str) -> DatasetUnavailable:
    where = escaped(posixpath.join(_root(dataset), path))
    return DatasetUnavailable(
        f"dataset {dataset.name}: {where} cannot be used: {why}", f"{remedy}, or exclude it"
    )
