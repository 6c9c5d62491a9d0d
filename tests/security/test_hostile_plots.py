"""security.md: pictures, HTML and SVG that a run made, with scripts in them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.charts import PNG, addresses, get, run_with
from tests.unit.services.worlds import World

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


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
