"""Bringing a release's files over and comparing them there: one stream with a shell, file by file without."""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import shlex
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import paramiko

from orchestrator.adapters.sftp.connection import Connection
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ServerRejected, TransferCorrupted
from orchestrator.ports.progress import ProgressEvent, ProgressSink

if TYPE_CHECKING:
    from typing_extensions import Buffer

FILE_MODE = 0o644
FOLDER_MODE = 0o755
_CHUNK = 1024 * 1024
_SFTP_CHUNK = 32 * 1024
_FILES_AT_ONCE = 500
_READS_AHEAD = 64
_NAMED = 10
_HASH = re.compile(rb"\\?([0-9a-f]{64})[ \t]")

Read = Callable[[ReleaseFile], BinaryIO]


def check_names(files: Sequence[ReleaseFile]) -> None:
    """Raise ServerRejected when a name would leave the release's folder, or two names would fall together."""
    seen: set[str] = set()
    for file in files:
        parts = file.path.split("/")
        bad = not all(parts) or not {".", ".."}.isdisjoint(parts) or any(ord(c) < 32 for c in file.path)
        if bad or file.path in seen:
            why = (
                "appears twice in the release"
                if file.path in seen
                else "is no name of a file inside a release"
            )
            raise ServerRejected(f"{file.path!r} {why}; nothing was sent")
        seen.add(file.path)


class Transfer:
    """Moves files into one folder. ``beat`` is called often while it goes on."""

    def __init__(self, connection: Connection, folder: str, beat: Callable[[], None]) -> None:
        self._connection = connection
        self._folder = folder
        self._beat = beat

    def send(self, files: Sequence[ReleaseFile], read: Read, progress: ProgressSink) -> None:
        """Fill the empty folder. TransferCorrupted when the stored content is not what it should be."""
        counter = _Counter(sum(file.size for file in files), progress, self._beat)
        if self._connection.shell:
            self._send_tar(files, read, counter)
        else:
            self._send_each(files, read, counter)

    def compare(self, files: Sequence[ReleaseFile]) -> None:
        """Compare what lies in the folder with what should; TransferCorrupted names each difference."""
        entries = dict(self._walk(""))
        found = {path for path, entry in entries.items() if not stat.S_ISDIR(entry.st_mode or 0)}
        wanted = {file.path: file for file in files}
        folders = {parent for path in wanted for parent in _parents(path)}
        problems = [f"{path} is missing" for path in sorted(wanted.keys() - found)]
        problems += [f"{path} should not be there" for path in sorted(found - wanted.keys())]
        problems += [f"{path}/ should not be there" for path in sorted(entries.keys() - found - folders)]
        present = [file for path, file in sorted(wanted.items()) if path in found]
        regular = [file for file in present if stat.S_ISREG(entries[file.path].st_mode or 0)]
        problems += [f"{file.path} is no regular file" for file in present if file not in regular]
        sized = [file for file in regular if entries[file.path].st_size == file.size]
        problems += [
            f"{file.path} has {entries[file.path].st_size} bytes instead of {file.size}"
            for file in regular
            if file not in sized
        ]
        hashes = self._hashes(sized)
        problems += [
            f"{file.path} has other content" for file in sized if hashes.get(file.path) != file.sha256
        ]
        if problems:
            more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
            raise TransferCorrupted(
                f"{self._connection.server}: what arrived in {self._folder} is not what was sent: "
                + ", ".join(problems[:_NAMED])
                + more
            )
        self._open_to_readers(entries)

    def _open_to_readers(self, entries: Mapping[str, paramiko.SFTPAttributes]) -> None:
        """Whoever serves the model may read it, whatever the server's umask is."""
        for path, entry in entries.items():
            mode = FOLDER_MODE if stat.S_ISDIR(entry.st_mode or 0) else FILE_MODE
            if stat.S_IMODE(entry.st_mode or 0) != mode:
                self._connection.sftp.chmod(posixpath.join(self._folder, path), mode)
        if self._connection.shell:
            self._connection.run(f"sync -f -- {shlex.quote(self._folder)} 2>/dev/null || sync")

    def _send_tar(self, files: Sequence[ReleaseFile], read: Read, counter: _Counter) -> None:
        def feed(channel: paramiko.Channel) -> None:
            with tarfile.open(
                fileobj=_Sink(channel), mode="w|", format=tarfile.GNU_FORMAT, bufsize=_CHUNK, encoding="utf-8"
            ) as archive:
                for file in files:
                    member = tarfile.TarInfo(file.path)
                    member.size, member.mode = file.size, FILE_MODE
                    with _opened(file, read) as source:
                        archive.addfile(member, _Checked(source, file, counter))

        # -k: never over a file that is there already; -m: our clock stays out of it; -o: no foreign owners.
        done = self._connection.run(f"umask 022 && tar -x -k -m -o -f - -C {shlex.quote(self._folder)}", feed)
        if done.status:
            raise ServerRejected(
                f"{self._connection.server}: tar could not unpack the release: "
                + (done.errors or f"status {done.status}")
            )

    def _send_each(self, files: Sequence[ReleaseFile], read: Read, counter: _Counter) -> None:
        sftp = self._connection.sftp
        made: set[str] = set()
        for file in files:
            for folder in _parents(file.path):
                if folder not in made:
                    sftp.mkdir(posixpath.join(self._folder, folder), FOLDER_MODE)
                    made.add(folder)
            with (
                _opened(file, read) as source,
                sftp.open(posixpath.join(self._folder, file.path), "wx") as target,
            ):
                target.set_pipelined(True)
                content = _Checked(source, file, counter)
                while data := content.read(_SFTP_CHUNK):
                    target.write(data)
                target.set_pipelined(False)
                target.flush()
                sftp.flush_to_disk(target)

    def _walk(self, inside: str) -> Iterator[tuple[str, paramiko.SFTPAttributes]]:
        """Everything in the folder, by path; links are not followed."""
        for entry in self._connection.sftp.listdir_attr(posixpath.join(self._folder, inside)):
            path = posixpath.join(inside, entry.filename)
            yield path, entry
            if stat.S_ISDIR(entry.st_mode or 0):
                yield from self._walk(path)

    def _hashes(self, files: Sequence[ReleaseFile]) -> dict[str, str]:
        hashes: dict[str, str] = {}
        if not self._connection.shell:
            for file in files:
                hashes[file.path] = self._read_back(file)
            return hashes
        for first in range(0, len(files), _FILES_AT_ONCE):
            some = files[first : first + _FILES_AT_ONCE]
            names = b"".join(f"./{file.path}\0".encode() for file in some)

            def feed(channel: paramiko.Channel, names: bytes = names) -> None:
                channel.sendall(names)

            done = self._connection.run(f"cd -- {shlex.quote(self._folder)} && xargs -0 sha256sum", feed)
            lines = [match[1].decode() for line in done.text.splitlines() if (match := _HASH.match(line))]
            # The lines come in the order of the names, so no name has to be read back from them.
            if done.status or len(lines) != len(some):
                raise TransferCorrupted(
                    f"{self._connection.server}: sha256sum could not read the release: "
                    + (done.errors or f"status {done.status}")
                )
            hashes.update(zip((file.path for file in some), lines, strict=True))
            self._beat()
        return hashes

    def _read_back(self, file: ReleaseFile) -> str:
        digest = hashlib.sha256()
        with self._connection.sftp.open(posixpath.join(self._folder, file.path), "r") as source:
            source.prefetch(file.size, _READS_AHEAD)
            while data := source.read(_SFTP_CHUNK):
                digest.update(data)
                self._beat()
        return digest.hexdigest()


