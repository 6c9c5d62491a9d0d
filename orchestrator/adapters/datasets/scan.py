"""Listing a folder of data without reading contents, in the order of the paths and a block at a time, so that
a million files take little memory.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from unicodedata import category

from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.globs import matcher, matches
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import escaped
from orchestrator.ports.world import Listing

BLOCK: Final = 4096
"""Files in a block, at most."""
SETTLED_NS: Final = 2_000_000_000
"""A file that changed less than this long ago may change again without its times showing it."""
_EVERYTHING: Final = ("**",)
_KIND: Final = 0o170000
_FILE: Final = 0o100000


class Seen(NamedTuple):
    """A listed file by its name in its folder; ``size`` in bytes, times in ns.

    ``real`` is where a link leads; it is empty for a file.
    """

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    real: str = ""

    def unchanged(self, now: os.stat_result) -> bool:
        """Whether the file is still the one that was listed."""
        return self[1:5] == (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)


class Block(NamedTuple):
    """Files of one folder that follow one another. ``prefix`` is before their names: empty, or ``a/b/``."""

    prefix: str
    files: Sequence[Seen]


@dataclass
class Walk:
    """Goes through the files that count, once, in the order of their paths.

    A file counts when a pattern of ``include`` matches its path and none of ``exclude`` does (see
    :mod:`orchestrator.domain.globs`), and it is not the marker. A link to a file is that file, as long as it
    lies in the same folder. Whatever counts and is something else would be missing from the copy that a run
    gets, so it is an error: a link that leaves the folder, is broken or leads to a folder, a device, a name
    with control characters.

    Going through it raises DatasetUnavailable, which names the path; also when no file counts.
    """

    dataset: DatasetSpec
    root: str = field(init=False)
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    _files: int = 0
    _size: int = 0
    _newest: int = 0
    _marker: int | None = None
    _began: int = 0

    def __post_init__(self) -> None:
        self.root = os.path.realpath(self.dataset.path)
        self._began = time.time_ns()

    def __iter__(self) -> Iterator[Block]:
        try:
            for block in self._blocks():
                self._count(block)
                yield block
        except OSError as error:
            raise unreadable(self.dataset, error) from error
        if not self._files:
            raise self._nothing()

    def listing(self) -> Listing:
        """What was seen, once all was gone through.

        ``newest`` is by change time, which no tool can set to the past. The signature of files that changed a
        moment ago is another one than theirs later: they are looked at once more then.
        """
        fresh = "~" if 0 <= self._began - self._newest < SETTLED_NS else ""
        marked = not self.dataset.marker or (self._marker is not None and self._marker >= self._newest)
        return Listing(
            signature=self._digest.hexdigest() + fresh,
            files=self._files,
            size=self._size,
            newest=datetime.fromtimestamp(self._newest / 1e9, UTC) if self._files else None,
            whole=marked,
        )

    def _count(self, block: Block) -> None:
        files = block.files
        lines = [f"{name}\0{size}\0{m}\0{c}\0{inode}\n" for name, size, m, c, inode, _ in files]
        self._digest.update(f"{block.prefix}\0{len(files)}\n{''.join(lines)}".encode())
        self._files += len(files)
        self._size += sum([seen[1] for seen in files])
        self._newest = max(self._newest, max([seen[3] for seen in files]))

    def _blocks(self) -> Iterator[Block]:
        counts = _counter(self.dataset)
        stack = [("", iter(self._names("", counts)))]
        names: list[str] = []
        while stack:
            prefix, left = stack[-1]
            for name in left:
                if name[-1] == "/":
                    if names:
                        yield from self._block(prefix, names)
                        names = []
                    stack.append((prefix + name, iter(self._names(prefix + name, counts))))
                    break
                names.append(name)
                if len(names) == BLOCK:
                    yield from self._block(prefix, names)
                    names = []
            else:
                if names:
                    yield from self._block(prefix, names)
                    names = []
                stack.pop()

    def _names(self, prefix: str, counts: Callable[[str], bool] | None) -> Sequence[str]:
        """What is in a folder and counts, folders with a slash behind, so that sorting sorts whole paths."""
        names: list[str] = []
        exclude = self.dataset.exclude
        try:
            with os.scandir(f"{self.root}/{prefix}") as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if not exclude or not _prunes(exclude, prefix + entry.name):
                            names.append(f"{entry.name}/")
                    elif counts is None or counts(prefix + entry.name):
                        names.append(entry.name)
        except FileNotFoundError:
            if not prefix:
                raise
            # It went while its parent was listed: what is gone does not count.
            return ()
        names.sort()
        return names

    def _block(self, prefix: str, names: Sequence[str]) -> Iterator[Block]:
        """Zero or one block."""
        if not f"{prefix}{''.join(names)}".isprintable():
            self._refuse_odd_names(prefix, names)
        try:
            files = self._seen(prefix, names)
        except FileNotFoundError:
            # The folder went since it was listed: what is gone does not count.
            return
        if files:
            yield Block(prefix, files)

    def _seen(self, prefix: str, names: Sequence[str]) -> list[Seen]:
        """Those of these files of a folder that are there and count."""
        files: list[Seen] = []
        # By a descriptor, and made without a call of Python's: each of a million files pays for it.
        folder = os.open(f"{self.root}/{prefix}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        look, new, marker = os.stat, tuple.__new__, self.dataset.marker
        try:
            for name in names:
                try:
                    info = look(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    error.filename = f"{self.root}/{prefix}{name}"
                    raise
                if info.st_mode & _KIND == _FILE and not (marker and prefix + name == marker):
                    facts = (name, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, "")
                    files.append(new(Seen, facts))
                elif (seen := self._special(prefix, name, info)) is not None:
                    files.append(seen)
        finally:
            os.close(folder)
        return files

    def _special(self, prefix: str, name: str, info: os.stat_result) -> Seen | None:
        path, real = prefix + name, ""
        if path == self.dataset.marker:
            self._marker = info.st_ctime_ns
            return None
        if stat.S_ISLNK(info.st_mode):
            real = os.path.realpath(f"{self.root}/{path}")
            if os.path.commonpath((self.root, real)) != self.root:
                why = f"it is a link that leaves the folder, to {escaped(real)}"
                raise _refused(self.dataset, path, why, "copy the file")
            info = self._followed(real)
        if not stat.S_ISREG(info.st_mode):
            kind = "a link to a folder" if stat.S_ISDIR(info.st_mode) else "no regular file"
            raise _refused(self.dataset, path, f"it is {kind}", "remove it")
        return Seen(name, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, real)

    def _followed(self, real: str) -> os.stat_result:
        try:
            return Path(real).stat()
        except OSError as error:
            raise unreadable(self.dataset, error) from error

    def _refuse_odd_names(self, prefix: str, names: Sequence[str]) -> None:
        for name in names:
            path = prefix + name
            if any(category(c) in ("Cc", "Cs", "Zl", "Zp") for c in path):
                why = "its name has control characters or is not UTF-8"
                raise _refused(self.dataset, path, why, "rename it")

    def _nothing(self) -> DatasetUnavailable:
        but = f" and not {', '.join(self.dataset.exclude)}" if self.dataset.exclude else ""
        return DatasetUnavailable(
            f"dataset {self.dataset.name}: no file in {self.dataset.path} counts",
            f"expected files that match {', '.join(self.dataset.include)}{but}",
        )


def look_at(dataset: DatasetSpec) -> Listing:
    """What a folder looks like now; see :class:`Walk` for what counts and what it raises."""
    walk = Walk(dataset)
    for _ in walk:
        pass
    return walk.listing()


def same_files(one: Listing, other: Listing) -> bool:
    """Whether both are of the same files in the same states, however fresh these were."""
    return one.signature.rstrip("~") == other.signature.rstrip("~")


def unreadable(dataset: DatasetSpec, error: OSError) -> DatasetUnavailable:
    """What the system says of a path, as our error."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else dataset.path
    return DatasetUnavailable(
        f"dataset {dataset.name}: cannot read {escaped(path)}: {error.strerror or error}",
        "check that it exists and that this user may read it",
    )


def _counter(dataset: DatasetSpec) -> Callable[[str], bool] | None:
    """Whether a file counts, by its path; None: all of them do. The marker passes, to be looked at."""
    if dataset.include == _EVERYTHING and not dataset.exclude:
        return None
    included, excluded, marker = matcher(dataset.include), matcher(dataset.exclude), dataset.marker
    return lambda path: (included(path) and not excluded(path)) or path == marker


def _prunes(exclude: Sequence[str], folder: str) -> bool:
    """Whether a pattern such as ``cache/**`` excludes all that is in the folder, so that nobody need look."""
    return any(pattern.endswith("/**") and matches(f"{folder}/", (pattern,)) for pattern in exclude)


def _refused(dataset: DatasetSpec, path: str, why: str, remedy: str) -> DatasetUnavailable:
    where = escaped(f"{dataset.path}/{path}")
    return DatasetUnavailable(
        f"dataset {dataset.name}: {where} cannot be used: {why}", f"{remedy}, or exclude it"
    )
