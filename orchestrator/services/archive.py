"""Plain tar archives of containers: what goes in is made here, what comes out is read with distrust.

An archive that is fetched from a container describes files that somebody else's code made. Nothing of it is
ever unpacked under the names that it brings: members are read one by one, regular files alone, and handed on
as streams.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, Self
from unicodedata import category

from orchestrator.domain.errors import EngineError, EngineUnavailable, InvalidInput
from orchestrator.domain.pipeline import Limits
from orchestrator.domain.text import escaped

CHECKOUT_TIME: Final = 946_684_800
"""Modification time (seconds) of a checkout's files: what still has it in a container is as it was put."""

EMPTY_SINCE: Final = datetime(1999, 12, 31, 23, 58, 57, tzinfo=UTC)
"""Modification time of the output folder as it is put: one that still has it holds nothing."""

LONGEST_PATH: Final = 1024
"""Bytes of the longest path that is accepted from a container."""
_LONGEST_NAME = 255
_HEADERS = 1 << 20
"""Bytes that the headers of one member may take; long names and attributes live there."""
_LISTED = 1000
_FOLDERS = 10_000
"""So many folders there may be beyond one for each file: their names are remembered."""
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file. ``path`` is relative with ``/``; ``size`` in bytes; ``mtime`` in seconds.

    ``stream`` must be read before the next member is asked for, and may be left unread.
    """

    path: str
    size: int
    mtime: int
    stream: BinaryIO


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link that stays within the folder. ``target`` is relative to where the link is."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry that was not handed on, or with the path ``""`` several. ``path`` is printable."""

    path: str
    why: str


def read_members(stream: BinaryIO, limits: Limits, root: str) -> Iterator[Member | LeftOut]:
    """Read the archive of a folder or file called ``root``, member by member, never a whole file at once.

    Paths are relative to ``root``, whether the engine puts that name before them or not; a single file keeps
    its name. Folders are passed over. Whatever is no regular file, has a name that could mislead, or exceeds
    a limit comes as LeftOut. Stopping early is fine; closing the stream is the caller's.

    Raises EngineError for what is no plain tar, EngineUnavailable when the stream breaks off.
    """
    for entry in _read(stream, limits, root, links=False):
        if not isinstance(entry, Link):
            yield entry


def read_entries(stream: BinaryIO, limits: Limits, root: str) -> Iterator[Member | Link | LeftOut]:
    """As :func:`read_members`, with the links that stay within the folder. Nothing comes from behind one."""
    return _read(stream, limits, root, links=True)


def _read(stream: BinaryIO, limits: Limits, root: str, *, links: bool) -> Iterator[Member | Link | LeftOut]:
    guarded = _GuardedStream(stream)

    class Header(tarfile.TarInfo):
        """Notices the archive's end mark: the library takes a damaged header for the end as well."""

        end_seen = False

        @classmethod
        def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
            try:
                return super().fromtarfile(archive)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the stubs lack it
                Header.end_seen = True
                raise

    try:
        guarded.allow(_HEADERS)
        archive = tarfile.open(  # noqa: SIM115 - a stream that is only read has nothing to close
            fileobj=guarded, mode="r|", tarinfo=Header, encoding="utf-8", errors="surrogateescape"
        )
        yield from _Reader(archive, guarded, limits, root, links, lambda: Header.end_seen).members()
    except _HeadersTooLarge:
        yield LeftOut("", f"the rest was not read: the headers of an entry exceed {_HEADERS} bytes")
    except tarfile.ReadError as error:
        if guarded.ended:
            raise EngineUnavailable(f"the archive of {root} broke off", "it is fetched again") from error
        raise EngineError(f"the engine sent no plain tar archive of {root}") from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise EngineError(f"the engine sent a damaged archive of {root}") from error


class _HeadersTooLarge(Exception):
    pass


