"""Charts become pictures in a process of their own, whatever their numbers and names are."""

from __future__ import annotations

import math
import struct
from array import array
from pathlib import Path

import pytest

from orchestrator.adapters.drawing import ChartDrawer
from orchestrator.domain.chart import Chart, CurveChart, CurveLine, TrendChart, TrendPoint
from orchestrator.domain.report import Rendered
from orchestrator.domain.run import RunState

TREND = TrendChart(
    "accuracy",
    (TrendPoint(1, "#1", 0.9, 0.01), TrendPoint(2, "#2", 0.8, 0.0, RunState.REJECTED)),
    "",
    "higher",
    0.9,
    "baseline wine #1",
    0.88,
    0.92,
)


def curve(name: str, values: list[float]) -> CurveChart:
    steps = array("d", range(len(values)))
    return CurveChart(name, (CurveLine(name, steps, array("d", values)),))


def pixels(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_a_trend_and_a_curve_become_pictures_for_dense_screens_with_words_beside_them(
    tmp_path: Path,
) -> None:
    trend, line = ChartDrawer(tmp_path).draw([TREND, curve("loss", [3.0, 2.0, 1.0])])
    assert pixels(trend.png) == (2 * trend.width, 2 * trend.height)
    assert pixels(line.png) == (2 * line.width, 2 * line.height)
    assert trend.alt == "accuracy, higher is better, over 2 runs: 0.8 in #2, baseline 0.9"
    assert (trend.name, line.name) == ("trend-accuracy", "curve-loss")


@pytest.mark.parametrize(
    "chart",
    [
        curve("only nan", [math.nan] * 50),
        curve("infinite", [math.inf, -math.inf, 1.0]),
        curve("$\\frac{", [1.0, 2.0]),
        curve("<script>alert(1)</script>", [1.0, 2.0]),
        curve("שלום 🎉", [1.0, 2.0]),
        curve("huge", [1e300, -1e300]),
        curve("long " * 500, [1.0, 2.0]),
    ],
    ids=lambda chart: chart.title[:12],
)
def test_odd_names_and_numbers_are_drawn(tmp_path: Path, chart: Chart) -> None:
    (drawn,) = ChartDrawer(tmp_path).draw([chart])
    assert pixels(drawn.png) == (2 * drawn.width, 2 * drawn.height)
    assert len(drawn.alt) < 200


def test_a_series_of_a_million_points_is_thinned_before_it_is_drawn(tmp_path: Path) -> None:
    (drawn,) = ChartDrawer(tmp_path).draw([curve("loss", [math.nan, 1.0] * 500_000)])
    assert len(drawn.png) < 100_000


def test_charts_of_one_name_get_pictures_of_two_names(tmp_path: Path) -> None:
    first, second = ChartDrawer(tmp_path).draw([curve("a/b", [1.0, 2.0]), curve("a b", [1.0, 2.0])])
    assert first.name != second.name


def test_what_cannot_be_drawn_costs_the_report_only_its_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert ChartDrawer(occupied).draw([TREND]) == ()
    assert "the charts of a report could not be drawn" in caplog.text


def test_a_secret_in_a_name_reaches_no_picture(tmp_path: Path) -> None:
    drawer = ChartDrawer(tmp_path, lambda text: text.replace("hunter2", "***"))
    (drawn,) = drawer.draw([curve("loss hunter2", [1.0, 2.0])])
    assert "hunter2" not in drawn.alt
    assert "hunter2" not in drawn.name


def test_a_whole_page_holds_its_pictures_itself(tmp_path: Path) -> None:
    images = tuple(ChartDrawer(tmp_path).draw([TREND]))
    page = Rendered("", "", '<img src="cid:trend-accuracy">', images).whole
    assert page.startswith('<img src="data:image/png;base64,iVBOR')
    assert "cid:" not in page
