"""Secrets in logs: masked as a stream, wherever it is cut, and across a kill in its middle."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.docker.frames import LONGEST_LINE, LineParser
from orchestrator.adapters.files.logs import FolderLogs
from orchestrator.observe import LogMask, Masker, StreamMask
from orchestrator.ports.engine import LogLine

SECRET = "s3cr+t/v?lue=é & 'more'"
KEY = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA7\nq83h\nJf82kqLwZ0aa\n-----END KEY-----\n"
SHORT_LINES = "one\ntwo\nsix\nten"


def forms(value: str) -> list[bytes]:
    """How a program may well print a value, on one line."""
    raw = value.encode()
    return [
        raw.replace(b"\n", b"\r"),
        base64.b64encode(raw),
        base64.b64encode(b"x" + raw + b"y"),
        base64.b64encode(b"xy" + raw),
        base64.urlsafe_b64encode(raw),
        raw.hex().encode(),
        json.dumps(value).encode(),
        repr(value).encode(),
        repr(raw).encode(),
        urllib.parse.quote(value).encode(),
        urllib.parse.quote_plus(value).encode(),
    ]


def pieces_of(text: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def shown_in_pieces(masker: Masker, pieces: list[bytes]) -> bytes:
    mask = StreamMask(masker)
    shown = [mask.feed(piece, ended=False) for piece in pieces[:-1]]
    return b"".join((*shown, mask.feed(pieces[-1])))


def wrapped(text: str, width: int) -> list[bytes]:
    return [text[start : start + width].encode() for start in range(0, len(text), width)]


def plain(text: bytes) -> bytes:
    return text.replace(b"\r", b"").replace(b"\n", b"")


@given(
    secrets=st.lists(st.text("ab\n", min_size=6, max_size=10), min_size=1, max_size=4),
    text=st.text("ab\r", max_size=80).map(str.encode),
    cuts=st.lists(st.integers(0, 80)),
)
def test_a_line_is_shown_the_same_however_it_arrives(
    secrets: list[str], text: bytes, cuts: list[int]
) -> None:
    masker = Masker(secrets)
    whole = StreamMask(masker).feed(text)
    assert shown_in_pieces(masker, pieces_of(text, cuts)) == whole
    assert not any(form in plain(whole) for form in masker.forms.all)


@given(
    secrets=st.lists(st.text("ab\n", min_size=6, max_size=10), min_size=1, max_size=4),
    lines=st.lists(st.text("ab\r", max_size=12).map(str.encode), max_size=20),
)
def test_what_lines_show_together_holds_no_secret(secrets: list[str], lines: list[bytes]) -> None:
    masker = Masker(secrets)
    mask = StreamMask(masker)
    shown = [mask.feed(line) for line in lines]
    assert not any(form in plain(b"".join(shown)) for form in masker.forms.all)


@pytest.mark.parametrize("cut", range(15))
def test_secrets_that_overlap_become_one_mask_wherever_they_are_cut(cut: int) -> None:
    masker = Masker(["abcdef", "cdefghijkl"])
    text = b"<abcdefghijkl>"
    assert shown_in_pieces(masker, [text[:cut], text[cut:]]) == b"<***>"


@pytest.mark.parametrize("value", [SECRET, KEY, SHORT_LINES])
def test_a_secret_cut_at_any_byte_is_masked_in_every_form(value: str) -> None:
    masker = Masker([value])
    for form in forms(value):
        text = b"before " + form + b" after"
        whole = StreamMask(masker).feed(text)
        assert whole.startswith(b"before ")
        assert b"***" in whole
        for cut in range(len(text) + 1):
            assert shown_in_pieces(masker, [text[:cut], text[cut:]]) == whole
        one_by_one = [text[n : n + 1] for n in range(len(text))]
        assert shown_in_pieces(masker, one_by_one) == whole


@pytest.mark.parametrize("value", [SECRET, KEY, SHORT_LINES])
def test_of_a_secret_broken_by_a_line_end_five_bytes_show_at_most(value: str) -> None:
    masker = Masker([value])
    for form in forms(value):
        for cut in range(1, len(form)):
            mask = StreamMask(masker)
            shown = mask.feed(b"! " + form[:cut]) + mask.feed(form[cut:] + b" after")
            assert shown.endswith(b" after")
            left = plain(shown.replace(b"***", b"").removeprefix(b"! ").removesuffix(b" after"))
            # Around a value inside a longer base64 text stand up to four bytes of it at each end.
            assert len(left) <= 5 + 8, (form, cut, shown)


@pytest.mark.parametrize("width", [10, 33, 60, 76])
@pytest.mark.parametrize("ending", [b"", b"\r"])
def test_a_secret_that_a_tool_wrapped_is_masked(width: int, ending: bytes) -> None:
    for text in (base64.b64encode(KEY.encode()).decode(), SECRET.replace(" ", "_") * 3, KEY):
        mask = StreamMask(Masker([KEY, SECRET.replace(" ", "_")]))
        lines = [line for part in text.splitlines() for line in wrapped(part, width)]
        shown = b"".join(mask.feed(line + ending) for line in lines)
        left = plain(shown.replace(b"***", b""))
        assert len(left) <= 5, left


def test_a_line_that_no_secret_begins_in_is_shown_at_once() -> None:
    mask = StreamMask(Masker([SECRET]))
    assert mask.feed(b"epoch 1", ended=False) == b"epoch 1"
    assert mask.feed(b" loss 0.1, token=s3cr", ended=False) == b" loss 0.1, token="
    assert mask.feed(b"ets are", ended=False) == b"s3crets are"
    assert mask.finish() == b""


def test_what_is_held_back_is_shorter_than_the_longest_form() -> None:
    masker = Masker(["ab" * 15 + "c"])
    mask = StreamMask(masker)
    given = shown = 0
    for _ in range(200):
        given += 8
        shown += len(mask.feed(b"ab" * 4, ended=False))
        assert 0 < given - shown < masker.forms.longest
    assert mask.feed(b"c", ended=True) == b"***"


def test_a_secret_on_the_cut_of_a_line_of_more_than_a_mebibyte_is_masked() -> None:
    text = b"x" * (LONGEST_LINE - 9) + SECRET.encode() + b"y" * 100
    stamped = b"2026-01-01T00:00:00.000000001Z "
    frames = b""
    for start in range(0, len(text), 16384):
        frame = stamped + text[start : start + 16384] + (b"\n" if start + 16384 >= len(text) else b"")
        frames += b"\1\0\0\0" + len(frame).to_bytes(4, "big") + frame
    lines = LineParser().feed(frames)
    mask = LogMask(Masker([SECRET]))
    shown = [mask.line(line.text, line.stream, cut=line.cut) for line in lines]
    assert len(shown) == 2
    assert b"".join(shown) == b"x" * (LONGEST_LINE - 9) + b"***" + b"y" * 100


def test_the_two_outputs_of_a_program_do_not_hide_each_others_secrets() -> None:
    mask = LogMask(Masker(["correct-horse-battery"]))
    shown = [
        mask.line(b"key: correct-h", 1),
        mask.line(b"a warning", 2),
        mask.line(b"orse-battery!", 1),
    ]
    assert shown == [b"key: ***", b"a warning", b"***!"]


def test_a_value_that_the_training_asks_to_mask_is_masked_from_then_on() -> None:
    mask = LogMask(Masker())
    lines = [b"made-by-training", b" ::add-mask::made-by-training\r", b"made-by-training", b"::add-mask::"]
    lines += [b"::add-mask::50%25 of%0Ait", b"50% of", b"it, 50% of"]
    assert [mask.line(line) for line in lines] == [
        b"made-by-training",
        b"::add-mask::***",
        b"***",
        b"::add-mask::***",
        b"::add-mask::***",
        b"***",
        b"***, ***",
    ]


def test_a_training_cannot_ask_for_masks_without_end() -> None:
    mask = LogMask(Masker())
    for number in range(300):
        assert mask.line(b"::add-mask::value-number-%03d" % number) == b"::add-mask::***"
    assert mask.line(b"value-number-099!") == b"***!"
    assert mask.line(b"value-number-299!") == b"value-number-299!"
    assert mask.line(b"::add-mask::" + b"x" * LONGEST_LINE, cut=True) == b"::add-mask::***"
    assert mask.line(b"the end of it") == b""


def stamped(number: int, text: bytes, stream: int = 1) -> LogLine:
    """A line every half a second."""
    return LogLine(f"2026-11-05T10:{number // 120:02d}:{number % 120 / 2:012.9f}Z", text, stream)


def follow(logs: FolderLogs, masker: Masker, lines: list[LogLine], until: int) -> None:
    """What a follower does that is killed after so many lines of the whole log have come."""
    writer = logs.writer(1, LogMask(masker))
    since = writer.last_timestamp or ""
    for line in lines[:until]:
        if line.timestamp >= since:
            writer.write(line)
    writer.close()


WRAPPED = wrapped(base64.b64encode(KEY.encode()).decode(), 20)
LOG = [
    *(b"line %d" % number for number in range(6)),
    b"token: correct-horse-",
    b"battery-staple, and on",
    *WRAPPED,
    b"value-to-mask shows",
    b"::add-mask::value-to-mask",
    b"not any more: value-to-mask",
    *(b"line %d" % number for number in range(10)),
    b"again: value-to-mask",
    b"at the end: correct-horse-battery-staple",
]


@pytest.mark.parametrize("kill", range(1, len(LOG) + 1))
def test_a_log_that_is_taken_over_is_the_same_as_one_in_one_go(tmp_path: Path, kill: int) -> None:
    secrets = ["correct-horse-battery-staple", KEY]
    lines = [stamped(number, text) for number, text in enumerate(LOG)]
    whole, taken_over = FolderLogs(tmp_path / "whole"), FolderLogs(tmp_path / "taken_over")
    follow(whole, Masker(secrets), lines, len(lines))
    for until in (kill, len(lines)):
        follow(taken_over, Masker(secrets), lines, until)
    assert (tmp_path / "taken_over" / "1.log").read_bytes() == (tmp_path / "whole" / "1.log").read_bytes()
    text = (tmp_path / "whole" / "1.log").read_bytes()
    assert b"token: ***\n" in text
    assert b"***, and on\n" in text
    assert text.count(b"value-to-mask") == 1
    assert text.count(b"line 5\n") == 2


def test_whoever_takes_a_log_over_learns_what_the_training_asked_to_mask_long_ago(tmp_path: Path) -> None:
    logs = FolderLogs(tmp_path)
    lines = [stamped(0, b"::add-mask::value-to-mask")]
    lines += [stamped(number, b"x" * 50) for number in range(1, 400)]
    lines += [stamped(400, b"it was value-to-mask"), stamped(401, b"once more value-to-mask")]
    follow(logs, Masker(), lines, len(lines) - 1)
    follow(logs, Masker(), lines, len(lines))
    shown = [line.text for _, line in logs.lines(1)]
    assert len(shown) == len(lines)
    assert shown[-2:] == [b"it was ***", b"once more ***"]
