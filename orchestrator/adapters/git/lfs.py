"""Git LFS: large files, of which a commit holds pointers alone.

The repository's own ``.lfsconfig`` is not followed: it could send us anywhere. The files are asked of the
server that has the repository, kept beside its mirror, and compared with their hash whenever they are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.adapters.git.location import REMOTE, Location
from orchestrator.adapters.git.mirror import LARGEST_PROPOSAL
from orchestrator.adapters.git.process import GitFailed, run_git
from orchestrator.domain.errors import DiskFull, RevisionTooLarge, SourceRefused, SourceUnavailable
from orchestrator.domain.report import format_size
from orchestrator.domain.space import NO_ROOM

_PROGRAM: Final = "git-lfs"
_LONGEST_POINTER: Final = 1024
_POINTER: Final = re.compile(
    rb"version https?://[a-z.-]+/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n"
)
_PLAIN_FILES: Final = ("100644", "100755")
_BLOCK: Final = 1 << 20
_KEPT: Final = 14 * 24 * 3600.0
"""Seconds for which a large file is kept that no commit was checked out with."""


@dataclass(frozen=True, slots=True)
class _Pointer:
    path: str
    oid: str
    size: int

    def place(self, storage: Path) -> Path:
        return storage / "objects" / self.oid[:2] / self.oid[2:4] / self.oid


def require() -> None:
    """SourceRefused when git-lfs is not installed."""
    if shutil.which(_PROGRAM) is None:
        raise SourceRefused(
            "the source asks for Git LFS (lfs: true), and git-lfs is not installed here",
            "apt-get install git-lfs",
        )


def fill(location: Location, into: Path, storage: Path, timeout: float) -> None:
    """Put the large files of a checked-out commit in the place of their pointers; got once, in ``storage``.

    Raises GitFailed, GitTimeout, DiskFull, and SourceUnavailable when a file is not to be had.
    """
    pointers = _pointers(into, timeout)
    missing = [pointer for pointer in pointers if not _whole(pointer, storage)]
    if missing:
        size = sum(pointer.size for pointer in missing)
        if location.bounded and size > LARGEST_PROPOSAL:
            raise RevisionTooLarge(
                f"the large files of the submodule {location.shown} are {format_size(size)}",
                f"at most {format_size(LARGEST_PROPOSAL)} where a stranger names a submodule",
            )
        _bring(location, into, storage, timeout)
        _forget(storage, time.time() - _KEPT)
    for pointer in pointers:
        _replace(pointer, into, storage, location)


def _pointers(into: Path, timeout: float) -> list[_Pointer]:
    """The pointers in a working tree that its attributes give to Git LFS."""
    listed = run_git(
        ["-C", str(into), "ls-tree", "-r", "-z", "--long", "--full-tree", "HEAD"],
        timeout=timeout,
        errors="surrogateescape",
    )
    found: dict[str, _Pointer] = {}
    for line in listed.split("\0")[:-1]:
        about, _, path = line.partition("\t")
        mode, _, _, size = about.split()
        if mode in _PLAIN_FILES and int(size) <= _LONGEST_POINTER:
            match = _POINTER.fullmatch((into / path).read_bytes())
            if match:
                found[path] = _Pointer(path, match[1].decode(), int(match[2]))
    if not found:
        return []
    told = run_git(
        ["-C", str(into), "check-attr", "-z", "--stdin", "filter"],
        timeout=timeout,
        told="".join(f"{path}\0" for path in found).encode("utf-8", "surrogateescape"),
        errors="surrogateescape",
    ).split("\0")
    return [found[path] for path, value in zip(told[0:-1:3], told[2::3], strict=True) if value == "lfs"]


def _bring(location: Location, into: Path, storage: Path, timeout: float) -> None:
    storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not as an option: one on this machine, which lends its own files, would look there for them.
    run_git(["-C", str(into), "config", "lfs.storage", str(storage)], timeout=timeout)
    options = {
        # All that a repository could say of where to go and what to leave out.
        "lfs.url": _service(location),
        f"remote.{REMOTE}.lfsurl": _service(location),
        "lfs.fetchinclude": "",
        "lfs.fetchexclude": "",
        "lfs.skipdownloaderrors": "false",
    }
    words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    try:
        run_git(
            ["-C", str(into), *words, "lfs", "fetch", REMOTE, "HEAD"],
            timeout=timeout,
            location=location,
            largest=LARGEST_PROPOSAL if location.bounded else None,
        )
    except GitFailed as error:
        if error.trouble is not None:
            raise
        raise SourceUnavailable(
            f"cannot get the large files (Git LFS) of {location.shown}: {error.said}",
            "see that the server has them, and that the login may read them",
        ) from None


def _service(location: Location) -> str:
    """Where the large files of a repository are asked for, as git-lfs has it when nobody says otherwise."""
    if location.scheme in ("http", "https"):
        url = location.url.rstrip("/")
        return f"{url if url.endswith('.git') else f'{url}.git'}/info/lfs"
    return f"file://{location.url}" if location.url.startswith("/") else location.url


def _whole(pointer: _Pointer, storage: Path) -> bool:
    """Whether a file is there; it counts as used now."""
    try:
        os.utime(pointer.place(storage))
        return pointer.place(storage).stat().st_size == pointer.size
    except OSError:
        return False


def _forget(storage: Path, moment: float) -> None:
    """Remove what nobody has used since then: who needs it fetches it again."""
    for kept in (storage / "objects").glob("??/??/*"):
        with contextlib.suppress(OSError):
            if kept.stat().st_mtime < moment:
                kept.unlink()


def _replace(pointer: _Pointer, into: Path, storage: Path, location: Location) -> None:
    target = into / pointer.path
    mode = stat.S_IMODE(target.lstat().st_mode)
    digest = hashlib.sha256()
    try:
        with (
            pointer.place(storage).open("rb") as source,
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=".lfs-", delete=False) as copy,
        ):
            while block := source.read(_BLOCK):
                digest.update(block)
                copy.write(block)
    except FileNotFoundError:
        raise SourceUnavailable(
            f"the server of {location.shown} does not have the large file {pointer.path!r} (Git LFS)",
            "push it: git lfs push --all origin",
        ) from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(
                f"cannot store large files of {location.shown}: {error.strerror}",
                "free space on the disk of storage.path in orchestrator.yaml",
            ) from None
        raise
    made = Path(copy.name)
    if digest.hexdigest() != pointer.oid:
        made.unlink()
        pointer.place(storage).unlink(missing_ok=True)
        raise SourceUnavailable(
            f"the large file {pointer.path!r} of {location.shown} is not what the commit says",
            "it is fetched again",
        )
    made.chmod(mode)
    made.replace(target)
