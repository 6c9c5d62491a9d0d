"""The page of a run's series and plots, and the files that runs made, which are never trusted."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable
from typing import BinaryIO

import httpx
import pytest

from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.run import Run
from orchestrator.services.overview import Overview
from orchestrator.services.readiness import Readiness
from orchestrator.web.app import Pages, create_app
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, pipeline

OUT = "/mlci/output"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
EVIL = "<img src=x onerror=alert(1)>"


def get(world: World, path: str, content: Callable[[str], BinaryIO] | None = None) -> httpx.Response:
    pages = Pages(
        world.store,
        world.reports,
        ReportRenderer(),
        world.logs,
        lambda: Readiness({}, {}),
        lambda: True,
        lambda run: [],
        overview=lambda: Overview((), ()),
        content=content or world.blobs.open,
    )
    app = create_app(pages, frozenset({"127.0.0.1"}))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


def run_with(world: World, files: dict[str, bytes], replicates: int = 1) -> Run:
    world.engine.script(Script(files={f"{OUT}/{name}": content for name, content in files.items()}))
    return world.finish(world.first_run(pipeline(replicates=replicates)), world.server())


def addresses(page: str) -> list[str]:
    return re.findall(r'src="(/runs/[^"]+)"', page)


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


def test_the_page_runs_no_script_and_shows_names_as_text(world: World) -> None:
    csv = f'step,"{EVIL}"\n0,1\n1,2\n'.encode()
    run = run_with(world, {"metrics.csv": csv, f"dvclive/plots/images/{EVIL}.png".replace("/>", ">"): PNG})
    page = get(world, f"/runs/{run.id}/charts")
    assert EVIL not in page.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_a_picture_comes_as_what_it_is_and_nothing_else(world: World) -> None:
    run = run_with(world, {"plots/a.png": PNG})
    (address,) = addresses(get(world, f"/runs/{run.id}/charts").text)
    picture = get(world, address)
    assert (picture.headers["Content-Type"], picture.content) == ("image/png", PNG)
    other = get(world, address, lambda sha256: io.BytesIO(b"<script>alert(1)</script>"))
    assert other.headers["Content-Type"] == "application/octet-stream"
    assert other.headers["Content-Disposition"] == "attachment"
    for file in (picture, other):
        assert "sandbox" in file.headers["Content-Security-Policy"]
        assert file.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.html", "text/html; charset=utf-8"), ("a.svg", "image/svg+xml")]
)
def test_html_and_svg_show_only_in_a_frame_without_scripts(world: World, name: str, kind: str) -> None:
    run = run_with(world, {f"plots/{name}": b"<svg onload='alert(1)'><script>alert(2)</script></svg>"})
    page = get(world, f"/runs/{run.id}/charts").text
    (frame,) = re.findall(r"<iframe [^>]*>", page)
    assert re.search(r" sandbox[ >]", frame)
    file = get(world, addresses(page)[0])
    policy = file.headers["Content-Security-Policy"]
    assert file.headers["Content-Type"] == kind
    assert policy.endswith("; sandbox")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert file.headers["X-Frame-Options"] == "SAMEORIGIN"


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