class _Counter:
    """Tells the progress, and keeps the lock fresh on the way."""

    def __init__(self, total: int, progress: ProgressSink, beat: Callable[[], None]) -> None:
        self._total, self._progress, self._beat = total, progress, beat
        self._done = 0

    def add(self, count: int, path: str) -> None:
        self._done += count
        self._progress(ProgressEvent("upload", self._done, self._total, "bytes", path))
        self._beat()


class _Checked:
    """Reads one stored file and compares it with its hash as it goes by."""

    def __init__(self, source: BinaryIO, file: ReleaseFile, counter: _Counter) -> None:
        self._source, self._file, self._counter = source, file, counter
        self._digest = hashlib.sha256()
        self._left = file.size

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes as long as the file has as many left, else the rest of it."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = bytearray()
        try:
            while len(data) < wanted and (part := self._source.read(wanted - len(data))):
                data += part
            too_long = wanted == self._left and bool(self._source.read(1))
        except OSError as error:
            raise _unreadable(self._file, error) from error
        self._digest.update(data)
        self._left -= len(data)
        wrong = not self._left and self._digest.hexdigest() != self._file.sha256
        if len(data) < wanted or too_long or wrong:
            raise TransferCorrupted(
                f"the stored {self._file.path} is not what was kept: its size or hash differs"
            )
        self._counter.add(len(data), self._file.path)
        return bytes(data)


class _Sink(io.RawIOBase):
    """What tarfile writes to."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        content = bytes(data)
        self._channel.sendall(content)
        return len(content)


@contextmanager
def _opened(file: ReleaseFile, read: Read) -> Iterator[BinaryIO]:
    try:
        source = read(file)
    except OSError as error:
        raise _unreadable(file, error) from error
    with source:
        yield source


def _unreadable(file: ReleaseFile, error: OSError) -> TransferCorrupted:
    return TransferCorrupted(f"the stored {file.path} cannot be read: {error.strerror or error}")


def _parents(path: str) -> list[str]:
    """``a``, ``a/b`` for ``a/b/c``."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
