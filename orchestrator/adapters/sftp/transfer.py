"""Bringing a release's files over and comparing them there: one stream with a shell, file by file without."""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import shlex
import stat
import tarfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
_COPY = 256 * 1024
_PACKET_HEAD = 64
_NAME_LIMIT = 255
_NAP = 1.0
# Below this, to send a file again costs less than to ask how much of it is there.
_WORTH = 1024 * 1024
_HASH = re.compile(rb"\\?([0-9a-f]{64})[ \t]")

Read = Callable[[ReleaseFile], BinaryIO]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What lies at a path: its kind as ``find`` names it (``f``, ``d``, ``l`` …), bytes, permissions."""

    kind: str
    size: int
    mode: int


def check_names(files: Sequence[ReleaseFile]) -> None:
    """Raise ServerRejected when a name would leave the release's folder, or two names would fall together.

    Spaces, quotes and newlines are fine.
    """
    paths = {file.path for file in files}
    folders = {parent for path in paths for parent in parents(path)}
    seen: set[str] = set()
    for file in files:
        parts = file.path.split("/")
        why = ""
        if not all(parts) or not {".", ".."}.isdisjoint(parts) or "\0" in file.path:
            why = "is no name of a file inside a release"
        elif file.path in seen:
            why = "appears twice in the release"
        elif file.path in folders:
            why = "is both a file and a folder in the release"
        elif any(len(part.encode("utf-8", "surrogateescape")) > _NAME_LIMIT for part in parts):
            why = f"has a part of more than {_NAME_LIMIT} bytes, which no usual file system takes"
        if why:
            raise ServerRejected(f"{file.path!r} {why}; nothing was sent")
        seen.add(file.path)


class Transfer:
    """Moves files into one folder. ``beat`` is called often while it goes on."""

    def __init__(self, connection: Connection, folder: str, beat: Callable[[], None]) -> None:
        self._connection = connection
        self._folder = folder
        self._beat = beat

    def send(
        self, files: Sequence[ReleaseFile], read: Read, progress: ProgressSink, resume: bool = False
    ) -> None:
        """Fill the folder. ``resume`` keeps what an earlier try brought there whole, and continues a big file
        where it broke off; the rest of what lies there is removed. TransferCorrupted when the stored content
        is not what it should be.
        """
        server = self._connection.server
        counter = _Counter(sum(file.size for file in files), progress, self._beat, server.rate)
        if resume:
            files = self._resume(files, read, counter)
        if self._connection.shell and self._connection.lacks:
            missing = ", ".join(self._connection.lacks)
            line = f"{server} has no {missing}: its files go and are compared one by one, which takes longer"
            progress(ProgressEvent("upload", line=line))
        if self._connection.streams:
            self._send_tar(files, read, counter)
        else:
            self._send_each(files, read, counter)

    def compare(self, files: Sequence[ReleaseFile], links: Collection[str] = ()) -> None:
        """Compare what lies in the folder with what should; TransferCorrupted names each difference.

        ``links`` are links of ours, which may lie there beside the files.
        """
        entries = self._entries()
        for link in links:
            if link in entries and entries[link].kind == "l":
                del entries[link]
        found = {path for path, entry in entries.items() if entry.kind != "d"}
        wanted = {file.path: file for file in files}
        folders = {parent for path in (*wanted, *links) for parent in parents(path)}
        problems = [f"{path} is missing" for path in sorted(wanted.keys() - found)]
        problems += [f"{path} should not be there" for path in sorted(found - wanted.keys())]
        problems += [f"{path}/ should not be there" for path in sorted(entries.keys() - found - folders)]
        present = [file for path, file in sorted(wanted.items()) if path in found]
        regular = [file for file in present if entries[file.path].kind == "f"]
        problems += [f"{file.path} is no regular file" for file in present if entries[file.path].kind != "f"]
        sized = [file for file in regular if entries[file.path].size == file.size]
        problems += [
            f"{file.path} has {entries[file.path].size} bytes instead of {file.size}"
            for file in regular
            if entries[file.path].size != file.size
        ]
        hashes = self._hashes([(file.path, file.size) for file in sized])
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

    def _open_to_readers(self, entries: Mapping[str, _Entry]) -> None:
        """Whoever serves the model may read it, whatever the server's umask is."""
        for path, entry in entries.items():
            mode = FOLDER_MODE if entry.kind == "d" else FILE_MODE
            if entry.mode != mode:
                self._connection.sftp.chmod(posixpath.join(self._folder, path), mode)
        if self._connection.shell:
            self._connection.run(f"sync -f -- {shlex.quote(self._folder)} 2>/dev/null || sync")

    def _resume(self, files: Sequence[ReleaseFile], read: Read, counter: _Counter) -> list[ReleaseFile]:
        """Keep what is whole, continue what broke off, remove all else; the files still to be sent."""
        entries = self._entries()
        wanted = {file.path: file for file in files}
        folders = {parent for path in wanted for parent in parents(path)}
        candidates = {
            path: entry.size
            for path, entry in entries.items()
            if path in wanted
            and entry.kind == "f"
            and (entry.size == wanted[path].size or _WORTH <= entry.size < wanted[path].size)
        }
        gone: set[str] = set()
        for path, entry in sorted(entries.items()):
            if path in candidates or (entry.kind == "d" and path in folders):
                continue
            if gone.isdisjoint(parents(path)):
                self._drop(path, entry.kind)
                gone.add(path)
        hashes = self._hashes(list(candidates.items()))
        rest: list[ReleaseFile] = []
        for file in files:
            size = candidates.get(file.path)
            if size == file.size and hashes[file.path] == file.sha256:
                counter.add(file.size, file.path, sent=False)
            elif size is None or not self._continued(file, size, hashes[file.path], read, counter):
                rest.append(file)
                if size is not None:
                    self._drop(file.path, "f")
        return rest

    def _drop(self, path: str, kind: str) -> None:
        whole = posixpath.join(self._folder, path)
        if kind == "d":
            self._connection.remove_tree(whole)
        else:
            self._connection.sftp.remove(whole)
        self._beat()

    def _continued(self, file: ReleaseFile, size: int, sha256: str, read: Read, counter: _Counter) -> bool:
        """Append what lacks, if what is there is how the file begins."""
        if size >= file.size:
            return False
        digest = hashlib.sha256()
        with _opened(file, read) as source:
            left = size
            while left and (data := source.read(min(_CHUNK, left))):
                digest.update(data)
                left -= len(data)
                self._beat()
            if left or digest.hexdigest() != sha256:
                return False
            counter.add(size, file.path, sent=False)
            content = _Checked(source, file, counter, digest, size)
            if self._connection.shell:
                self._append(file, content)
            else:
                with self._connection.sftp.open(posixpath.join(self._folder, file.path), "r+") as target:
                    target.seek(size)
                    self._write(target, content)
        return True

    def _append(self, file: ReleaseFile, content: _Checked) -> None:
        def feed(channel: paramiko.Channel) -> None:
            with _Sink(channel) as sink:
                while data := content.read(_CHUNK):
                    sink.write(data)

        path = shlex.quote(posixpath.join(self._folder, file.path))
        done = self._connection.run(f"cat >>{path}", feed)
        if done.status:
            raise ServerRejected(
                f"{self._connection.server}: {file.path} could not be continued: "
                + (done.errors or f"status {done.status}")
            )

    def _send_tar(self, files: Sequence[ReleaseFile], read: Read, counter: _Counter) -> None:
        def feed(channel: paramiko.Channel) -> None:
            with (
                _Sink(channel) as sink,
                tarfile.TarFile(
                    fileobj=sink, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", copybufsize=_COPY
                ) as archive,
            ):
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
            for folder in parents(file.path):
                if folder not in made:
                    whole = posixpath.join(self._folder, folder)
                    if self._connection.lstat(whole) is None:
                        sftp.mkdir(whole, FOLDER_MODE)
                    made.add(folder)
            with (
                _opened(file, read) as source,
                sftp.open(posixpath.join(self._folder, file.path), "wx") as target,
            ):
                self._write(target, _Checked(source, file, counter))

    def _write(self, target: paramiko.SFTPFile, content: _Checked) -> None:
        target.set_pipelined(True)
        while data := content.read(_SFTP_CHUNK):
            target.write(data)
        target.set_pipelined(False)
        target.flush()
        self._connection.sftp.flush_to_disk(target)

    def _entries(self) -> dict[str, _Entry]:
        """Everything in the folder, by path; links are not followed."""
        if not (self._connection.shell and self._connection.finds):
            return dict(self._walk(""))
        found = f"find {shlex.quote(self._folder)} -mindepth 1 -printf '%y %s %m %P\\0'"
        done = self._connection.run(found)
        entries = {}
        # What is cut off has no zero byte at its end.
        *lines, rest = done.text.split(b"\0")
        if done.status or rest:
            return dict(self._walk(""))
        for line in lines:
            kind, size, mode, path = line.split(b" ", 3)
            entries[path.decode("utf-8", "surrogateescape")] = _Entry(
                kind.decode("ascii"), int(size), int(mode, 8)
            )
        return entries

    def _walk(self, inside: str) -> Iterator[tuple[str, _Entry]]:
        for entry in self._connection.sftp.listdir_attr(posixpath.join(self._folder, inside)):
            path = posixpath.join(inside, entry.filename)
            mode = entry.st_mode or 0
            kind = (
                "d"
                if stat.S_ISDIR(mode)
                else "f"
                if stat.S_ISREG(mode)
                else "l"
                if stat.S_ISLNK(mode)
                else "?"
            )
            yield path, _Entry(kind, entry.st_size or 0, stat.S_IMODE(mode))
            if kind == "d":
                yield from self._walk(path)

    def _hashes(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        """SHA-256 by path, of files named with their size there."""
        hashes: dict[str, str] = {}
        if not self._connection.streams:
            for path, size in files:
                hashes[path] = self._read_back(path, size)
            return hashes
        for first in range(0, len(files), _FILES_AT_ONCE):
            some = [path for path, _ in files[first : first + _FILES_AT_ONCE]]
            names = b"".join(f"./{path}\0".encode() for path in some)

            def feed(channel: paramiko.Channel, names: bytes = names) -> None:
                with _Sink(channel) as sink:
                    sink.write(names)

            done = self._connection.run(f"cd -- {shlex.quote(self._folder)} && xargs -0 sha256sum", feed)
            lines = [match[1].decode() for line in done.text.split(b"\n") if (match := _HASH.match(line))]
            # The lines come in the order of the names, so no name has to be read back from them.
            if done.status or len(lines) != len(some):
                raise TransferCorrupted(
                    f"{self._connection.server}: sha256sum could not read the release: "
                    + (done.errors or f"status {done.status}")
                )
            hashes.update(zip(some, lines, strict=True))
            self._beat()
        return hashes

    def _read_back(self, path: str, size: int) -> str:
        digest = hashlib.sha256()
        with self._connection.sftp.open(posixpath.join(self._folder, path), "r") as source:
            source.prefetch(size, _READS_AHEAD)
            while data := source.read(_SFTP_CHUNK):
                digest.update(data)
                self._beat()
        return digest.hexdigest()


class _Counter:
    """Tells the progress, keeps the lock fresh on the way, and the pace below ``rate`` bytes a second."""

    def __init__(
        self, total: int, progress: ProgressSink, beat: Callable[[], None], rate: int | None
    ) -> None:
        self._total, self._progress, self._beat, self._rate = total, progress, beat, rate
        self._done = 0
        self._sent = 0
        self._began = time.monotonic()

    def add(self, count: int, path: str, sent: bool = True) -> None:
        self._done += count
        if sent and self._rate:
            self._sent += count
            while (early := self._began + self._sent / self._rate - time.monotonic()) > 0:
                time.sleep(min(early, _NAP))
                self._beat()
        self._progress(ProgressEvent("upload", self._done, self._total, "bytes", path))
        self._beat()


class _Checked:
    """Reads one stored file and compares it with its hash as it goes by."""

    def __init__(
        self,
        source: BinaryIO,
        file: ReleaseFile,
        counter: _Counter,
        digest: hashlib._Hash | None = None,
        read: int = 0,
    ) -> None:
        """``read`` bytes went by already, into ``digest``."""
        self._source, self._file, self._counter = source, file, counter
        self._digest = hashlib.sha256() if digest is None else digest
        self._left = file.size - read

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
    """What tarfile writes to: whole packets, as sending parts of a large block copies its rest each time."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._size = max(channel.out_max_packet_size - _PACKET_HEAD, _PACKET_HEAD)
        self._waiting = bytearray()
        self._written = 0

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._send(bytes(self._waiting))

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Buffer) -> int:
        self._waiting += data
        whole = len(self._waiting) - len(self._waiting) % self._size
        with memoryview(self._waiting) as waiting:
            for start in range(0, whole, self._size):
                self._send(bytes(waiting[start : start + self._size]))
        del self._waiting[:whole]
        self._written += memoryview(data).nbytes
        return memoryview(data).nbytes

    def _send(self, packet: bytes) -> None:
        self._channel.sendall(packet)


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


def parents(path: str) -> list[str]:
    """``a``, ``a/b`` for ``a/b/c``."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
