"""The gate of a pipeline: checks in their short or long form, and what they mean to the domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from orchestrator.config.models.common import NOT_YET, Items, Model, Verbatim, kind_of, text_of, wrong
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.baseline import parse_selector
from orchestrator.domain.check import Check, Claim, Comparison, Operator, Threshold, parse_check, parse_margin
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Direction

_NO_STATISTICS = "values are compared as plain numbers"


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
        if text.partition(":")[0] in ("merge_base", "main", "deployed"):
            raise wrong(f'"{text}" is no baseline in this version', _expectation(error)) from None
        meant = closest(text, ["best", "previous", "last_deployed", "pinned"])
        raise wrong(error.message, _expectation(error), meant) from None
    return text


ShortForm = Annotated[Verbatim, BeforeValidator(_short_form), WithJsonSchema({"type": "string"})]
MarginText = Annotated[
    Verbatim, BeforeValidator(_margin), WithJsonSchema({"type": ["string", "number"], "x-unit": "margin"})
]
SelectorText = Annotated[Verbatim, BeforeValidator(_selector), WithJsonSchema({"type": "string"})]
MetricName = Annotated[Verbatim, Field(min_length=1, max_length=200)]


class ThresholdCheck(Model):
    """A metric against a fixed number, in the good direction."""

    later: ClassVar[Mapping[str, str]] = {"test": _NO_STATISTICS, "alpha": _NO_STATISTICS}

    metric: MetricName = Field(description="The metric's name.", examples=["accuracy"])
    threshold: Annotated[float, Field(strict=False, allow_inf_nan=False)] = Field(
        description="What it must reach: at least, where higher is better; at most, where lower is.",
        examples=[0.9],
        json_schema_extra={"x-unit": "of the metric"},
    )


class ComparisonCheck(Model):
    """A metric against a baseline."""

    later: ClassVar[Mapping[str, str]] = {"test": _NO_STATISTICS, "alpha": _NO_STATISTICS}

    metric: MetricName = Field(description="The metric's name.", examples=["accuracy"])
    vs: SelectorText = Field(
        description="The baseline: best, previous, last_deployed, pinned, branch:NAME or run:ID.",
        examples=["best"],
    )
    claim: Literal["no_regression", "superior"] = Field(
        default="no_regression",
        description="no_regression: not worse than the baseline by more than the margin; "
        "superior: better by more.",
        examples=["no_regression"],
    )
    margin: MarginText = Field(
        default="0",
        description="The tolerance: a number, or with pp, is absolute (0.5pp is 0.005); with % relative to "
        "the baseline.",
        examples=["0.5pp", "2%", 0.005],
    )


def _check_kind(value: object) -> str:
    if isinstance(value, dict):
        return "<comparison>" if "vs" in value else "<threshold>"
    return "<text>"


def _check(value: Plain) -> Plain:
    if isinstance(value, dict):
        if value.get("claim") == "non_inferior":
            raise wrong(f"claim: non_inferior is {NOT_YET}", "no_regression or superior", key="claim")
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
    """What a run must show to pass. All checks must hold; without checks, every completed run passes."""

    later: ClassVar[Mapping[str, str]] = {
        "alpha": _NO_STATISTICS,
        "correction": _NO_STATISTICS,
        "require": "all checks must hold",
    }

    checks: Items[AnyCheck] = Field(
        default=(),
        description="The checks, as text or as mappings.",
        examples=[["accuracy >= 0.90", "accuracy not worse than best by 0.5pp"]],
    )
    on_inconclusive: Literal["hold", "fail", "pass"] = Field(
        default="hold",
        description="What becomes of a run on which the checks cannot decide; "
        "hold: not passed, not deployed, not red.",
        examples=["hold"],
    )


def domain_check(
    check: str | ThresholdCheck | ComparisonCheck, direction_of: Callable[[str], Direction | None]
) -> Check:
    """The check as the domain judges it. The configuration must be free of problems."""
    if isinstance(check, str):
        return parse_check(check)
    if isinstance(check, ThresholdCheck):
        lower = direction_of(check.metric) is Direction.LOWER
        return Threshold(check.metric, Operator.AT_MOST if lower else Operator.AT_LEAST, check.threshold)
    return Comparison(check.metric, parse_selector(check.vs), Claim(check.claim), parse_margin(check.margin))
