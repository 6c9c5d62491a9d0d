"""Text of others never commands a terminal, a page or a mail."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.text import clean, escaped, readable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand more", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\u202eb\u200fc", "abc"),
        ("\udc80", ""),
    ],
)
def test_clean_text_is_one_line_without_hidden_characters(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(st.characters(codec=None)))
def test_nothing_that_steers_survives_cleaning_or_escaping(text: str) -> None:
    assert not {unicodedata.category(c) for c in clean(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert escaped(text).isprintable()


def test_escaped_text_says_what_was_there() -> None:
    assert escaped("a\nb\x1b\u202e") == "a\\nb\\x1b\\u202e"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"10%\r50%\r100%\r", "100%"),
        (b"\x1b[2K\x1b[1;32mdone\x1b[0m", "done"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\r\r", ""),
    ],
)
def test_a_log_line_reads_as_a_terminal_shows_it_in_the_end(line: bytes, shown: str) -> None:
    assert readable(line) == shown
