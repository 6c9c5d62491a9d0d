"""The YAML reader: what values mean, where they stand, and what a syntax error says."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import yaml_loader
from orchestrator.config.problems import Position
from orchestrator.config.yaml_loader import Document, Plain, read

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
"""Numbers to YAML 1.2, as we read it; PyYAML writes and reads some of them as text."""


def parsed(text: str) -> Document:
    document, problems = read(text.encode(), "f.yaml")
    assert [str(problem) for problem in problems] == []
    assert document is not None
    return document


def refused(text: str) -> str:
    document, problems = read(text.encode(), "f.yaml")
    assert document is None
    assert len(problems) == 1
    return str(problems[0]).removeprefix("f.yaml:")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("n", "n"),
        ("null", None),
        ("~", None),
        ("", None),
        ("Null", "Null"),
        ("12", 12),
        ("-3", -3),
        ("0123456", "0123456"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("22:22", "22:22"),
        ("12:30:00", "12:30:00"),
        ("2026-01-31", "2026-01-31"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: Plain) -> None:
    assert parsed(f"key: {text}\n").data == {"key": value}


def test_keys_are_text_as_written() -> None:
    assert parsed("on: 1\n22: 2\ntrue: 3\n").data == {"on": 1, "22": 2, "true": 3}


def test_every_key_and_value_keeps_its_place() -> None:
    document = parsed("a: 1\nb:\n  - x\n  - {c: 2}\n")
    assert document.key_position(("b",)) == Position(2, 1)
    assert document.value_position(("b", 0)) == Position(3, 5)
    assert document.key_position(("b", 1, "c")) == Position(4, 6)
    assert document.value_position(("b", 1, "c")) == Position(4, 9)


def test_a_place_that_is_not_there_is_its_nearest_parent() -> None:
    assert parsed("a:\n  b: 1\n").value_position(("a", "nope", 3)) == Position(2, 3)


def test_columns_count_characters_not_bytes() -> None:
    assert parsed('{"Ärger": 1, b: 2}').key_position(("b",)) == Position(1, 14)


def test_anchors_aliases_and_merges_work() -> None:
    text = (
        "base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}\nlist: [*base]\nboth: {<<: [*base, {a: 9, c: 4}]}\n"
    )
    assert parsed(text).data == {
        "base": {"a": 1, "b": 2},
        "use": {"a": 1, "b": 3},
        "list": [{"a": 1, "b": 2}],
        "both": {"a": 1, "b": 2, "c": 4},
    }


def test_every_duplicate_key_is_reported_and_the_rest_is_still_read() -> None:
    document, problems = read(b"a: 1\na: 2\nb: {c: 1, c: 2}\n", "f.yaml")
    assert document is not None
    assert document.data == {"a": 1, "b": {"c": 1}}
    assert [(problem.line, problem.column) for problem in problems] == [(2, 1), (3, 11)]
    assert problems[0].message == 'the key "a" is here a second time; it is on line 1 already'


def test_an_empty_file_holds_nothing() -> None:
    assert read(b"# only a comment\n", "f.yaml") == (None, [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:\n\tb: 1\n", "2:1: a tab is used to indent; expected spaces"),
        ("a:\n  b: 1\n\tc: 2\n", "3:1: a tab is used to indent; expected spaces"),
        ('a: "foo\nb: 1\n', '1:4: the quote " is never closed; expected a closing quote'),
        ("a: 'foo\nb: 1\n", "1:4: the quote ' is never closed; expected a closing quote"),
        ('a: "foo\nb: "bar"\n', "1:4: the quoted text that begins here ends on line 2"),
        (
            "a: [*.png]\n",
            "1:6: text that starts with * is read as an alias; expected quotes around it",
        ),
        ("a: [!docs/**]\n", "1:5: text that starts with ! is read as a YAML tag"),
        ("a: !secret x\n", "1:4: the YAML tag !secret is not supported"),
        ("a: *nope\n", "1:4: *nope is an alias, and no &nope comes before it"),
        ("a: b: c\n", "1:5: a second colon on this line"),
        ("a: b\n  c: d\n", "2:4: no key is possible here"),
        (": x\n", "1:1: there is no key before this colon"),
        ("a: @x\n", "1:4: no text may start with @; expected quotes around it"),
        ("a: `x`\n", "1:4: no text may start with `; expected quotes around it"),
        ("a: {t: ${{ env.X }}}\n", "1:9: ${{ … }} stands bare between brackets"),
        ("a: [1, 2\n", "2:1: the [ of line 1 is not closed here; expected a comma or ]"),
        ('a: "\\d"\n', "1:5: this backslash begins no known escape"),
        ("--- a\n--- b\n", "2:1: a second document starts here"),
        ("? [a]\n: b\n", "1:3: this key is not plain text"),
        ("a: &x [*x]\n", "1:8: *x stands inside the value that it names"),
        ("a: {<<: 3}\n", "1:5: << does not name a mapping"),
    ],
)
def test_a_syntax_error_says_what_to_do(text: str, says: str) -> None:
    assert refused(text).startswith(says)


def test_bytes_that_are_not_utf_8_are_refused_where_they_stand() -> None:
    document, problems = read(b"a: 1\nb: caf\xe9\n", "f.yaml")
    assert document is None
    assert [str(problem) for problem in problems] == [
        "f.yaml:2:7: this is not UTF-8 text; expected a file saved as UTF-8"
    ]


def test_a_control_character_is_refused_where_it_stands() -> None:
    assert refused("a: 1\nb: \x07\n").startswith("2:4: the control character U+0007 is not allowed")


def test_windows_line_ends_and_a_byte_order_mark_are_welcome() -> None:
    document, problems = read("\ufeffa: 1\r\nb: 2\r\n".encode(), "f.yaml")
    assert problems == []
    assert document is not None
    assert document.data == {"a": 1, "b": 2}


def test_the_pure_python_parser_reads_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x [1, on, '2']\nb: *x\nc: {<<: {d: ~}}\n"
    fast = parsed(text)
    monkeypatch.setattr(yaml_loader, "_LOADER", yaml.SafeLoader)
    assert parsed(text) == fast


@given(st.binary(max_size=200))
def test_whatever_the_bytes_there_is_no_exception_and_problems_point_into_the_file(raw: bytes) -> None:
    _, problems = read(raw, "f.yaml")
    for problem in problems:
        assert 1 <= problem.line <= len(raw.splitlines()) + 1
        assert 1 <= problem.column <= len(raw) + 1


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.text(
            st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85"), max_size=20
        ).filter(lambda text: not _EXPONENT.fullmatch(text)),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), inner, max_size=4)
        ),
        max_leaves=15,
    )
)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    text = yaml.safe_dump(
        {"value": value}, allow_unicode=True, default_style='"' if isinstance(value, str) else None
    )
    document, problems = read(text.encode(), "f.yaml")
    assert problems == []
    assert document is not None
    assert document.data == yaml.safe_load(text)
