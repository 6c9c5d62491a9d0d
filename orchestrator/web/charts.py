"""The page of a run's series and plots, and the files of the plots.

Series are drawn here, as SVG in the page. What a run made itself is never part of a page: pictures are
fetched as files of their own, and HTML and SVG, which could hold scripts, show in frames that run none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final

import jinja2
from fastapi import FastAPI
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from orchestrator.domain.collected import Plot, PlotKind, Series
from orchestrator.domain.curves import thin
from orchestrator.domain.errors import NotFound
from orchestrator.domain.metrics import format_value
from orchestrator.domain.run import Attempt, Run, latest_tries
from orchestrator.ports.records import StoredArtifact
from orchestrator.ports.store import Store

_DRAWN: Final = 60
"""So many series are drawn on a page."""
_LINES: Final = 240
"""Series of all replicates that are read for a page."""
_POINTS: Final = 400
"""Points of a series that are drawn: more than a chart has dots side by side."""
_WIDTH: Final = 280
_HEIGHT: Final = 120
_COLOURS: Final = ("#2f6fb0", "#c0392b", "#2e7d4f", "#9a5d00", "#6b6394", "#66707a")
_BLOCK: Final = 1 << 16
_IMAGES: Final[Mapping[bytes, str]] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
"""How the files of pictures begin: what they are called says nothing about what they are."""
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-src 'self'; frame-ancestors 'none';"
    " base-uri 'none'; form-action 'none'"
)
_FILE_POLICY: Final = "default-src 'none'; frame-ancestors 'none'; sandbox"
_FRAME_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'self';"
    " base-uri 'none'; form-action 'none'; sandbox"
)
RunId = Annotated[int, PathParameter(ge=1, le=(1 << 63) - 1)]
"""A run's number in a path, as large as the database can hold."""
Small = Annotated[int, PathParameter(ge=0, le=(1 << 31) - 1)]


@dataclass(frozen=True, slots=True)
class _Line:
    colour: str
    path: str
    replicate: int


@dataclass(frozen=True, slots=True)
class _Chart:
    name: str
    lines: Sequence[_Line]
    top: str
    bottom: str
    first: str
    last: str
    ends: str
    """The last value of each replicate."""


@dataclass(frozen=True, slots=True)
class _Picture:
    title: str
    address: str
    kind: str
    """``image``, ``frame`` or ``file``."""
    replicate: int
    removed: str


def has_charts(store: Store, run: Run) -> bool:
    """Whether there is anything to draw."""
    attempts = latest_tries(store.attempts.of_run(run.id))
    return any(store.findings.series_facts(a.id) or store.findings.plots(a.id) for a in attempts)


def add_charts(
    app: FastAPI, store: Store, content: Callable[[str], BinaryIO], templates: jinja2.Environment
) -> None:
    """Add the page and the files. ``content`` opens what is stored under a hash."""

    @app.get("/runs/{run_id}/charts")
    def charts(run_id: RunId) -> HTMLResponse:
        run = store.runs.get(run_id)
        attempts = latest_tries(store.attempts.of_run(run.id))
        judged = [check.metric for check in run.verdict.checks] if run.verdict else []
        drawn, more = _charts(store, attempts, judged)
        page = templates.get_template("charts.html").render(
            run=run,
            charts=drawn,
            more=more,
            width=_WIDTH,
            height=_HEIGHT,
            pictures=[picture for attempt in attempts for picture in _pictures(store, run, attempt)],
            replicates=len(attempts),
            colours=[(a.replicate, _colour(a.replicate)) for a in attempts],
        )
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    @app.get("/runs/{run_id}/plots/{replicate}/{position}")
    def plot(run_id: RunId, replicate: Small, position: Small) -> Response:
        attempts = latest_tries(store.attempts.of_run(store.runs.get(run_id).id))
        attempt = next((a for a in attempts if a.replicate == replicate), None)
        plots = store.findings.plots(attempt.id) if attempt is not None else ()
        if attempt is None or position >= len(plots):
            raise NotFound(f"run {run_id} has no such plot")
        wanted = plots[position]
        file = _files(store, attempt).get(wanted.path)
        if file is None or file.removed:
            raise NotFound(f"{wanted.path} was {file.removed}" if file else f"{wanted.path} was not kept")
        stream = content(file.sha256)
        return StreamingResponse(_blocks(stream), headers=_headers(wanted, stream))


