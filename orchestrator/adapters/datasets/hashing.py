"""Hashing the files of a folder, in threads and in order."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, Final, Protocol

from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.scan import Block, Seen, unreadable
from orchestrator.domain.pipeline import DatasetSpec

CHUNK: Final = 1 << 20
THREADS: Final = min(4, os.cpu_count() or 1)
_BATCH_FILES: Final = 128
_BATCH_BYTES: Final = 32 << 20
_AHEAD: Final = 4 * THREADS
"""Batches that are under way or done before their turn."""


class Digest(Protocol):
    """What hashes bytes as they come."""

    def update(self, data: memoryview, /) -> object:
        """Take more bytes."""

    def digest(self) -> bytes:
        """The hash, of 32 bytes."""


class Algorithm(StrEnum):
    """How contents are told apart."""

    SHA256 = "sha256"
    BLAKE3 = "blake3"

    def new(self) -> Digest:
        """Begin a hash."""
        if self is Algorithm.SHA256:
            return hashlib.sha256()
        from blake3 import blake3

        return blake3()


@dataclass
class _Turn:
    """A block whose hashes are being found."""

    block: Block
    digests: list[bytes | None]
    batches: list[tuple[list[int], Future[list[bytes]]]] = field(default_factory=list)


Known = Callable[[str, Seen], bytes | None]
"""The hash that a file, by its path, is known to have."""


def hashed(
    dataset: DatasetSpec,
    blocks: Iterator[Block],
    root: str,
    known: Known,
    algorithm: Algorithm,
    told: Callable[[int], None],
) -> Iterator[tuple[Block, list[bytes]]]:
    """Each block with the hashes of its files, those that are not known read. ``told`` hears of bytes done.

    After a failure no further file is begun. Raises DatasetMoved when a file is not what was listed.
    """
    given_up = threading.Event()
    local = threading.local()

    def work(prefix: str, files: Sequence[Seen]) -> list[bytes]:
        buffer = getattr(local, "buffer", None)
        if buffer is None:
            buffer = local.buffer = memoryview(bytearray(CHUNK))
        found: list[bytes] = []
        for seen in files:
            if given_up.is_set():
                break
            found.append(_hash(dataset, root, prefix, seen, algorithm, buffer))
        return found

    turns: deque[_Turn] = deque()
    waiting = 0
    with ThreadPoolExecutor(THREADS, "hash") as pool:
        try:
            for block in blocks:
                turn = _Turn(block, [known(block.prefix + seen.name, seen) for seen in block.files])
                for batch in _batches(turn):
                    files = [block.files[at] for at in batch]
                    turn.batches.append((batch, pool.submit(work, block.prefix, files)))
                    waiting += 1
                turns.append(turn)
                while turns and (waiting > _AHEAD or len(turns) > _AHEAD or not turns[0].batches):
                    waiting -= len(turns[0].batches)
                    yield _finished(turns.popleft(), told)
            while turns:
                yield _finished(turns.popleft(), told)
        finally:
            given_up.set()


def _batches(turn: _Turn) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for at, (seen, digest) in enumerate(zip(turn.block.files, turn.digests, strict=True)):
        if digest is not None:
            continue
        batch.append(at)
        size += seen.size
        if len(batch) == _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _finished(turn: _Turn, told: Callable[[int], None]) -> tuple[Block, list[bytes]]:
    files = turn.block.files
    told(sum(seen.size for seen, digest in zip(files, turn.digests, strict=True) if digest is not None))
    for batch, future in turn.batches:
        for at, digest in zip(batch, future.result(), strict=True):
            turn.digests[at] = digest
        told(sum(files[at].size for at in batch))
    return turn.block, [digest for digest in turn.digests if digest is not None]


def _hash(
    dataset: DatasetSpec, root: str, prefix: str, seen: Seen, algorithm: Algorithm, buffer: memoryview
) -> bytes:
    path = prefix + seen.name
    digest = algorithm.new()
    with opened(dataset, path, seen.real or f"{root}/{path}", buffering=0) as file:
        number = file.fileno()
        done = -1
        if seen.unchanged(os.fstat(number)):
            done = read_into(dataset, file, buffer, seen.size, digest)
        if done != seen.size or not seen.unchanged(os.fstat(number)):
            raise moved(dataset, path, "it changed while it was read")
    return digest.digest()


def read_into(dataset: DatasetSpec, file: BinaryIO, buffer: memoryview, size: int, *digests: Digest) -> int:
    """Hash at most ``size`` bytes of an open file; how many there were."""
    done = 0
    try:
        while done < size and (count := file.readinto(buffer)):  # type: ignore[attr-defined]  # a raw file
            done += count
            for digest in digests:
                digest.update(buffer[:count])
    except OSError as error:
        raise unreadable(dataset, error) from error
    return done


def opened(dataset: DatasetSpec, path: str, real: str, buffering: int = -1) -> BinaryIO:
    """Open a file that was listed; one that is gone, or has become something else, has moved."""
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise moved(dataset, path, "it is gone") from None
    except OSError as error:
        raise unreadable(dataset, error) from error
    return os.fdopen(descriptor, "rb", buffering)
