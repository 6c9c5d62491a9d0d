"""Domain values survive being stored as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain import (
    action,
    action_spec,
    baseline,
    change,
    check,
    deployment,
    metrics,
    pipeline,
    report,
    run,
)
from orchestrator.domain.codec import from_plain, to_plain
from orchestrator.domain.gate import model as gate
from tests.unit.domain.examples import NOON, attempt, measured
from tests.unit.domain.examples import pipeline as example_pipeline
from tests.unit.domain.examples import run as example_run

MODULES: tuple[ModuleType, ...] = (
    action,
    action_spec,
    baseline,
    change,
    check,
    deployment,
    gate,
    metrics,
    pipeline,
    report,
    run,
)
# All but what run.progress answers, which is acted on at once and never stored.
TYPES = sorted(
    (
        cls
        for module in MODULES
        for cls in vars(module).values()
        if dataclasses.is_dataclass(cls) and isinstance(cls, type) and cls.__module__ == module.__name__
        if cls not in (run.Progress, run.NewTry)
    ),
    key=lambda cls: cls.__name__,
)

st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)))
st.register_type_strategy(float, st.floats(allow_nan=False))


def values_of(cls: type) -> st.SearchStrategy[object]:
    """Any value of a domain type; ``kind``, which tells the types of a union apart, keeps its default."""
    tags = [f for f in dataclasses.fields(cls) if f.name == "kind" and isinstance(f.default, str)]
    return st.builds(cls, **{tag.name: st.just(tag.default) for tag in tags})


for domain_type in TYPES:
    st.register_type_strategy(domain_type, values_of)


def stored(value: object) -> Any:  # noqa: ANN401 - JSON
    """What comes back from a JSON column that accepts strict JSON only."""
    return json.loads(json.dumps(to_plain(value), allow_nan=False))


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: cls.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_every_domain_value_comes_back_as_it_was(cls: type, data: st.DataObject) -> None:
    value = data.draw(values_of(cls))
    assert from_plain(cls, stored(value)) == value


def test_the_types_that_are_tested_are_all_there_are() -> None:
    assert len(TYPES) > 35
    assert {run.Run, gate.Verdict, pipeline.Pipeline, report.Report} <= set(TYPES)


def test_nan_and_infinities_survive_strict_json() -> None:
    values = {"a": (math.nan, math.inf, -math.inf, 0.1)}
    again = from_plain(baseline.Measured, stored(measured(values))).values["a"]
    assert math.isnan(again[0])
    assert again[1:] == (math.inf, -math.inf, 0.1)


def test_times_are_stored_in_utc() -> None:
    there = datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert to_plain(there) == "2026-03-01T12:00:00+00:00"
    assert from_plain(run.Exit, stored(run.Exit(0, started_at=there))).started_at == NOON


def test_fields_that_an_old_row_lacks_take_their_default() -> None:
    plain = stored(attempt(run.AttemptState.QUEUED))
    old = {name: plain[name] for name in ("id", "run_id", "replicate", "number", "seed", "state")}
    assert from_plain(run.Attempt, old) == attempt(run.AttemptState.QUEUED)


def test_fields_that_a_newer_version_wrote_are_ignored() -> None:
    plain = {**stored(example_run()), "mood": "good"}
    plain["change"]["revision"]["signed"] = True
    assert from_plain(run.Run, plain) == example_run()


def test_a_union_is_told_apart_by_its_kind() -> None:
    checks = (check.parse_check("a >= 1"), check.parse_check("a better than best"))
    assert from_plain(gate.Gate, stored(gate.Gate(checks))).checks == checks
    owed = dataclasses.replace(
        example_pipeline(),
        actions=(
            (action.Trigger.PASS, action_spec.DeployAction("prod", files=("*.pkl",))),
            (action.Trigger.FAIL, action_spec.EmailAction(("author",))),
        ),
    )
    assert from_plain(pipeline.Pipeline, stored(owed)) == owed


@pytest.mark.parametrize(
    ("cls", "plain"),
    [
        (run.Exit, None),
        (run.Exit, []),
        (run.Exit, {}),
        (run.Exit, {"code": "0"}),
        (run.Exit, {"code": None}),
        (run.Exit, {"code": 0, "started_at": "yesterday"}),
        (run.Exit, {"code": 0, "started_at": 5}),
        (metrics.Metric, {"name": "a", "value": "high"}),
        (metrics.Metric, {"name": "a", "value": None}),
        (metrics.Metric, {"name": "a", "value": 10**400}),
        (metrics.Metric, {"name": 5, "value": 1.0}),
        (action_spec.EmailAction, {"to": "author"}),
        (gate.Gate, {"on_inconclusive": "shrug"}),
        (gate.Gate, {"checks": [{"kind": "vote", "metric": "a"}]}),
        (gate.Gate, {"checks": [{"metric": "a"}]}),
        (gate.Gate, {"checks": ["a >= 1"]}),
        (pipeline.HostSpec, {"name": "a", "engine": "b", "labels": [["x"]]}),
        (baseline.Measured, {"run_id": 1, "title": "", "commit": "", "branch": "", "values": []}),
    ],
)
def test_a_plain_value_that_does_not_fit_is_a_value_error(cls: type, plain: object) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each value has its own message
        from_plain(cls, plain)
    assert str(caught.value)


@pytest.mark.parametrize("value", [b"bytes", object(), 1j, run.Exit])
def test_a_type_that_no_domain_value_uses_has_no_plain_form(value: object) -> None:
    with pytest.raises(TypeError, match="no plain form"):
        to_plain(value)


def test_mappings_keep_their_names_as_keys() -> None:
    plain = to_plain(dict.fromkeys(metrics.Direction, 1.0))
    assert isinstance(plain, Mapping)
    assert plain == {"higher": 1.0, "lower": 1.0}
