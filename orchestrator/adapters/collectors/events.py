"""What an event of TensorBoard says: when, at which step, and its values.

Numbers of the messages' fields are those of ``event.proto``, ``summary.proto`` and ``tensor.proto``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Final

from orchestrator.adapters.collectors.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    double,
    fields,
    signed,
    varint,
)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number: which one, and where and how it stands in the event, or ``value`` where that may vary."""

    tag: str
    at: int
    format: str
    value: float = math.nan


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it was encoded."""

    tag: str
    content: bytes


@dataclass(slots=True)
class Event:
    """One record. ``wall_at`` and ``step_at`` are where those stand, -1 where they do not."""

    wall: float = math.nan
    wall_at: int = -1
    step: int = 0
    step_at: int = -1
    step_end: int = -1
    scalars: list[Scalar] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    session: bool = False
    """Whether it marks that a writer began anew."""


_FLOAT: Final = 1
_DOUBLE: Final = 2
_STRING: Final = 7
_FORMATS: Final = {_FLOAT: "<f4", _DOUBLE: "<f8", 3: "<i4", 9: "<i8", 5: "<i2", 4: "u1", 6: "i1", 19: "<f2"}
"""How the bytes of a tensor's content are read, by its type."""
_LARGEST_PICTURE: Final = 4 << 20
_SESSION: Final = "_hparams_/session_start_info"


def parse_event(data: bytes) -> Event:
    """A record's bytes as an event. ValueError when they are none."""
    event = Event()
    for part in fields(data, 0, len(data)):
        match part.number, part.wire:
            case 1, 1:
                event.wall, event.wall_at = double(data, part.start), part.start
            case 2, 0:
                event.step, event.step_at, event.step_end = signed(part.value), part.start, part.end
            case 5, 2:
                for each in fields(data, part.start, part.end):
                    if each.number == 1 and each.wire == BYTES:
                        _value(data, each, event)
            case 7, 2:
                event.session = True
    return event


def _value(data: bytes, at: Field, event: Event) -> None:
    """One value of a summary: its tag stands in it before or after what it says."""
    parts = {(part.number, part.wire): part for part in fields(data, at.start, at.end)}
    name, metadata = parts.get((1, BYTES)), parts.get((9, BYTES))
    simple, image, tensor = parts.get((2, FIXED32)), parts.get((4, BYTES)), parts.get((8, BYTES))
    tag = data[name.start : name.end].decode("utf-8", "replace") if name else ""
    if metadata is not None and tag == _SESSION:
        event.params |= _params(data, metadata)
    elif simple is not None:
        event.scalars.append(Scalar(tag, simple.start, "<f4"))
    elif image is not None:
        for part in fields(data, image.start, image.end):
            if part.number == 4 and part.wire == BYTES:
                _picture(tag, data[part.start : part.end], event)
    elif tensor is not None:
        _tensor(tag, data, tensor, event)


def _picture(tag: str, content: bytes, event: Event) -> None:
    if len(content) <= _LARGEST_PICTURE and picture_type(content):
        event.pictures.append(Picture(tag, content))


def picture_type(content: bytes) -> str:
    """``png``, ``jpg`` or ``gif`` by a file's first bytes; empty for all else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if content.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "gif" if content.startswith((b"GIF87a", b"GIF89a")) else ""


def _tensor(tag: str, data: bytes, at: Field, event: Event) -> None:
    """A tensor of one number, or of one image's texts: its width, its height and itself."""
    kind, elements = 0, 1
    numbers: list[Field] = []
    texts: list[bytes] = []
    for part in fields(data, at.start, at.end):
        match part.number, part.wire:
            case 1, 0:
                kind = part.value
            case 2, 2:
                elements = _elements(data, part)
            case 8, 2:
                texts.append(
                    data[part.start : part.end] if part.end - part.start <= _LARGEST_PICTURE else b""
                )
            case ((4 | 5 | 6 | 7 | 10 | 11), _):
                numbers.append(part)
    if kind == _STRING:
        for text in texts[2:3]:
            _picture(tag, text, event)
    elif elements == 1 and len(numbers) == 1:
        scalar = _scalar(tag, data, kind, numbers[0])
        if scalar is not None:
            event.scalars.append(scalar)


def _elements(data: bytes, at: Field) -> int:
    """How many elements a shape has; none of them says 1."""
    count = 1
    for part in fields(data, at.start, at.end):
        if part.number == 2 and part.wire == BYTES:
            sizes = [each.value for each in fields(data, part.start, part.end) if each.number == 1]
            count *= sizes[0] if sizes else 0
    return count


_PACKED: Final = {5: ("<f4", 4), 6: ("<f8", 8)}


def _scalar(tag: str, data: bytes, kind: int, part: Field) -> Scalar | None:
    size = part.end - part.start
    if part.number == 4 and kind in _FORMATS and size == int(_FORMATS[kind][-1]):
        return Scalar(tag, part.start, _FORMATS[kind])
    if part.number in _PACKED and part.wire in (BYTES, FIXED32, FIXED64) and size == _PACKED[part.number][1]:
        return Scalar(tag, part.start, _PACKED[part.number][0])
    if part.number in (7, 10, 11):
        value = part.value if part.wire == VARINT else varint(data, part.start, part.end)[0]
        truth = part.number == 11
        return Scalar(tag, -1, "", float(bool(value)) if truth else float(signed(value)))
    return None


def scalar_value(data: bytes, scalar: Scalar) -> float:
    """The number itself."""
    if scalar.at < 0:
        return scalar.value
    codes = {
        "<f4": "<f",
        "<f8": "<d",
        "<f2": "<e",
        "<i4": "<i",
        "<i8": "<q",
        "<i2": "<h",
        "u1": "B",
        "i1": "b",
    }
    return float(struct.unpack_from(codes[scalar.format], data, scalar.at)[0])


def _params(data: bytes, metadata: Field) -> dict[str, str]:
    """The hyperparameters in the metadata with which a session of the hparams plugin begins."""
    found: dict[str, str] = {}
    for plugin in _inside(data, metadata, 1):
        for content in _inside(data, plugin, 2):
            for session in _inside(data, content, 3):
                for entry in _inside(data, session, 1):
                    name, text = _entry(data, entry)
                    found[name] = text
    return found


def _inside(data: bytes, at: Field, number: int) -> list[Field]:
    return [each for each in fields(data, at.start, at.end) if each.number == number and each.wire == BYTES]


def _entry(data: bytes, at: Field) -> tuple[str, str]:
    name = text = ""
    for part in fields(data, at.start, at.end):
        if part.number == 1 and part.wire == BYTES:
            name = data[part.start : part.end].decode("utf-8", "replace")
        elif part.number == 2 and part.wire == BYTES:
            for value in fields(data, part.start, part.end):
                match value.number, value.wire:
                    case 2, 1:
                        number = double(data, value.start)
                        text = str(int(number)) if number.is_integer() else repr(number)
                    case 3, 2:
                        text = data[value.start : value.end].decode("utf-8", "replace")
                    case 4, 0:
                        text = "true" if value.value else "false"
    return name, text
