"""The gate of a pipeline: checks in their short or long form, and what they mean to the domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from orchestrator.config.models.common import Items, Model, Name, Verbatim, kind_of, text_of, wrong
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.baseline import SELECTORS, parse_selector
from orchestrator.domain.check import (
    Check,
    Claim,
    Comparison,
    Operator,
    Test,
    Threshold,
    parse_check,
    parse_margin,
)
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.gate import Drift, Gate, Holdout, HoldoutMode, OnInconclusive, Require
from orchestrator.domain.metrics import Direction
from orchestrator.domain.statistics.drift import LEAST_PVALUE
from orchestrator.domain.statistics.holdout import MAX_FULL_USES

_OWN_ALPHA = "The check's own error rate in place of the gate's."


def _short_form(value: Plain) -> str:
    text = text_of(value)
    try:
        parse_check(text)
    except InvalidInput as error:
        raise wrong(error.message, _expectation(error)) from None
    return text


def _expectation(error: InvalidInput) -> str:
    return error.remedy.removeprefix("write ")


def _margin(value: Plain) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    try:
        parse_margin(text := text_of(value))
    except InvalidInput as error:
        raise wrong(error.message, _expectation(error)) from None
    return text


def _selector(value: Plain) -> str:
    text = text_of(value)
    try:
        parse_selector(text)
    except InvalidInput as error:
        raise wrong(error.message, _expectation(error), closest(text, SELECTORS)) from None
    return text


ShortForm = Annotated[Verbatim, BeforeValidator(_short_form), WithJsonSchema({"type": "string"})]
MarginText = Annotated[
    Verbatim, BeforeValidator(_margin), WithJsonSchema({"type": ["string", "number"], "x-unit": "margin"})
]
SelectorText = Annotated[Verbatim, BeforeValidator(_selector), WithJsonSchema({"type": "string"})]
MetricName = Annotated[Verbatim, Field(min_length=1, max_length=200)]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]


class ThresholdCheck(Model):
    """A metric against a fixed number, in the good direction."""

    metric: MetricName = Field(description="The metric's name.", examples=["accuracy"])
    threshold: Annotated[float, Field(strict=False, allow_inf_nan=False)] = Field(
        description="What it must reach: at least, where higher is better; at most, where lower is.",
        examples=[0.9],
        json_schema_extra={"x-unit": "of the metric"},
    )
    test: Literal["point", "replicates"] = Field(
        default="point",
        description="point: the mean decides as it is; replicates: that it is beyond the threshold is to be "
        "shown against the noise.",
        examples=["replicates"],
    )
    alpha: Alpha | None = Field(default=None, description=_OWN_ALPHA, examples=[0.01])


class ComparisonCheck(Model):
    """A metric against a baseline."""

    metric: MetricName = Field(description="The metric's name.", examples=["accuracy"])
    vs: SelectorText = Field(
        description="The baseline: the name of one under `baselines`, or best, previous, last_deployed, "
        "merge_base, pinned, pinned:NAME, branch:NAME or run:ID.",
        examples=["best"],
    )
    claim: Literal["no_regression", "non_inferior", "superior"] = Field(
        default="no_regression",
        description="no_regression: a guard, which fails only where a loss beyond the margin is shown; "
        "non_inferior: that there is no such loss is to be shown; superior: a gain beyond the margin is to "
        "be shown.",
        examples=["no_regression"],
    )
    margin: MarginText = Field(
        default="0",
        description="The tolerance: a number, or with pp, is absolute (0.5pp is 0.005); with % relative to "
        "the baseline.",
        examples=["0.5pp", "2%", 0.005],
    )
    min_gain: MarginText | None = Field(
        default=None, description="Of `superior`, another word for its margin.", examples=["0.5pp"]
    )
    test: Literal["replicates", "point", "paired_rows"] = Field(
        default="replicates",
        description="replicates: by the noise between runs, as far as it is known; point: plain values, "
        "whatever their noise; paired_rows: by the predictions for each row, which the metric declares.",
        examples=["paired_rows"],
    )
    slices: MetricName | None = Field(
        default=None,
        description="A column of the predictions: the claim is made of each of its values apart.",
        examples=["country"],
    )
    alpha: Alpha | None = Field(default=None, description=_OWN_ALPHA, examples=[0.01])

    @model_validator(mode="after")
    def _fits_together(self) -> ComparisonCheck:
        if self.min_gain is not None and self.claim != "superior":
            raise wrong(f"{self.claim} asks for no gain", "margin:, or claim: superior", key="min_gain")
        if self.min_gain is not None and self.margin != "0":
            raise wrong("both margin and min_gain are given", "one of them", key="min_gain")
        if self.slices is not None and self.test != "paired_rows":
            raise wrong("slices are of rows", "test: paired_rows beside it", key="slices")
        return self


def _check_kind(value: object) -> str:
    if isinstance(value, dict):
        return "<comparison>" if "vs" in value else "<threshold>"
    return "<text>"


def _check(value: Plain) -> Plain:
    if isinstance(value, dict):
        if {"vs", "threshold"} <= set(value):
            raise wrong("a check has either threshold or vs", "two checks", key="threshold")
        if not {"vs", "threshold"} & set(value):
            odd = next((key for key in value if closest(key, ["threshold", "vs"])), "")
            raise wrong(
                "the check compares with nothing",
                "{metric, threshold} or {metric, vs, claim, margin}",
                closest(odd, ["threshold", "vs"]) if odd else "",
                key=odd,
            )
    elif not isinstance(value, str):
        raise wrong(
            f"this is no check, found {kind_of(value)}", "text such as `accuracy >= 0.9`, or a mapping"
        )
    return value


AnyCheck: TypeAlias = Annotated[
    Annotated[ShortForm, Tag("<text>")]
    | Annotated[ThresholdCheck, Tag("<threshold>")]
    | Annotated[ComparisonCheck, Tag("<comparison>")],
    Discriminator(_check_kind),
    BeforeValidator(_check),
]


class GateRules(Model):
    """What a run must show to pass; without checks, every completed run passes."""

    checks: Items[AnyCheck] = Field(
        default=(),
        description="The checks, as text or as mappings.",
        examples=[["accuracy >= 0.90", "accuracy not worse than best by 0.5pp"]],
    )
    alpha: Alpha = Field(
        default=0.05,
        description="How often a claim may be shown by mistake where it is just not true.",
        examples=[0.01],
    )
    correction: Literal["holm", "none"] = Field(
        default="holm",
        description="Whether guards, and claims of which any is enough, are held to `alpha` together. Claims "
        "that must all be shown need no correction.",
        examples=["none"],
    )
    require: Literal["all", "any"] = Field(
        default="all",
        description="all: every check must hold; any: no guard fails, and one of the other checks holds.",
        examples=["any"],
    )
    on_inconclusive: Literal["hold", "fail", "pass", "manual"] = Field(
        default="hold",
        description="What becomes of a run on which the checks cannot decide, after the last look; "
        "hold: not passed, not deployed, not red; manual: as hold, until a person decides with "
        "`runs decide`.",
        examples=["manual"],
    )

    @model_validator(mode="after")
    def _any_needs_a_claim(self) -> GateRules:
        if self.require == "any" and self.checks and all(map(_is_guard, self.checks)):
            expected = "a check that is to be shown, such as `accuracy better than best`, or require: all"
            raise wrong("guards alone show nothing of which any could be enough", expected, key="require")
        return self


class HoldoutRules(Model):
    """The budget of a sealed test set: each verdict that people act upon wears it out."""

    dataset: Name = Field(
        description="The dataset, with `role: evaluation`, on which runs are judged.", examples=["test-v3"]
    )
    mode: Literal["off", "none", "first_change", "full"] = Field(
        default="off",
        description="How far people act upon verdicts. off: uses are counted and shown; none: not until the "
        "set is replaced; first_change: until the first that does not pass, which uses it up; full: as they "
        "like, with at most 10 uses.",
        examples=["none"],
    )
    max_uses: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=100,
        description="How many verdicts it is to bear.",
        examples=[100],
        json_schema_extra={"x-unit": "verdicts"},
    )
    delta: Alpha = Field(
        default=0.05, description="How probably any of all these verdicts may be wrong.", examples=[0.05]
    )
    on_exhausted: Literal["inconclusive", "fail"] = Field(
        default="inconclusive", description="What runs become once it is used up.", examples=["fail"]
    )

    @model_validator(mode="after")
    def _full_is_dear(self) -> HoldoutRules:
        if self.mode == "full" and self.max_uses > MAX_FULL_USES:
            message = f"mode: full bears at most {MAX_FULL_USES} uses"
            raise wrong(message, f"max_uses: {MAX_FULL_USES}, or mode: none or first_change", key="max_uses")
        return self


class DriftRules(Model):
    """A warning when the level of a metric has changed over the last commits. It judges no run."""

    metrics: Annotated[Items[MetricName], Field(min_length=1)] = Field(
        description="The metrics whose history is looked at.", examples=[["accuracy"]]
    )
    max_pvalue: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.001,
        description=f"How rarely chance alone may look like that; more than {LEAST_PVALUE:g}.",
        examples=[0.001],
    )
    min_magnitude: MarginText = Field(
        default="0", description="The smallest change that is told, as a margin.", examples=["0.5%"]
    )
    action: Literal["warn"] = Field(default="warn", description="What happens.", examples=["warn"])

    @model_validator(mode="after")
    def _can_be_met(self) -> DriftRules:
        if self.max_pvalue <= LEAST_PVALUE:
            message = (
                f"no change can ever show a p-value below {self.max_pvalue:g}: {LEAST_PVALUE:g} is the least"
            )
            raise wrong(message, f"more than {LEAST_PVALUE:g}, such as 0.001", key="max_pvalue")
        return self


def _is_guard(check: str | ThresholdCheck | ComparisonCheck) -> bool:
    known = parse_check(check) if isinstance(check, str) else check
    if isinstance(known, Comparison | ComparisonCheck):
        return known.claim == Claim.NO_REGRESSION.value
    return False


def domain_gate(
    rules: GateRules,
    checks: tuple[Check, ...],
    holdout: HoldoutRules | None,
    drift: DriftRules | None,
) -> Gate:
    """The gate as the domain judges it. The configuration must be free of problems."""
    return Gate(
        checks,
        OnInconclusive(rules.on_inconclusive),
        rules.alpha,
        rules.correction == "holm",
        Require(rules.require),
        None
        if holdout is None
        else Holdout(
            holdout.dataset,
            HoldoutMode(holdout.mode),
            holdout.max_uses,
            holdout.delta,
            OnInconclusive.FAIL if holdout.on_exhausted == "fail" else OnInconclusive.HOLD,
        ),
        None
        if drift is None
        else Drift(tuple(drift.metrics), drift.max_pvalue, parse_margin(drift.min_magnitude)),
    )


def domain_check(
    check: str | ThresholdCheck | ComparisonCheck, direction_of: Callable[[str], Direction | None]
) -> Check:
    """The check as the domain judges it. The configuration must be free of problems."""
    if isinstance(check, str):
        return parse_check(check)
    if isinstance(check, ThresholdCheck):
        lower = direction_of(check.metric) is Direction.LOWER
        operator = Operator.AT_MOST if lower else Operator.AT_LEAST
        return Threshold(check.metric, operator, check.threshold, test=Test(check.test), alpha=check.alpha)
    return Comparison(
        check.metric,
        parse_selector(check.vs),
        Claim(check.claim),
        parse_margin(check.margin if check.min_gain is None else check.min_gain),
        test=Test(check.test),
        alpha=check.alpha,
        slices=check.slices or "",
    )
