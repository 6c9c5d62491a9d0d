"""An engine's multiplexed log stream, cut into lines.

Each frame is an 8-byte header (1: stdout, 2: stderr; three zeros; the length) and a timestamp, a space and a
piece of a line. A piece that ends with a newline ends its line; an engine cuts lines of more than 16 KiB into
several pieces, all with the timestamp of the first. Pieces of the two streams may alternate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import LogLine

LONGEST_LINE = 1 << 20
"""Bytes after which a line is cut, so that a program that never ends its line cannot fill our memory."""

LONGEST_FRAME = 4 << 20
"""Bytes that no frame of an honest engine comes near to; a header may say a thousand times as much."""

_HEADER = 8


@dataclass(slots=True)
class _Unfinished:
    timestamp: str
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0


class LineParser:
    """Takes bytes as they arrive and gives whole lines. Holds a line of each stream and a frame at most."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = _HEADER
        """Bytes of the rest without which there is nothing to do."""
        self._unfinished: dict[int, _Unfinished] = {}

    @property
    def pending(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._unfinished)

    def feed(self, data: bytes) -> list[LogLine]:
        """The lines that these bytes complete, in the order in which they ended.

        Raises EngineError for what no engine sends.
        """
        buffer = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            buffer = bytes(self._rest)
        lines: list[LogLine] = []
        position, end = 0, len(buffer)
        unfinished = self._unfinished
        self._wanted = _HEADER
        while end - position >= _HEADER:
            start = position + _HEADER
            stop = start + int.from_bytes(buffer[position + 4 : start], "big")
            if stop > end:
                self._wanted = _bounded(stop - position)
                break
            stream = buffer[position]
            position = stop
            space = buffer.find(b" ", start, stop)
            if space < 0:
                continue
            if buffer[stop - 1] == 10 and stream not in unfinished and stop - space <= LONGEST_LINE:
                # Nearly every frame is a whole line; the rest of this loop is for those that are not.
                text = buffer[space + 1 : stop - 1]
                lines.append(LogLine(buffer[start:space].decode("ascii"), text, stream))
            else:
                self._piece(stream, buffer[start:space].decode("ascii"), buffer[space + 1 : stop], lines)
        self._rest = bytearray(buffer[position:])
        return lines

    def finish(self) -> list[LogLine]:
        """The lines that never ended, once nothing more can come."""
        lines = [
            LogLine(line.timestamp, b"".join(line.pieces), stream)
            for stream, line in self._unfinished.items()
        ]
        self._unfinished.clear()
        return lines

    def _piece(self, stream: int, timestamp: str, piece: bytes, lines: list[LogLine]) -> None:
        ended = piece.endswith(b"\n")
        if ended:
            piece = piece[:-1]
        line = self._unfinished.get(stream)
        if line is None:
            line = self._unfinished[stream] = _Unfinished(timestamp)
        line.pieces.append(piece)
        line.size += len(piece)
        while line.size > LONGEST_LINE:
            whole = b"".join(line.pieces)
            lines.append(LogLine(line.timestamp, whole[:LONGEST_LINE], stream, cut=True))
            line.pieces, line.size = [whole[LONGEST_LINE:]], line.size - LONGEST_LINE
        if ended:
            del self._unfinished[stream]
            lines.append(LogLine(line.timestamp, b"".join(line.pieces), stream))


def contents(data: bytes) -> bytes:
    """What the frames of a whole log without timestamps hold, both streams as they came."""
    pieces: list[bytes] = []
    position = 0
    while len(data) - position >= _HEADER:
        start = position + _HEADER
        position = start + int.from_bytes(data[position + 4 : start], "big")
        pieces.append(data[start:position])
    return b"".join(pieces)


def _bounded(size: int) -> int:
    if size > _HEADER + LONGEST_FRAME:
        raise EngineError(
            f"a piece of a log is said to have {size} bytes, which no engine sends",
            "see what listens at the host's `engine` address",
        )
    return size
