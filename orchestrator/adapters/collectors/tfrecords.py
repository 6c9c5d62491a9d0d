"""TensorBoard's records: ``{u64 length, u32 masked crc of it, data, u32 masked crc of that}``, little-endian.

A file is read in blocks, and within a block all records of one length come as the rows of one array, so that
what they have in common is looked at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.ports.collecting import LeftFile

Bytes: TypeAlias = NDArray[np.uint8]

_BLOCK: Final = 8 << 20
_LARGEST: Final = 64 << 20
"""Bytes of a record that is looked at; a larger one is passed over."""
_LONGEST_CHECKED: Final = 2048
"""Bytes of a record whose sum is computed: a number takes fewer, and a picture tells by itself."""
_HEADER: Final = 12
_FOOTER: Final = 4
_LENGTH: Final = struct.Struct("<Q")
_MASK: Final = 0xA282EAD8
_CASTAGNOLI: Final = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one length: where each stands in the file's order, and their bytes, a row each."""

    order: NDArray[np.int64]
    rows: Bytes


def batches(file: LeftFile, warn: Callable[[str], None]) -> Iterator[Batch]:
    """All whole records. ``warn`` is told where a file is cut off, broken or passed over, and why."""
    with file.open() as stream:
        count = 0
        at = 0  # of the block's first byte in the file
        rest = b""
        while True:
            block = stream.read(_BLOCK)
            data = rest + block
            starts, end = _starts(data)
            good = _first_broken(data, starts)
            for batch, damaged in _by_length(data, starts[:good], count):
                if damaged:
                    warn(f"{file.path}: {damaged} records near byte {at} are damaged and were passed over")
                yield batch
            count += good
            if good < len(starts):
                warn(
                    f"{file.path}: the record at byte {at + starts[good]} is damaged;"
                    " what follows was not read"
                )
                return
            rest = data[end:]
            at += end
            if not block:
                if rest:
                    warn(f"{file.path}: its last record is cut off: {len(rest)} bytes at byte {at}")
                return
            if len(rest) < _HEADER:
                continue
            size = int(_LENGTH.unpack_from(rest)[0])
            if masked_crc(rest[:8]) != int.from_bytes(rest[8:12], "little"):
                warn(f"{file.path}: the record at byte {at} is damaged; what follows was not read")
                return
            if size > _LARGEST:
                warn(f"{file.path}: the record at byte {at} has {size} bytes and was passed over")
                skip = size + _HEADER + _FOOTER
                at += skip
                if at > file.size:
                    return
                stream.seek(at)
                rest = b""


def _starts(data: bytes) -> tuple[list[int], int]:
    """Where whole records begin, and where the first that is not whole does."""
    starts: list[int] = []
    note, unpack = starts.append, _LENGTH.unpack_from
    at, last = 0, len(data) - _HEADER - _FOOTER
    while at <= last:
        after = at + _HEADER + _FOOTER + unpack(data, at)[0]
        if after > len(data):
            break
        note(at)
        at = after
    return starts, at


def _first_broken(data: bytes, starts: list[int]) -> int:
    """How many records there are before the first whose length is not what was written."""
    if not starts:
        return 0
    heads = _rows(np.frombuffer(data, np.uint8), np.array(starts), _HEADER)
    wrong = np.flatnonzero(_crcs(heads[:, :8]) != _little(heads[:, 8:]))
    return int(wrong[0]) if len(wrong) else len(starts)


def _by_length(data: bytes, starts: list[int], count: int) -> Iterator[tuple[Batch, int]]:
    """Records of each length, and how many of them are not what was written."""
    if not starts:
        return
    places = np.array(starts)
    whole = np.frombuffer(data, np.uint8)
    lengths = _rows(whole, places, 8).copy().view("<u8").ravel().astype(np.int64)
    for length in np.unique(lengths):
        which = np.flatnonzero(lengths == length)
        rows = _rows(whole, places[which] + _HEADER, int(length) + _FOOTER)
        content, crcs = rows[:, :-_FOOTER], rows[:, -_FOOTER:]
        order = which + count
        if length > _LONGEST_CHECKED:
            yield Batch(order, content), 0
            continue
        good = _crcs(content) == _little(crcs)
        damaged = len(good) - int(good.sum())
        yield (Batch(order[good], content[good]) if damaged else Batch(order, content)), damaged


def _rows(data: Bytes, places: NDArray[np.int64], width: int) -> Bytes:
    """``width`` bytes from each place."""
    if width == 0:
        return np.empty((len(places), 0), np.uint8)
    return np.lib.stride_tricks.sliding_window_view(data, width)[places]


def _little(rows: Bytes) -> NDArray[np.uint32]:
    return np.ascontiguousarray(rows).view("<u4").ravel()


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CASTAGNOLI), table >> 1).astype(np.uint32)
    return table


def _crcs(rows: Bytes) -> NDArray[np.uint32]:
    """The masked CRC-32C of each row."""
    table = _table()
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> np.uint32(8))
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK)


def masked_crc(data: bytes) -> int:
    """The masked CRC-32C of a few bytes, as records carry it."""
    return int(_crcs(np.frombuffer(data, np.uint8).reshape(1, -1))[0])
