"""Metrics, series and parameters as commands show them."""

from __future__ import annotations

import json
import math
from array import array

import pytest

from orchestrator.cli.found import (
    metrics_json,
    points_json,
    print_metrics,
    print_params,
    print_points,
    print_series,
    series_json,
)
from orchestrator.cli.output import json_text
from orchestrator.domain.collected import Param, Series
from orchestrator.domain.curves import facts_of
from orchestrator.domain.metrics import Metric

LOSS = Series(
    "loss", array("d", [1, 2.5, 3]), array("d", [1.0, math.nan, 0.25]), source="m.csv", reader="csv"
)


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_series_show_what_they_come_to(capsys: pytest.CaptureFixture[str]) -> None:
    print_series([(0, facts_of(LOSS))], "")
    assert lines(capsys)[1] == ["loss", "0", "3", "0.25", "1", "0.25", "3", "m.csv"]


def test_points_show_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_points([(0, LOSS)])
    assert lines(capsys)[1:] == [["0", "1", "1"], ["0", "2.5", "NaN"], ["0", "3", "0.25"]]


def test_not_a_number_never_reaches_json_raw() -> None:
    texts = [
        json_text(points_json([(0, LOSS)])),
        json_text(series_json([(0, facts_of(LOSS))])),
        json_text(metrics_json([(0, Metric("loss", math.nan, stderr=math.inf))])),
    ]
    for text in texts:
        assert "NaN" not in text
        assert "Infinity" not in text
    (points,) = json.loads(texts[0])
    assert (points["steps"], points["values"]) == ([1, 2.5, 3], [1.0, "nan", 0.25])


def test_metrics_show_what_their_files_say_and_no_empty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics([(0, Metric("a", 0.5, "m.json")), (0, Metric("b", 3, "r.json", stderr=0.1, unit="ms"))], "")
    table = lines(capsys)
    assert table[0] == ["metric", "replicate", "value", "stderr", "source"]
    assert table[2] == ["b", "0", "3", "ms", "0.1", "r.json"]


def test_parameters_that_all_replicates_share_stand_there_once(capsys: pytest.CaptureFixture[str]) -> None:
    print_params([(n, Param("lr", "0.1", "p.yaml")) for n in range(3)], "")
    assert lines(capsys) == [["parameter", "value", "source"], ["lr", "0.1", "p.yaml"]]
    print_params([(n, Param("lr", f"0.{n // 2}", "p.yaml")) for n in range(3)], "")
    assert lines(capsys)[1:] == [["lr", "0.0", "0,", "1", "p.yaml"], ["lr", "0.1", "2", "p.yaml"]]


def test_control_codes_in_names_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_params([(0, Param("lr\x1b[31m", "\x1b]0;title\x07", "p.yaml"))], "")
    assert "\x1b" not in capsys.readouterr().out
