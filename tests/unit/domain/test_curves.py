"""Series with fewer points, and what they come to."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.collected import Series
from orchestrator.domain.curves import facts_of, kept_series, thin


def series(values: list[float], timestamps: list[float] | None = None) -> Series:
    steps = array("d", map(float, range(len(values))))
    return Series("loss", steps, array("d", values), array("d", timestamps or []), "m.csv", "csv")


def test_a_short_series_stays_as_it_is() -> None:
    made = series([1.0, 2.0, 3.0])
    assert thin(made, 4) is made


def test_a_peak_of_one_point_survives_thinning() -> None:
    values = [0.0] * 10_000
    values[5_431] = 99.0
    values[7_002] = -7.0
    thinned = thin(series(values), 100)
    assert len(thinned.values) <= 100
    assert (max(thinned.values), min(thinned.values)) == (99.0, -7.0)
    assert thinned.steps[thinned.values.index(99.0)] == 5_431


def test_timestamps_stay_with_their_points() -> None:
    count = 1_000
    thinned = thin(series([math.sin(n) for n in range(count)], [1e9 + n for n in range(count)]), 50)
    assert [moment - 1e9 for moment in thinned.timestamps] == list(thinned.steps)


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=400),
    st.integers(min_value=4, max_value=60),
)
def test_thinning_keeps_the_ends_the_order_and_the_extremes(values: list[float], most: int) -> None:
    made = series(values)
    thinned = thin(made, most)
    assert len(thinned.values) <= max(most, 4)
    assert list(thinned.steps) == sorted(set(thinned.steps))
    assert (thinned.steps[0], thinned.steps[-1]) == (0, len(values) - 1)
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        kept = [value for value in thinned.values if math.isfinite(value)]
        assert (min(kept), max(kept)) == (min(finite), max(finite))


def test_what_a_thinned_series_comes_to_is_of_all_that_was_written() -> None:
    kept = kept_series(series([*[0.5] * 5_000, 0.25]), 10)
    assert (kept.facts.points, kept.facts.kept) == (5_001, len(kept.series.values))
    assert (kept.facts.least, kept.facts.most, kept.facts.last, kept.facts.last_step) == (
        0.25,
        0.5,
        0.25,
        5_000,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_series_without_finite_values_has_no_extremes(value: float) -> None:
    facts = facts_of(series([value, value]))
    assert math.isnan(facts.least)
    assert math.isnan(facts.most)
