"""The files of a dataset version, kept small: a million of them fit into some tens of megabytes.

Files lie in parts, each of which is packed by itself, so that whoever goes through them unpacks one part at a
time, and a database keeps parts as they are.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import eq
from typing import Final, overload

from orchestrator.domain.change import FileEntry

PART: Final = 1024
"""Files in a part, at most."""


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """Some files that follow one another. ``content`` is what :func:`packed` makes of them."""

    files: int
    content: bytes


class Manifest(Sequence[FileEntry]):
    """Files in the order of their paths, as :class:`FileEntry`. Immutable; equal to any sequence of the same.

    Going through it is cheap, and so is asking for one file after the other.
    """

    __slots__ = ("_ends", "parts")

    def __init__(self, parts: Iterable[ManifestPart]) -> None:
        self.parts = tuple(parts)
        self._ends = tuple(accumulate(part.files for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[FileEntry]:
        for part in self.parts:
            yield from unpacked(part.content)

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[FileEntry]: ...

    def __getitem__(self, index: int | slice) -> FileEntry | Sequence[FileEntry]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, at)
        first = self._ends[part - 1] if part else 0
        return _recent(self.parts[part].content)[at - first]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list: it is compared by what is in it

    def __repr__(self) -> str:
        return f"Manifest({len(self)} files)"


def packed(entries: Sequence[FileEntry]) -> ManifestPart:
    """A part of these files."""
    rows = [[entry.path, entry.size, entry.sha256, entry.identity] for entry in entries]
    text = json.dumps(rows, separators=(",", ":"))
    return ManifestPart(len(rows), zlib.compress(text.encode(), 1))


def unpacked(content: bytes) -> tuple[FileEntry, ...]:
    """The files of a part. ValueError when it is none."""
    try:
        return tuple(FileEntry(*row) for row in json.loads(zlib.decompress(content)))
    except (zlib.error, TypeError) as error:
        raise ValueError("this is no part of a manifest") from error


@lru_cache(maxsize=2)
def _recent(content: bytes) -> tuple[FileEntry, ...]:
    return unpacked(content)


class ManifestWriter:
    """Makes a manifest of files as they come, which are put in order in the end when they came in none."""

    def __init__(self) -> None:
        self._parts: list[ManifestPart] = []
        self._batch: list[FileEntry] = []
        self._last = ""
        self._ordered = True

    def add(self, entry: FileEntry) -> None:
        """One more file."""
        self._ordered = self._ordered and self._last <= entry.path
        self._last = entry.path
        self._batch.append(entry)
        if len(self._batch) == PART:
            self._parts.append(packed(self._batch))
            self._batch = []

    def manifest(self) -> Manifest:
        """All of them."""
        if self._batch:
            self._parts.append(packed(self._batch))
            self._batch = []
        found = Manifest(self._parts)
        return found if self._ordered else manifest_of(sorted(found, key=lambda entry: entry.path))


def manifest_of(entries: Iterable[FileEntry]) -> Manifest:
    """A manifest of these files, in the order of their paths."""
    if isinstance(entries, Manifest):
        return entries
    writer = ManifestWriter()
    for entry in entries:
        writer.add(entry)
    return writer.manifest()