class _GuardedStream(io.RawIOBase):
    """Bounds what the tar reader may take while nobody reads a file: it keeps headers in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._left: int | None = None
        self.ended = False

    def allow(self, count: int | None) -> None:
        """Let that many bytes through, or, with None, all."""
        self._left = count

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.ended = self.ended or not data
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise _HeadersTooLarge
        return data


class _MemberStream(io.RawIOBase):
    """One file's bytes; counts what was read, and goes dry when the next member is asked for."""

    def __init__(self, source: IO[bytes] | None, size: int) -> None:
        super().__init__()
        self._source = source
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._source is None:
            raise ValueError("the archive has moved on to another member")
        try:
            data = self._source.read(min(len(buffer), self.left)) if self.left else b""
        except tarfile.TarError as error:
            raise EngineUnavailable("the engine's archive broke off within a file") from error
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)

    def retire(self) -> None:
        self._source = None


class _Reader:
    def __init__(
        self,
        archive: tarfile.TarFile,
        stream: _GuardedStream,
        limits: Limits,
        root: str,
        links: bool,
        whole: Callable[[], bool],
    ) -> None:
        self._archive = archive
        self._stream = stream
        self._limits = limits
        self._root = root
        self._links = links
        self._prefixed: bool | None = None
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._total = 0
        self._passed = 0
        self._unread = 0
        self._whole = whole

    def members(self) -> Iterator[Member | Link | LeftOut]:
        left_out, last = 0, ""
        for _ in range(self._limits.files * 20 + 100_000):
            self._stream.allow(_HEADERS + self._unread)
            info = self._archive.next()
            vars(self._archive)["members"] = []  # the library would keep each entry in memory
            if info is None:
                if not self._whole():
                    raise tarfile.ReadError("no end mark")
                break
            self._unread = 0 if info.isdir() else max(info.size, 0)
            found = self._judge(info)
            if isinstance(found, LeftOut):
                left_out, last = left_out + 1, found.why
                if left_out <= _LISTED:
                    yield found
                if info.issparse() or not self._may_pass():
                    yield LeftOut("", f"the rest was not read, for it lies behind {found.path}")
                    break
            elif isinstance(found, Link):
                self._files.add(found.path)
                yield found
            elif found is not None:
                yield from self._hand_on(info, found)
        else:
            yield LeftOut("", "the rest was not read: there are too many entries")
        if left_out > _LISTED:
            yield LeftOut("", f"{left_out - _LISTED} more entries were left out, the last one because {last}")

    def _hand_on(self, info: tarfile.TarInfo, path: str) -> Iterator[Member]:
        stream = _MemberStream(self._archive.extractfile(info), info.size)
        self._files.add(path)
        self._folders.update(str(parent) for parent in PurePosixPath(path).parents)
        self._total += info.size
        self._stream.allow(None)
        yield Member(path, info.size, int(info.mtime), io.BufferedReader(stream, 1 << 16))
        stream.retire()
        self._unread = stream.left

    def _may_pass(self) -> bool:
        """Whether the bytes of an entry that nobody wants may still be read over."""
        self._passed += self._unread
        return self._passed <= self._limits.total_size

    def _judge(self, info: tarfile.TarInfo) -> str | Link | LeftOut | None:
        """The path of a file to be handed on, a link, why the entry is left out, or None for a folder."""
        shown = _shown(info.name)
        wrong = _wrong_name(info.name)
        if wrong:
            return LeftOut(shown, wrong)
        path = self._relative([part for part in info.name.split("/") if part not in ("", ".")], info)
        if info.isdir():
            return None
        wrong = _wrong_kind(info)
        if path is None:
            return LeftOut(shown, "it lies outside the folder")
        if self._links and info.issym() and _stays_within(path, info.linkname):
            room = self._within_limits(path, 0)
            return room if isinstance(room, LeftOut) else Link(path, info.linkname)
        return LeftOut(path, wrong) if wrong else self._within_limits(path, info.size)

    def _relative(self, parts: list[str], info: tarfile.TarInfo) -> str | None:
        if self._prefixed is None:
            self._prefixed = bool(parts) and parts[0] == self._root and (info.isdir() or len(parts) > 1)
        if self._prefixed:
            return "/".join(parts[1:]) if parts[:1] == [self._root] and (info.isdir() or parts[1:]) else None
        return "/".join(parts)

    def _within_limits(self, path: str, size: int) -> str | LeftOut:
        limits = self._limits
        if path in self._files:
            return LeftOut(path, "an entry of the same name came before")
        if path in self._folders or any(str(p) in self._files for p in PurePosixPath(path).parents):
            return LeftOut(path, "the name is a folder's and a file's at once")
        if size > limits.file_size:
            most = f"{limits.file_size}, storage.limits.file_size"
            return LeftOut(path, f"its {size} bytes are more than one file may have ({most})")
        if len(self._files) >= limits.files:
            return LeftOut(path, f"there are more than {limits.files} files")
        if len(self._folders) >= limits.files + _FOLDERS:
            return LeftOut(path, f"there are more than {limits.files + _FOLDERS} folders")
        if self._total + size > limits.total_size:
            return LeftOut(
                path, f"its {size} bytes do not fit into what all files may have ({limits.total_size})"
            )
        return path


