"""Backups as files: a tar of the database's copy, logs and artifacts, between what it is and its hashes.

The hashes come last, so that nothing has to be read twice, and a backup that is cut off is known by lacking
them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from orchestrator.adapters.files.state import INSTANCE
from orchestrator.domain.errors import BackupInvalid, DiskFull, InvalidInput, StoreError
from orchestrator.domain.report import format_size
from orchestrator.ports.backup import BackupFacts, Written
from orchestrator.ports.progress import ProgressEvent, ProgressSink

FORMAT: Final = 1
_ABOUT: Final = "about.json"
_DATABASE: Final = "database.sqlite"
_HASHES: Final = "hashes.json"
_LOG: Final = re.compile(r"logs/([1-9][0-9]{0,18})\.log")
_BLOB: Final = re.compile(r"blobs/([0-9a-f]{64})")
_CHUNK: Final = 1 << 20
_ABOUT_SIZE: Final = 64 << 10
_HASHES_SIZE: Final = 1 << 30
_ROOM: Final = 16 << 20
"""Free space that unpacking leaves alone."""
_FOLDERS: Final = ("logs", "blobs")
_WORKPLACE: Final = "backup-"


class FolderBackups:
    """Implements ``ports.backup.BackupFiles`` for a state folder."""

    def __init__(self, state: Path, scratch: Path) -> None:
        self._state = state
        self._scratch = scratch

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        with _storing(self._scratch), _held(self._scratch):
            self._drop_abandoned()
            made = Path(tempfile.mkdtemp(prefix=_WORKPLACE, dir=self._scratch))
            holding = ExitStack()
            holding.enter_context(_held(made))
        with holding:
            try:
                yield made
            finally:
                shutil.rmtree(made, ignore_errors=True)

    def _drop_abandoned(self) -> None:
        """Remove what killed processes left, which may be as large as all that there is."""
        for left in self._scratch.glob(f"{_WORKPLACE}*"):
            with suppress(BlockingIOError), _held(left, at_once=True):
                shutil.rmtree(left, ignore_errors=True)

    def measure(self, attempts: Sequence[int], contents: Sequence[str]) -> Mapping[str, int]:
        sizes: dict[str, int] = {}
        names = (
            *(f"logs/{attempt}.log" for attempt in attempts),
            *(f"blobs/{sha256}" for sha256 in contents),
        )
        with _storing(self._state):
            for name in names:
                with suppress(FileNotFoundError):
                    sizes[name] = _place(self._state, name).stat().st_size
        return sizes

    def write(
        self,
        target: Path,
        facts: BackupFacts,
        database: Path,
        sizes: Mapping[str, int],
        contents: Sequence[str],
        progress: ProgressSink,
    ) -> Written:
        if target.is_dir():
            target /= f"orchestrator-{facts.created_at:%Y%m%d-%H%M%S}.tar"
        if target.exists():
            raise InvalidInput(f"{target} exists already", "name a new file, or a folder")
        if not target.parent.exists():
            raise InvalidInput(f"there is no folder {target.parent}", "make it, or name another place")
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        with _storing(target.parent):
            descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    hashes = self._write(file, facts, database, sizes, progress)
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(target)
                _sync(target.parent)
            finally:
                part.unlink(missing_ok=True)
            size = target.stat().st_size
        absent = tuple(name for name in contents if f"blobs/{name}" not in hashes)
        return Written(target, size, facts, absent if facts.artifacts else (), _damaged(hashes))

    def _write(
        self,
        file: IO[bytes],
        facts: BackupFacts,
        database: Path,
        sizes: Mapping[str, int],
        progress: ProgressSink,
    ) -> dict[str, str]:
        hashes: dict[str, str] = {}
        done = 0
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add_json(tar, _ABOUT, {"format": FORMAT, **asdict(facts)}, facts.created_at)
            for name, size in {_DATABASE: database.stat().st_size, **sizes}.items():
                path = database if name == _DATABASE else _place(self._state, name)
                try:
                    source = path.open("rb")
                except FileNotFoundError:
                    continue
                with source:
                    stream = _Hashing(source, size)
                    tar.addfile(_member(name, size, facts.created_at), stream)
                hashes[name] = stream.digest.hexdigest()
                done += size
                progress(ProgressEvent("writing the backup", done, facts.size, "bytes"))
            _add_json(tar, _HASHES, hashes, facts.created_at)
        return hashes

    def read(self, file: Path) -> BackupFacts:
        with _reading(file) as tar:
            return _about(tar, file)

    def unpack(self, file: Path, into: Path, progress: ProgressSink) -> tuple[Path, frozenset[str]]:
        with _reading(file) as tar:
            facts = _about(tar, file)
            free = shutil.disk_usage(into).free
            if free < facts.size + _ROOM:
                raise DiskFull(
                    f"the backup needs {format_size(facts.size)}, and {format_size(free)} are free "
                    f"in {into.parent}",
                    "free some space, or restore to a larger disk",
                )
            for folder in _FOLDERS:
                (into / folder).mkdir(mode=0o700)
            hashes = _unpacked(tar, file, into, facts, progress)
        if _DATABASE not in hashes:
            raise _damage(file, "it holds no database")
        for name in _damaged(hashes):
            _place(into, f"blobs/{name}").unlink()
        good = {match[1] for name in hashes if (match := _BLOB.fullmatch(name))} - set(_damaged(hashes))
        return into / _DATABASE, frozenset(good)

    def hold_files(self) -> bool:
        def files(folder: str) -> Iterator[Path]:
            root = self._state / folder
            return (path for path in root.rglob("*") if path.is_file()) if root.is_dir() else iter(())

        with _storing(self._state):
            return any(True for folder in _FOLDERS for _ in files(folder))

    def switch(self, unpacked: Path, aside: str) -> Callable[[], None]:
        kept = self._state / aside
        undo: list[tuple[Path, Path]] = []

        def move(source: Path, target: Path) -> None:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            source.rename(target)
            undo.append((target, source))

        def back() -> None:
            for now, before in reversed(undo):
                now.rename(before)

        with _storing(self._state):
            try:
                for folder in _FOLDERS:
                    if (self._state / folder).exists():
                        move(self._state / folder, kept / folder)
                    move(unpacked / folder, self._state / folder)
                # From now on the files are another installation's, perhaps.
                if (self._state / INSTANCE).exists():
                    move(self._state / INSTANCE, kept / INSTANCE)
                _sync(self._state)
            except OSError:
                back()
                raise
        return back


class _Hashing:
    """A stream of exactly so many bytes, which remembers their hash."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source = source
        self._left = size
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on. Raises StoreError when the file became shorter."""
        wanted = min(self._left, size if size >= 0 else self._left)
        chunk = self._source.read(wanted)
        if len(chunk) < wanted:
            raise StoreError("a file became shorter while it was copied", "make the backup again")
        self._left -= len(chunk)
        self.digest.update(chunk)
        return chunk


def _unpacked(
    tar: tarfile.TarFile, file: Path, into: Path, facts: BackupFacts, progress: ProgressSink
) -> dict[str, str]:
    """Unpack all files and compare them with the hashes at the end; the hash of each."""
    hashes: dict[str, str] = {}
    done = 0
    while (member := _next(tar, file)) is not None:
        if member.name == _HASHES:
            stored = _json(tar, member, _HASHES_SIZE, file)
            if stored == hashes:
                return hashes
            raise _damage(file, _differing(stored, hashes))
        known = member.name == _DATABASE or _LOG.fullmatch(member.name) or _BLOB.fullmatch(member.name)
        if not known or not member.isreg() or member.name in hashes:
            raise _damage(file, f"it holds {member.name[:100]!r}")
        done += member.size
        if done > facts.size:
            raise _damage(file, "it is larger than it says")
        place = _place(into, member.name)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        hashes[member.name] = _extract(tar, member, place)
        progress(ProgressEvent("unpacking and verifying", done, facts.size, "bytes"))
    raise _damage(file, "it is cut off")


def _differing(stored: Mapping[str, object], found: Mapping[str, str]) -> str:
    """Which files of a backup are not what its list of hashes says."""
    names = sorted(name for name in {*stored, *found} if stored.get(name) != found.get(name))
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"not what was stored: {names[0][:100]!r}{others}"


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> str:
    source = tar.extractfile(member)
    digest = hashlib.sha256()
    with _storing(place.parent):
        descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        while source is not None and (chunk := source.read(_CHUNK)):
            digest.update(chunk)
            with _storing(place.parent):
                target.write(chunk)
        with _storing(place.parent):
            target.flush()
            os.fsync(target.fileno())
    return digest.hexdigest()


def _next(tar: tarfile.TarFile, file: Path) -> tarfile.TarInfo | None:
    """The next file in a backup; None at its end."""
    try:
        return tar.next()
    except ValueError:
        # So the library says that it cannot make sense of a header that says more than ours do.
        raise _damage(file, "it holds what is none of ours") from None


def _about(tar: tarfile.TarFile, file: Path) -> BackupFacts:
    member = _next(tar, file)
    if member is None or member.name != _ABOUT:
        raise BackupInvalid(f"{file} is no backup of this program", "name a file that `db backup` made")
    told = _json(tar, member, _ABOUT_SIZE, file)
    try:
        if told.pop("format") != FORMAT:
            raise BackupInvalid(
                f"{file} was made by version {told.get('program')}, which writes backups in another way",
                "install the version that made it, or a newer one",
            )
        return BackupFacts(
            **{
                **told,
                "created_at": datetime.fromisoformat(told["created_at"]),
                "files": int(told["files"]),
                "size": int(told["size"]),
            }
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _damage(file, "its beginning cannot be read") from None


def _json(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, file: Path) -> dict[str, Any]:
    source = tar.extractfile(member) if member.isreg() and member.size <= limit else None
    try:
        told = json.loads(source.read()) if source is not None else None
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise _damage(file, f"its {member.name} cannot be read")
    return told


def _add_json(tar: tarfile.TarFile, name: str, content: Mapping[str, object], at: datetime) -> None:
    raw = json.dumps(content, indent=1, default=str).encode()
    tar.addfile(_member(name, len(raw), at), io.BytesIO(raw))


def _member(name: str, size: int, at: datetime) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(at.timestamp())
    return member


def _place(root: Path, name: str) -> Path:
    """Where a file of a backup lies in a state folder."""
    blob = _BLOB.fullmatch(name)
    return root / "blobs" / blob[1][:2] / blob[1] if blob else root / name


def _damaged(hashes: Mapping[str, str]) -> tuple[str, ...]:
    """Artifacts that are not what their names say."""
    return tuple(
        match[1] for name, found in hashes.items() if (match := _BLOB.fullmatch(name)) and match[1] != found
    )


def _damage(file: Path, why: str) -> BackupInvalid:
    return BackupInvalid(f"{file} is damaged: {why}", "use another backup")


@contextmanager
def _reading(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, mode="r|") as tar:
            yield tar
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {file}") from None
    except tarfile.ReadError as error:
        raise BackupInvalid(
            f"{file} is cut off, or no backup of this program: {error}", "use another backup"
        ) from error
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}") from error


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space is left in {folder}", "free some, or name another place") from error
        raise StoreError(
            f"cannot write in {folder}: {error.strerror or error}", "check its owner and its disk"
        ) from error


@contextmanager
def _held(folder: Path, *, at_once: bool = False) -> Iterator[None]:
    """Lock a folder for as long as this process lives, at most; BlockingIOError when it is not free."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if at_once else 0))
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