def _headers(plot: Plot, stream: BinaryIO) -> dict[str, str]:
    """How a file is to be taken: as a picture, as something in a frame without scripts, or not at all."""
    begin = stream.read(16)
    stream.seek(0)
    picture = next((kind for magic, kind in _IMAGES.items() if begin.startswith(magic)), None)
    if plot.kind is PlotKind.IMAGE and picture is not None:
        return {"Content-Type": picture, "Content-Security-Policy": _FILE_POLICY}
    if plot.kind is PlotKind.ACTIVE:
        kind = "image/svg+xml" if plot.path.lower().endswith(".svg") else "text/html; charset=utf-8"
        framed = {"Content-Security-Policy": _FRAME_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        return {"Content-Type": kind, **framed}
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment",
        "Content-Security-Policy": _FILE_POLICY,
    }


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    with closing(stream):
        while block := stream.read(_BLOCK):
            yield block


def _files(store: Store, attempt: Attempt) -> dict[str, StoredArtifact]:
    return {file.path: file for file in store.attempts.artifacts(attempt.id)}


def _pictures(store: Store, run: Run, attempt: Attempt) -> Iterator[_Picture]:
    files = _files(store, attempt)
    kinds = {PlotKind.IMAGE: "image", PlotKind.ACTIVE: "frame"}
    for position, plot in enumerate(store.findings.plots(attempt.id)):
        file = files.get(plot.path)
        yield _Picture(
            plot.title or plot.path,
            f"/runs/{run.id}/plots/{attempt.replicate}/{position}",
            kinds.get(plot.kind, "file"),
            attempt.replicate,
            "not kept" if file is None else file.removed,
        )


def _charts(store: Store, attempts: Sequence[Attempt], judged: Sequence[str]) -> tuple[list[_Chart], int]:
    """What is drawn, judged metrics first, and how many series are not."""
    owners: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        for facts in store.findings.series_facts(attempt.id):
            owners.setdefault(facts.name, []).append(attempt)
    names = sorted(owners, key=lambda name: (name not in judged, name))
    drawn: list[_Chart] = []
    left = _LINES
    for name in names[:_DRAWN]:
        left -= len(owners[name])
        if drawn and left < 0:
            break
        found = [(a.replicate, thin(store.findings.series(a.id, name), _POINTS)) for a in owners[name]]
        drawn.append(_chart(name, found))
    return drawn, len(names) - len(drawn)


def _chart(name: str, found: Sequence[tuple[int, Series]]) -> _Chart:
    values = [value for _, series in found for value in series.values if math.isfinite(value)]
    steps = [step for _, series in found for step in series.steps if math.isfinite(step)]
    low, high = (min(values), max(values)) if values else (math.nan, math.nan)
    begin, end = (min(steps), max(steps)) if steps else (math.nan, math.nan)
    lines = [
        _Line(_colour(replicate), _path(series, (begin, end), (low, high)), replicate)
        for replicate, series in found
    ]
    ends = ", ".join(format_value(series.values[-1]) for _, series in found)
    top, bottom, first, last = map(format_value, (high, low, begin, end))
    return _Chart(name, lines, top, bottom, first, last, ends)


def _path(series: Series, across: tuple[float, float], up: tuple[float, float]) -> str:
    """The line through a series' points as SVG draws it; what is no finite number is a gap in it."""
    parts: list[str] = []
    joined = False
    for step, value in zip(series.steps, series.values, strict=True):
        if not (math.isfinite(step) and math.isfinite(value)):
            joined = False
            continue
        x = _share(step, *across) * _WIDTH
        y = (1 - _share(value, *up)) * _HEIGHT
        parts.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}")
        joined = True
    return "".join(parts)


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others: 0 at the one, 1 at the other, in the middle if they are one."""
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span > 0 else 0.5


def _colour(replicate: int) -> str:
    return _COLOURS[replicate % len(_COLOURS)]
