"""The page of a run's series and plots."""

from __future__ import annotations

import re

import pytest

from orchestrator.web import charts
from tests.support.charts import PNG, get, run_with
from tests.unit.services.worlds import World


def test_series_are_drawn_in_the_page(world: World) -> None:
    run = run_with(world, {"metrics.csv": b"step,loss\n0,1.0\n1,nan\n2,0.25\n3,0.5\n"})
    page = get(world, f"/runs/{run.id}/charts")
    assert page.status_code == 200
    (drawn,) = re.findall(r'<path d="([^"]+)"', page.text)
    assert drawn == "M0.0 0.0M186.7 120.0L280.0 80.0"
    assert "values 0.25 to 1, steps 0 to 3" in page.text
    assert f'href="/runs/{run.id}/charts"' in get(world, f"/runs/{run.id}").text


def test_a_run_without_series_and_plots_has_no_link_to_charts(world: World) -> None:
    run = run_with(world, {"metrics.json": b'{"accuracy": 1}'})
    assert "/charts" not in get(world, f"/runs/{run.id}").text
    assert "neither series nor plots" in get(world, f"/runs/{run.id}/charts").text


@pytest.mark.parametrize("path", ["0/9", "7/0", "0/99999999999999999999", "0/-1", "x/0"])
def test_there_is_no_other_plot(world: World, path: str) -> None:
    run = run_with(world, {"plots/a.png": PNG})
    assert get(world, f"/runs/{run.id}/plots/{path}").status_code == 404


def test_replicates_are_drawn_into_one_chart(world: World) -> None:
    run = run_with(world, {"metrics.csv": b"step,loss\n0,1.0\n1,0.5\n"}, replicates=2)
    page = get(world, f"/runs/{run.id}/charts").text
    assert page.count("<svg ") == 1
    assert page.count("<path ") == 2
    assert "replicate 1" in page


def test_a_page_reads_no_more_series_than_it_should(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "_LINES", 4)
    run = run_with(world, {"metrics.csv": b"step,a,b,c\n0,1,1,1\n1,2,2,2\n"}, replicates=2)
    page = get(world, f"/runs/{run.id}/charts").text
    assert page.count("<svg ") == 2
    assert "1 more" in page or "1 other" in page
