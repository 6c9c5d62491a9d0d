"""Cutting an engine's multiplexed log stream into lines."""

from __future__ import annotations

import struct

import pytest

from orchestrator.adapters.docker.frames import LONGEST_FRAME, LONGEST_LINE, LineParser, contents
from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import LogLine

STAMP = "2026-01-01T00:00:00.00000000{}Z"


def frame(stream: int, number: int, piece: bytes) -> bytes:
    body = STAMP.format(number).encode() + b" " + piece
    return struct.pack(">BxxxL", stream, len(body)) + body


STREAM = (
    frame(1, 1, b"one\n")
    + frame(1, 2, b"be")
    + frame(2, 3, b"other\n")
    + frame(2, 4, b"err ")
    + frame(1, 2, b"gun\n")
    + frame(1, 5, b"\n")
    + frame(2, 4, b"or")
)
LINES = [
    LogLine(STAMP.format(1), b"one"),
    LogLine(STAMP.format(3), b"other"),
    LogLine(STAMP.format(2), b"begun"),
    LogLine(STAMP.format(5), b""),
]


def test_lines_are_the_same_wherever_the_network_cuts_the_stream() -> None:
    for cut in range(len(STREAM) + 1):
        parser = LineParser()
        assert parser.feed(STREAM[:cut]) + parser.feed(STREAM[cut:]) == LINES
        assert parser.pending
        assert parser.finish() == [LogLine(STAMP.format(4), b"err or")]
        assert not parser.pending


def test_a_stream_that_comes_byte_by_byte_gives_the_same_lines() -> None:
    parser = LineParser()
    assert [line for byte in STREAM for line in parser.feed(bytes([byte]))] == LINES


def test_an_endless_line_is_cut_at_the_limit_with_the_time_of_its_first_part() -> None:
    parser = LineParser()
    piece = b"x" * 16_384
    seen: list[LogLine] = []
    for _ in range(LONGEST_LINE // len(piece) * 2):
        seen += parser.feed(frame(1, 1, piece))
    seen += parser.feed(frame(1, 1, b"end\n"))
    assert [len(line.text) for line in seen] == [LONGEST_LINE, LONGEST_LINE, 3]
    assert {line.timestamp for line in seen} == {STAMP.format(1)}


def test_a_frame_that_no_engine_sends_is_refused_by_its_header() -> None:
    parser = LineParser()
    assert parser.feed(struct.pack(">BxxxL", 1, LONGEST_FRAME)) == []
    with pytest.raises(EngineError, match=f"said to have {LONGEST_FRAME + 1 + 8} bytes"):
        LineParser().feed(frame(1, 1, b"one\n") + struct.pack(">BxxxL", 1, LONGEST_FRAME + 1))


def test_what_a_log_without_timestamps_holds_is_told_also_where_it_breaks_off() -> None:
    log = struct.pack(">BxxxL", 1, 4) + b"one\n" + struct.pack(">BxxxL", 2, 4) + b"two\n"
    assert contents(log) == b"one\ntwo\n"
    assert contents(log + struct.pack(">BxxxL", 1, 1 << 31) + b"th") == b"one\ntwo\nth"
    assert contents(log[:5]) == b""
