"""File patterns: what they fit, and that none takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import globs
from orchestrator.domain.globs import fixed_folder, matcher, matches

TOKENS = st.sampled_from(["*", "**", "**/", "?", "[ab]", "[!a]", "a", "b", "/", ".", "a/"])
PATTERNS = st.lists(TOKENS, min_size=1, max_size=8).map("".join)
PATHS = st.text(alphabet="ab/.", max_size=12)


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("model.*", ["model.onnx", "model."], ["a/model.onnx", "models"]),
        ("**", ["a", "a/b/c"], []),
        ("**/*.py", ["a.py", "a/b.py"], ["a.pyc"]),
        ("src/**", ["src/a", "src/a/b"], ["src", "a/src/b"]),
        ("a/**/b/**/*.c", ["a/b/x.c", "a/1/b/2/3/x.c"], ["a/x.c", "b/x.c"]),
        ("*a*b*c*", ["abc", "1a2b3c4"], ["acb", "a/b/c"]),
        ("[!a]?", ["bc"], ["ac", "b", "b/"]),
    ],
)
def test_patterns_fit_what_they_say(pattern: str, fitting: list[str], others: list[str]) -> None:
    assert [path for path in (*fitting, *others) if matches(path, (pattern,))] == fitting
    assert [path for path in (*fitting, *others) if matcher((pattern,))(path)] == fitting


@given(PATTERNS, PATHS)
def test_both_ways_to_hold_a_pattern_against_a_path_agree(pattern: str, path: str) -> None:
    expected = globs._compiled(pattern).fullmatch(path) is not None
    assert globs._steps(pattern).fit(path) is expected
    assert matches(path, (pattern,)) is expected
    assert matcher((pattern, "never"))(path) is expected


def test_a_pattern_of_many_stars_is_left_to_no_regular_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of six stars took a regular expression 50 s for a name of 120 characters, of all threads."""

    def refused(pattern: str) -> re.Pattern[str]:
        raise AssertionError(f"{pattern} was left to a regular expression")

    monkeypatch.setattr(globs, "_compiled", refused)
    for pattern in ("*a" * 40 + "b", "**/a" * 40 + "b", "*a*/" * 40 + "b"):
        assert not matches("a" * 200, (pattern,))
        assert not matcher((pattern,))("a" * 200)
    assert not matches("a" * 4096, ("*a*b",)), "nor a path that is long"


def test_the_folder_that_holds_all_that_fits_is_found() -> None:
    assert fixed_folder("a/b/*.png") == "a/b"
    assert fixed_folder("*.png") == ""
