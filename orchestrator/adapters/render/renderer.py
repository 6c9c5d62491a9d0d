"""Reports as people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.adapters.render.text import plain_text
from orchestrator.adapters.render.view import LEVELS, View, view_of
from orchestrator.domain.chart import Drawn
from orchestrator.domain.report import Rendered, Report
from orchestrator.ports.drawing import Drawer

SIZE_LIMIT = 80_000
"""Bytes of a rendering: mail readers clip a page near 102 KB."""
_MAIL_WIDTH, _PAGE_WIDTH = 600, 960
_NO_LINKS: Mapping[str, str] = {}

_COLOURS = {
    "good": "#2e7d4f",
    "bad": "#c0392b",
    "unsure": "#9a5d00",
    "running": "#2f6fb0",
    "trouble": "#6b6394",
    "quiet": "#66707a",
}


class ReportRenderer:
    """Implements Renderer. The templates are the package's own; a report's texts are only ever their data.

    Without ``drawer`` nothing is drawn.
    """

    def __init__(self, drawer: Drawer | None = None) -> None:
        self._drawer = drawer
        environment = Environment(
            loader=PackageLoader("orchestrator.adapters.render"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._template = environment.get_template("report.html")

    def render(self, report: Report) -> Rendered:
        """Subject, text and HTML, each on its own cut as little as its size allows."""
        text = _fitting(report, plain_text)
        images = tuple(self._drawer.draw(report.charts)) if self._drawer is not None and report.charts else ()
        html = _fitting(report, partial(self._html, images=images))
        return Rendered(view_of(report, LEVELS[2]).subject, text, html, images)

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        """The HTML as a page of the web application, as wide as its other pages."""
        return _fitting(replace(report, url=""), partial(self._html, links=links, width=_PAGE_WIDTH))

    def _html(
        self,
        view: View,
        links: Mapping[str, str] = _NO_LINKS,
        width: int = _MAIL_WIDTH,
        images: Sequence[Drawn] = (),
    ) -> str:
        return self._template.render(view=view, colours=_COLOURS, links=links, width=width, images=images)


def _fitting(report: Report, write: Callable[[View], str]) -> str:
    """The rendering at the most generous limits with which it is small enough."""
    written = ""
    for limits in LEVELS:
        written = write(view_of(report, limits))
        if len(written.encode()) <= SIZE_LIMIT:
            break
    return written
