"""The wire format of protocol buffers: fields with their numbers, as far as readers need it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_LONGEST_VARINT: Final = 10
_DOUBLE: Final = struct.Struct("<d")


class Field(NamedTuple):
    """One field of a message: its number, its wire type, and from where to where its content reaches.

    Of a varint ``value`` is the number; of anything else it is 0.
    """

    number: int
    wire: int
    start: int
    end: int
    value: int


def fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of the message between two places. ValueError when that is none."""
    while at < end:
        key, at = varint(data, at, end)
        wire, start, value = key & 7, at, 0
        match wire:
            case 0:
                value, at = varint(data, at, end)
            case 1:
                at += 8
            case 2:
                size, start = varint(data, at, end)
                at = start + size
            case 5:
                at += 4
            case _:
                raise ValueError(f"wire type {wire} at byte {start}")
        if at > end:
            raise ValueError(f"field {key >> 3} reaches beyond its message")
        yield Field(key >> 3, wire, start, at, value)


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned number of variable length, and where the next thing begins."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if at >= end:
            raise ValueError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number is too long")


def signed(value: int) -> int:
    """A varint as the 64-bit integer that it stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


def double(data: bytes, at: int) -> float:
    """Eight bytes as a double."""
    return float(_DOUBLE.unpack_from(data, at)[0])
