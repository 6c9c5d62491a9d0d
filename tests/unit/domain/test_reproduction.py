"""Whether a run that was done again came to the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from orchestrator.domain.gate import Outcome
from orchestrator.domain.gpu import Gpu
from orchestrator.domain.reproduction import Repeated, circumstances, compare_repeated
from orchestrator.domain.run import Attempt, AttemptState


def side(*replicates: Mapping[str, float], title: str = "wine #1") -> Repeated:
    return Repeated(1, title, dict(enumerate(replicates)))


def test_equal_numbers_are_reproduced_whatever_their_kind() -> None:
    values = {"accuracy": 0.1, "loss": math.nan, "time": math.inf}
    verdict = compare_repeated(side(values, values), side(values, values), ["accuracy", "loss", "time"])
    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence == "wine #1 is reproduced with its 2 seeds: all 3 metrics agree to the last digit"
    assert [c.outcome for c in verdict.checks] == [Outcome.PASS] * 3


def test_the_last_digit_counts_and_is_shown() -> None:
    verdict = compare_repeated(side({"accuracy": 0.3}), side({"accuracy": 0.1 + 0.2}), ["accuracy"])
    assert verdict.outcome is Outcome.FAIL
    assert verdict.sentence == (
        "wine #1 is not reproduced: accuracy is 0.30000000000000004 and was 0.29999999999999999"
    )
    assert verdict.checks[0].difference == pytest.approx(5.6e-17, rel=0.02)


def test_the_replicate_that_differs_is_named() -> None:
    verdict = compare_repeated(side({"f1": 0.5}, {"f1": 0.6}), side({"f1": 0.5}, {"f1": 0.7}), ["f1"])
    assert "f1 is 0.7 and was 0.6 in replicate 1" in verdict.sentence


def test_a_metric_that_is_gone_is_not_the_same() -> None:
    verdict = compare_repeated(side({"f1": 0.5}), side({}), ["f1"])
    assert (verdict.outcome, verdict.checks[0].sentence) == (Outcome.FAIL, "f1 is not there and was 0.5")


def test_durations_that_nobody_judges_are_told_and_do_not_decide() -> None:
    verdict = compare_repeated(
        side({"f1": 0.5, "seconds": 3.0}), side({"f1": 0.5, "seconds": 3.1}), ["f1", "not measured"]
    )
    assert verdict.outcome is Outcome.PASS
    assert verdict.sentence.endswith("f1 agrees to the last digit")
    assert verdict.warnings == ("not judged here, and different: seconds",)


def test_without_judged_metrics_all_must_agree() -> None:
    then, now = side({"a": 1.0, "b": 2.0}), side({"a": 1.5, "b": 2.5})
    verdict = compare_repeated(then, now, [])
    assert verdict.outcome is Outcome.FAIL
    assert verdict.sentence.endswith("2 of 2 metrics differ")


def test_nothing_measured_decides_nothing() -> None:
    assert compare_repeated(side({}), side({}), []).outcome is Outcome.INCONCLUSIVE


def attempt(
    replicate: int = 0, image: str = "sha256:aa", host: str = "lab", gpus: Sequence[Gpu] = ()
) -> Attempt:
    state = AttemptState.SUCCEEDED
    return Attempt(1, 1, replicate, 1, 7, state, host, image_digest=image, gpus=tuple(gpus))


def test_what_else_was_not_the_same_is_told_once() -> None:
    gpu = Gpu("GPU-1", "H100", 80)
    then = [attempt(0), attempt(1)]
    now = [attempt(0, "sha256:bb", "other", [gpu]), attempt(1, "sha256:bb", "other", [gpu])]
    assert circumstances(then, now) == [
        "the image is another one: bb, it was aa",
        "the host is another one: other, it was lab",
        "the GPU is another one: H100, it was none",
    ]
    assert circumstances(then, then) == []
