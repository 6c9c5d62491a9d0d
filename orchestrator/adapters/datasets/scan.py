"""Listing a folder of data without reading contents."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unicodedata import category

from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.globs import matches
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import escaped
from orchestrator.ports.world import Listing


@dataclass(frozen=True, slots=True)
class Seen:
    """A listed file. ``path`` is relative with ``/``, ``real`` is where its bytes lie, times are in ns."""

    path: str
    real: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def unchanged(self, now: os.stat_result) -> bool:
        """Whether the file is still the one that was listed."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            now.st_size,
            now.st_mtime_ns,
            now.st_ctime_ns,
            now.st_ino,
        )


def scan(dataset: DatasetSpec) -> tuple[Seen, ...]:
    """The files that count, sorted by path.

    A file counts when a pattern of ``include`` matches its path and none of ``exclude`` does (see
    :mod:`orchestrator.domain.globs`). A link to a file is that file, as long as it lies in the same folder.
    Whatever counts and is something else would be missing from the copy that a run gets, so it is an error: a
    link that leaves the folder, is broken or leads to a folder, a device, a name with control characters.

    Raises DatasetUnavailable, which names the path; also when no file counts.
    """
    root = os.path.realpath(dataset.path)
    try:
        found = sorted(_walk(dataset, root, ""), key=lambda seen: seen.path)
    except OSError as error:
        raise unreadable(dataset, error) from error
    if not found:
        raise DatasetUnavailable(
            f"dataset {dataset.name}: no file in {dataset.path} counts",
            f"expected files that match {', '.join(dataset.include)}"
            + (f" and not {', '.join(dataset.exclude)}" if dataset.exclude else ""),
        )
    return tuple(found)


def listing_of(files: Sequence[Seen]) -> Listing:
    """What a look shows of these files. ``newest`` is by change time, which no tool can set to the past."""
    digest = hashlib.sha256()
    for seen in files:
        digest.update(f"{seen.path}\0{seen.size}\0{seen.mtime_ns}\0{seen.ctime_ns}\0{seen.inode}\n".encode())
    newest = max((seen.ctime_ns for seen in files), default=None)
    return Listing(
        signature=digest.hexdigest(),
        files=len(files),
        size=sum(seen.size for seen in files),
        newest=None if newest is None else datetime.fromtimestamp(newest / 1e9, UTC),
    )


def fingerprint_of(entries: Sequence[FileEntry]) -> str:
    """SHA-256 over the lines ``path<TAB>size<TAB>sha256``, sorted by path."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.path):
        digest.update(f"{entry.path}\t{entry.size}\t{entry.sha256}\n".encode())
    return digest.hexdigest()


def unreadable(dataset: DatasetSpec, error: OSError) -> DatasetUnavailable:
    """What the system says of a path, as our error."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else dataset.path
    return DatasetUnavailable(
        f"dataset {dataset.name}: cannot read {escaped(path)}: {error.strerror or error}",
        "check that it exists and that this user may read it",
    )


def _walk(dataset: DatasetSpec, root: str, folder: str) -> Iterator[Seen]:
    with os.scandir(os.path.join(root, folder)) as entries:  # noqa: PTH118 - strings: millions of files
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if not _prunes(dataset.exclude, path):
                    yield from _walk(dataset, root, path)
            elif matches(path, dataset.include) and not matches(path, dataset.exclude):
                yield _seen(dataset, root, path, entry)


def _prunes(exclude: Sequence[str], folder: str) -> bool:
    """Whether a pattern such as ``cache/**`` excludes all that is in the folder, so that nobody need look."""
    return any(pattern.endswith("/**") and matches(f"{folder}/", (pattern,)) for pattern in exclude)


def _seen(dataset: DatasetSpec, root: str, path: str, entry: os.DirEntry[str]) -> Seen:
    if any(category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path):
        raise _refused(dataset, path, "its name has control characters or is not UTF-8", "rename it")
    real, info = entry.path, entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(info.st_mode):
        real = os.path.realpath(entry.path)
        if os.path.commonpath((root, real)) != root:
            raise _refused(
                dataset, path, f"it is a link that leaves the folder, to {escaped(real)}", "copy the file"
            )
        info = Path(real).stat()
    if not stat.S_ISREG(info.st_mode):
        kind = "a link to a folder" if stat.S_ISDIR(info.st_mode) else "no regular file"
        raise _refused(dataset, path, f"it is {kind}", "remove it")
    return Seen(path, real, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


def _refused(dataset: DatasetSpec, path: str, why: str, remedy: str) -> DatasetUnavailable:
    where = escaped(f"{dataset.path}/{path}")
    return DatasetUnavailable(
        f"dataset {dataset.name}: {where} cannot be used: {why}", f"{remedy}, or exclude it"
    )