def _wrong_name(name: str) -> str:
    if name.startswith("/"):
        return "its path is absolute"
    if ".." in name.split("/"):
        return "its path leaves the folder"
    if any(category(c) == "Cs" for c in name):
        return "its name is not UTF-8"
    if any(category(c) in ("Cc", "Zl", "Zp") or c in _BIDI for c in name):
        return "its name has control characters"
    encoded = name.encode()
    if len(encoded) > LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in encoded.split(b"/")):
        return "its name is too long"
    return ""


def _wrong_kind(info: tarfile.TarInfo) -> str:
    if info.issparse():
        return "it is stored as a sparse file"
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return "its size is negative" if info.size < 0 else ""
    kinds = {
        tarfile.SYMTYPE: f"it is a symbolic link to {_shown(info.linkname)}",
        tarfile.LNKTYPE: f"it is a hard link to {_shown(info.linkname)}",
        tarfile.FIFOTYPE: "it is a named pipe",
        tarfile.CHRTYPE: "it is a device",
        tarfile.BLKTYPE: "it is a device",
    }
    return kinds.get(info.type, "it is of an unknown kind")


def _stays_within(path: str, target: str) -> bool:
    """Whether a link leads to something in its folder, by its words alone: none of them may be a link."""
    if not target or target.startswith("/") or _wrong_name(target.replace("../", "")):
        return False
    depth = path.count("/")
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return True


def _shown(text: str) -> str:
    safe = escaped(text[:LONGEST_PATH])
    return safe if len(safe) <= 200 else f"{safe[:197]}..."


def write_tar(folder: Path, out: BinaryIO, uid: int, gid: int, prefix: str) -> None:
    """Write a folder as a plain tar below ``prefix`` (relative, or ``""``); equal content makes equal bytes.

    All entries, those of the prefix's folders included, belong to ``uid`` and ``gid`` and have the time
    CHECKOUT_TIME. Modes are 0755 for folders and executables, else 0644; symbolic links stay links.
    Raises InvalidInput for anything but folders, files and links, OSError when reading or writing fails.
    """
    top = [part for part in prefix.split("/") if part]
    with tarfile.open(
        fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:

        def add(name: str, kind: bytes, mode: int, link: str = "", content: BinaryIO | None = None) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname = kind, mode, link
            info.uid, info.gid, info.mtime = uid, gid, CHECKOUT_TIME
            if content is not None:
                info.size = os.fstat(content.fileno()).st_size
            archive.addfile(info, content)

        def add_folder(path: Path, name: str) -> None:
            for entry in sorted(os.scandir(path), key=lambda e: os.fsencode(e.name)):
                inside = f"{name}/{entry.name}" if name else entry.name
                if entry.is_symlink():
                    add(inside, tarfile.SYMTYPE, 0o777, link=str(Path(entry.path).readlink()))
                elif entry.is_dir(follow_symlinks=False):
                    add(inside, tarfile.DIRTYPE, 0o755)
                    add_folder(Path(entry.path), inside)
                elif entry.is_file(follow_symlinks=False):
                    with os.fdopen(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as content:
                        executable = os.fstat(content.fileno()).st_mode & stat.S_IXUSR
                        add(inside, tarfile.REGTYPE, 0o755 if executable else 0o644, content=content)
                else:
                    raise InvalidInput(f"{_shown(entry.path)} is neither a file nor a folder nor a link")

        for depth in range(len(top)):
            add("/".join(top[: depth + 1]), tarfile.DIRTYPE, 0o755)
        add_folder(folder, "/".join(top))
