"""Which of two files counts, and how much is kept."""

from __future__ import annotations

import math
from array import array

from orchestrator.domain.collected import Param, Plot, PlotKind, Reading, Series
from orchestrator.domain.metrics import Direction, Metric
from orchestrator.domain.pipeline import Limits
from orchestrator.services.findings import Found, put_together


def said(source: str, value: float, name: str = "accuracy", reader: str = "json") -> Reading:
    return Reading((Metric(name, value, source, reader),))


def points(name: str, count: int, source: str = "m.csv") -> Series:
    return Series(name, array("d", range(count)), array("d", range(count)), array("d"), source, "csv")


def test_the_declared_file_counts_where_another_one_differs_and_a_warning_says_so() -> None:
    found = [Found(False, said("a.json", 0.8)), Found(True, said("z.json", 0.9))]
    made = put_together(found, {"accuracy"}, Limits())
    assert [(m.value, m.source) for m in made.metrics] == [(0.9, "z.json")]
    assert made.warnings == [
        "accuracy is 0.9 in z.json and 0.8 in a.json, which is not declared: the first counts"
    ]
    assert not made.conflict


def test_a_judged_metric_with_two_values_is_in_conflict_where_no_file_goes_first() -> None:
    for declared in (False, True):
        found = [Found(declared, said("a.json", 0.8)), Found(declared, said("b.json", 0.9))]
        made = put_together(found, {"accuracy"}, Limits())
        assert made.conflict == (
            "accuracy is 0.8 in a.json and 0.9 in b.json: which one counts is not clear;"
            " name that file under collect: alone"
        )


def test_an_unjudged_metric_with_two_values_is_a_warning() -> None:
    found = [Found(False, said("a.json", 0.8)), Found(False, said("b.json", 0.9))]
    made = put_together(found, (), Limits())
    assert (made.metrics[0].value, made.conflict) == (0.8, "")
    assert made.warnings == ["accuracy is 0.8 in a.json and 0.9 in b.json: the first counts"]


def test_the_same_value_in_two_files_is_no_conflict_and_the_more_precise_one_is_kept() -> None:
    single = 0.9300000071525574
    found = [Found(False, said("events", single, reader="tensorboard")), Found(False, said("m.json", 0.93))]
    made = put_together(found, {"accuracy"}, Limits())
    assert [(m.value, m.source) for m in made.metrics] == [(0.93, "m.json")]
    assert (made.warnings, made.conflict) == ([], "")


def test_not_a_number_in_both_files_is_the_same_value() -> None:
    found = [Found(False, said("a.json", math.nan)), Found(False, said("b.json", math.nan))]
    assert put_together(found, {"accuracy"}, Limits()).conflict == ""


def test_what_only_the_other_file_says_of_the_same_value_is_kept() -> None:
    told = Metric("accuracy", 0.9, "results.json", "lm-eval", 3, None, 0.01, Direction.HIGHER, "points")
    made = put_together([Found(True, said("m.json", 0.9)), Found(False, Reading((told,)))], (), Limits())
    (metric,) = made.metrics
    assert (metric.source, metric.stderr, metric.direction) == ("m.json", 0.01, Direction.HIGHER)


def test_many_metrics_that_differ_are_counted_and_not_all_told() -> None:
    one, other = (
        [Metric(f"m{n}", value, source) for n in range(50)] for value, source in ((1, "a"), (2, "b"))
    )
    made = put_together(
        [Found(False, Reading(tuple(one))), Found(False, Reading(tuple(other)))], (), Limits()
    )
    assert len(made.warnings) == 11
    assert made.warnings[-1] == "40 more metrics have different values in two files"


def test_judged_metrics_are_kept_whatever_else_there_is() -> None:
    many = Reading(tuple(Metric(f"m{n}", n, "m.csv") for n in range(20)))
    made = put_together([Found(False, many)], {"m19"}, Limits(metrics=5))
    assert [m.name for m in made.metrics] == ["m19", "m0", "m1", "m2", "m3"]
    assert len(made.left_out) == 15
    assert made.left_out[0] == ("metric m4 of m.csv", "there are more than 5, storage.limits.metrics")


def test_long_series_are_thinned_to_what_all_may_have_together_and_short_ones_stay_whole() -> None:
    found = [
        Found(False, Reading(series=(points("short", 10), points("long", 5_000), points("longer", 9_000))))
    ]
    made = put_together(found, (), Limits(points=1_000))
    kept = {each.facts.name: (each.facts.points, each.facts.kept) for each in made.series}
    assert kept["short"] == (10, 10)
    assert sum(count for _, count in kept.values()) <= 1_000
    assert kept["long"][1] > 400
    assert [what for what, _ in made.left_out] == ["series long", "series longer"]
    assert "of its 5000 points are kept" in made.left_out[0][1]


def test_a_series_of_the_same_name_in_another_file_is_listed_unless_it_is_the_same() -> None:
    same, other = points("loss", 5, "b.csv"), points("loss", 6, "c.csv")
    found = [Found(False, Reading(series=(points("loss", 5), same, other)))]
    made = put_together(found, (), Limits())
    assert [each.facts.points for each in made.series] == [5]
    assert made.left_out == [("series loss of c.csv", "that of m.csv is kept under this name")]


def test_too_many_series_parameters_and_plots_are_listed() -> None:
    reading = Reading(
        series=tuple(points(f"s{n}", 2) for n in range(4)),
        params=tuple(Param(f"p{n}", "1") for n in range(4)),
        plots=tuple(Plot(f"{n}.png", PlotKind.IMAGE) for n in range(4)),
    )
    made = put_together([Found(False, reading)], (), Limits(series=3, params=2, plots=1))
    assert (len(made.series), len(made.params), len(made.plots)) == (3, 2, 1)
    assert [what for what, _ in made.left_out] == [
        "series s3",
        "parameter p2",
        "parameter p3",
        "plot 1.png",
        "plot 2.png",
        "plot 3.png",
    ]


def test_a_parameter_with_two_values_is_a_warning() -> None:
    found = [Found(False, Reading(params=(Param("lr", "0.1", "a"), Param("lr", "0.2", "b"))))]
    made = put_together(found, (), Limits())
    assert [p.text for p in made.params] == ["0.1"]
    assert made.warnings == ["parameter lr is '0.1' in a and '0.2' in b: the first is shown"]
