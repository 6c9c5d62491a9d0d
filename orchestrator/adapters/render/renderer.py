"""Reports as people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.adapters.render.text import plain_text
from orchestrator.adapters.render.view import LEVELS, View, view_of
from orchestrator.domain.report import Rendered, Report

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
    """Implements Renderer. The templates are the package's own; a report's texts are only ever their data."""

    def __init__(self) -> None:
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
        html = _fitting(report, self._html)
        return Rendered(view_of(report, LEVELS[2]).subject, text, html)

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        """The HTML as a page of the web application, as wide as its other pages."""
        return _fitting(replace(report, url=""), partial(self._html, links=links, width=_PAGE_WIDTH))

    def _html(self, view: View, links: Mapping[str, str] = _NO_LINKS, width: int = _MAIL_WIDTH) -> str:
        return self._template.render(view=view, colours=_COLOURS, links=links, width=width)


def _fitting(report: Report, write: Callable[[View], str]) -> str:
    """The rendering at the most generous limits with which it is small enough."""
    written = ""
    for limits in LEVELS:
        written = write(view_of(report, limits))
        if len(written.encode()) <= SIZE_LIMIT:
            break
    return written
