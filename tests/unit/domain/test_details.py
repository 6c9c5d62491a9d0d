"""The figures behind a check's sentence."""

from orchestrator.domain.gate import CheckResult, Outcome
from orchestrator.domain.gate.details import details_of, noise_of, row_of

TESTED = CheckResult(
    "accuracy not worse than best by 0.5pp",
    "accuracy",
    Outcome.PASS,
    "",
    estimate=0.912,
    baseline=0.915,
    difference=-0.0031,
    test="t with noise ledger",
    candidate_n=3,
    baseline_n=8,
    lower=-0.0061,
    upper=0.0012,
    alpha=0.0125,
    noise_sd=0.0026,
    noise_df=16,
    ledger_sd=0.0033,
    ledger_runs=4,
    correction="Holm over 4",
    baseline_runs=(3, 7),
)


def test_the_line_has_all_that_the_test_went_by() -> None:
    assert details_of(TESTED) == (
        "difference -0.0031 [-0.0061, +0.0012]; t with noise ledger; n 3 and 8; "
        "noise 0.0026 per run (df 16, ledger 0.0033 of 4 runs); alpha 0.0125; Holm over 4; baseline: run 3, 7"
    )


def test_where_plain_values_decided_there_are_no_figures() -> None:
    assert (
        details_of(CheckResult("accuracy >= 0.9", "accuracy", Outcome.PASS, "", 0.95, 0.9, test="point"))
        == ""
    )


def test_a_slice_and_its_rows_are_named() -> None:
    sliced = CheckResult(
        "accuracy not worse than best",
        "accuracy",
        Outcome.PASS,
        "",
        test="paired rows",
        alpha=0.05,
        rows=120,
        slice="country de",
        candidate_n=1,
        baseline_n=1,
    )
    assert row_of(sliced)[0] == "accuracy not worse than best on country de"
    assert noise_of(sliced) == "120 rows"
