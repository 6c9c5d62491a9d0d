"""The short forms of checks, margins and selectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.baseline import Selector, SelectorKind, parse_selector
from orchestrator.domain.check import (
    Claim,
    Comparison,
    Margin,
    Operator,
    Threshold,
    parse_check,
    parse_margin,
)
from orchestrator.domain.errors import InvalidCheck, InvalidInput, InvalidSelector

BEST = Selector(SelectorKind.BEST)


@pytest.mark.parametrize(
    ("text", "metric", "operator", "limit"),
    [
        ("accuracy >= 0.90", "accuracy", ">=", 0.9),
        ("accuracy>=.9", "accuracy", ">=", 0.9),
        ("  accuracy  >=  0.9  ", "accuracy", ">=", 0.9),
        ("accuracy > 0", "accuracy", ">", 0.0),
        ("gain >= -0.5", "gain", ">=", -0.5),
        ("gain >= +2.", "gain", ">=", 2.0),
        ("loss < 1e-3", "loss", "<", 0.001),
        ("loss <= 2.5E2", "loss", "<=", 250.0),
        ("accuracy >= 90%", "accuracy", ">=", 0.9),
        ("accuracy >= 90.1%", "accuracy", ">=", 0.901),
        ("val/f1-score@0.5 >= 0.8", "val/f1-score@0.5", ">=", 0.8),
        ("acc,none>=0.5", "acc,none", ">=", 0.5),
        ("précision >= 0.8", "précision", ">=", 0.8),
        ("精度 >= 0.8", "精度", ">=", 0.8),
    ],
)
def test_a_threshold_is_read(text: str, metric: str, operator: str, limit: float) -> None:
    assert parse_check(text) == Threshold(metric, Operator(operator), limit)


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("accuracy not worse than best", Comparison("accuracy", BEST, Claim.NO_REGRESSION)),
        ("accuracy no worse than best", Comparison("accuracy", BEST, Claim.NO_REGRESSION)),
        (
            "accuracy not worse than best by 0.5pp",
            Comparison("accuracy", BEST, Claim.NO_REGRESSION, Margin(0.005, points=True)),
        ),
        (
            "latency_ms not  worse   than branch:main by 5 %",
            Comparison(
                "latency_ms",
                Selector(SelectorKind.BRANCH, "main"),
                Claim.NO_REGRESSION,
                Margin(0.05, relative=True),
            ),
        ),
        (
            "f1 better than run:12 by .01",
            Comparison("f1", Selector(SelectorKind.RUN, "12"), Claim.SUPERIOR, Margin(0.01)),
        ),
        ("f1 better than pinned by 0", Comparison("f1", Selector(SelectorKind.PINNED), Claim.SUPERIOR)),
        (
            "mAP@0.5 better than branch:feature/x-1",
            Comparison("mAP@0.5", Selector(SelectorKind.BRANCH, "feature/x-1"), Claim.SUPERIOR),
        ),
    ],
)
def test_a_comparison_is_read(text: str, check: Comparison) -> None:
    assert parse_check(text) == check


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accuracy",
        "accuracy >=",
        ">= 0.9",
        "accuracy = 0.9",
        "accuracy == 0.9",
        "accuracy => 0.9",
        "accuracy > = 0.9",
        "accuracy >= high",
        "accuracy >= nan",
        "accuracy >= inf",
        "accuracy >= 1e999",
        "accuracy >= 1e99999999999999999999",
        "accuracy >= 0,9",
        "accuracy >= 0.9 >= 0.8",
        "accuracy >= 0.5pp",
        "accuracy >= 0.9 f1 >= 0.8",
        "my accuracy >= 0.9",
        "accuracy worse than best",
        "accuracy not worse best",
        "accuracy not worse than",
        "accuracy not worse than best by",
        "accuracy not worse than best by -1pp",
        "accuracy not worse than best by 1 point",
        "accuracy better than best 0.5pp",
        "accuracy is better than best",
    ],
)
def test_what_is_no_check_is_refused_with_the_text_and_a_remedy(text: str) -> None:
    with pytest.raises(InvalidCheck) as caught:
        parse_check(text)
    assert f"'{text}'" in caught.value.message or text.endswith("-1pp")
    assert "write " in caught.value.remedy


def test_a_comparison_with_an_unknown_baseline_is_refused_for_its_baseline() -> None:
    with pytest.raises(InvalidSelector, match="'main:x' is no baseline; write best, previous"):
        parse_check("accuracy not worse than main:x")


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("0", Margin(0.0)),
        ("0.005", Margin(0.005)),
        ("0.5pp", Margin(0.005, points=True)),
        ("0.7pp", Margin(0.007, points=True)),
        ("5%", Margin(0.05, relative=True)),
        (" 7 % ", Margin(0.07, relative=True)),
        ("0%", Margin(0.0, relative=True)),
        ("1e-3", Margin(0.001)),
    ],
)
def test_a_margin_is_read(text: str, margin: Margin) -> None:
    assert parse_margin(text) == margin


@pytest.mark.parametrize("text", ["", "%", "-1", "-0.5pp", "five", "5 %%", "1e999", "inf", "nan", "5pp%"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(InvalidCheck, match="write a number"):
        parse_margin(text)


def test_a_margin_is_absolute_or_a_share_of_the_baseline() -> None:
    assert Margin(0.5).of(10.0) == 0.5
    assert Margin(0.05, relative=True).of(200.0) == 10.0
    assert Margin(0.05, relative=True).of(-200.0) == 10.0


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("best", BEST),
        (" previous ", Selector(SelectorKind.PREVIOUS)),
        ("last_deployed", Selector(SelectorKind.LAST_DEPLOYED)),
        ("pinned", Selector(SelectorKind.PINNED)),
        ("pinned:paper", Selector(SelectorKind.PINNED, "paper")),
        ("branch:main", Selector(SelectorKind.BRANCH, "main")),
        ("branch:a:b", Selector(SelectorKind.BRANCH, "a:b")),
        ("run:7", Selector(SelectorKind.RUN, "7")),
        ("merge_base", Selector(SelectorKind.MERGE_BASE)),
        ("main", Selector(SelectorKind.NAMED, "main")),
    ],
)
def test_a_selector_is_read(text: str, selector: Selector) -> None:
    assert parse_selector(text) == selector


@pytest.mark.parametrize(
    "text",
    [
        "",
        "best:",
        "best:1",
        "previous:2",
        "branch",
        "branch:",
        "branch: main",
        "run",
        "run:",
        "run:0",
        "run:-1",
        "run:07",
        "run:7a",
        "run:٣",
        "main x",
        "merge_base:x",
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(InvalidSelector, match="is no baseline; write best"):
        parse_selector(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("accuracy>=90.1%", "accuracy >= 0.901"),
        ("loss<=1e-9", "loss <= 1e-9"),
        ("accuracy >= 0.12345678", "accuracy >= 0.12345678"),
        ("rows >= 1000000", "rows >= 1000000"),
        ("a no worse than best by 0.70pp", "a not worse than best by 0.7pp"),
        ("a better than run:3 by 7.0%", "a better than run:3 by 7%"),
        ("a better than best by 0", "a better than best"),
    ],
)
def test_a_check_is_written_in_one_canonical_form(text: str, canonical: str) -> None:
    assert str(parse_check(text)) == canonical


METRICS = st.text(
    st.characters(exclude_characters="<>=", exclude_categories=("Z", "C")), min_size=1, max_size=20
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SELECTORS = st.one_of(
    st.sampled_from(["best", "previous", "last_deployed", "pinned", "pinned:x", "branch:feature/x", "run:12"])
).map(parse_selector)


@given(METRICS, st.sampled_from(Operator), NUMBERS)
def test_reading_a_written_threshold_gives_it_back(metric: str, operator: Operator, limit: float) -> None:
    check = Threshold(metric, operator, limit)
    assert parse_check(str(check)) == check


@given(METRICS, SELECTORS, st.sampled_from(Claim), st.floats(0, 1e6), st.booleans())
def test_reading_a_written_comparison_gives_it_back(
    metric: str, baseline: Selector, claim: Claim, value: float, relative: bool
) -> None:
    check = Comparison(metric, baseline, claim, Margin(value, relative))
    again = parse_check(str(check))
    assert isinstance(again, Comparison)
    assert (again.metric, again.baseline, again.claim) == (metric, baseline, claim)
    assert again.margin == (check.margin if value else Margin())


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_breaks_the_reader(text: str) -> None:
    try:
        check = parse_check(text)
    except InvalidInput:
        return
    assert str(parse_check(str(check))) == str(check)
