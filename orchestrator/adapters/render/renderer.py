"""Reports as people read them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.adapters.render.custom import CustomTemplates
from orchestrator.adapters.render.markdown import as_comment, as_file
from orchestrator.adapters.render.text import plain_text
from orchestrator.adapters.render.view import LEVELS, Limits, View, view_of
from orchestrator.domain.chart import Drawn
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.report import Rendered, Report, Written
from orchestrator.ports.drawing import Drawer

log = logging.getLogger(__name__)

SIZE_LIMIT = 80_000
"""Bytes of a rendering: mail readers clip a page near 102 KB."""
COMMENT_LIMIT = 55_000
"""Bytes of a comment: forges take 65,536 characters, and a title and links come around it."""
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

    Without ``drawer`` nothing is drawn. ``mask`` blanks secrets out of a text before it is escaped.
    ``custom`` are the administrator's templates: where one fails, ours takes its place, and the failure is
    told of.
    """

    def __init__(
        self,
        drawer: Drawer | None = None,
        mask: Callable[[str], str] = str,
        custom: CustomTemplates | None = None,
    ) -> None:
        self._drawer = drawer
        self._mask = mask
        self._custom = custom or CustomTemplates({})
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
        images = tuple(self._drawer.draw(report.charts)) if self._drawer is not None and report.charts else ()
        custom, troubles = self._custom, _Troubles()
        view = self._view(report, LEVELS[2])
        subject = view.subject
        if custom.has("subject"):
            subject = troubles.unless(lambda: custom.subject(report, view), lambda: view.subject)
        text = self._chosen(report, "text", plain_text, partial(custom.text, report), troubles)
        html = self._chosen(
            report,
            "html",
            partial(self._html, images=images),
            lambda view, standard: custom.html(report, view, standard, images),
            troubles,
        )
        return Rendered(subject, text, html, images, troubles.told)

    def comment(self, report: Report) -> Written:
        """Markdown for a forge."""
        troubles = _Troubles()
        custom = partial(self._custom.comment, report)
        return Written(
            self._chosen(report, "comment", as_comment, custom, troubles, COMMENT_LIMIT), troubles.told
        )

    def markdown(self, report: Report) -> str:
        """All of it in Markdown."""
        return self._fitting(report, as_file)

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        """The HTML as a page of the web application, as wide as its other pages."""
        write = partial(self._html, links=links, width=_PAGE_WIDTH)
        return self._fitting(replace(report, url=""), write)

    def _view(self, report: Report, limits: Limits) -> View:
        return view_of(report, limits, self._mask)

    def _fitting(self, report: Report, write: Callable[[View], str], limit: int = SIZE_LIMIT) -> str:
        """The rendering at the most generous limits with which it is small enough."""
        written = ""
        for limits in LEVELS:
            written = write(self._view(report, limits))
            if len(written.encode()) <= limit:
                break
        return written

    def _chosen(
        self,
        report: Report,
        form: str,
        standard: Callable[[View], str],
        custom: Callable[[View, str], str],
        troubles: _Troubles,
        limit: int = SIZE_LIMIT,
    ) -> str:
        """What the template of that form makes, or the standard where there is none, or where it fails."""
        if not self._custom.has(form):
            return self._fitting(report, standard, limit)

        def made() -> str:
            written = self._fitting(report, lambda view: custom(view, standard(view)), limit)
            if (size := len(written.encode())) > limit:
                raise InvalidInput(f"the template of {form} makes {size} bytes", f"at most {limit}")
            return written

        return troubles.unless(made, lambda: self._fitting(report, standard, limit))

    def _html(
        self,
        view: View,
        links: Mapping[str, str] = _NO_LINKS,
        width: int = _MAIL_WIDTH,
        images: Sequence[Drawn] = (),
    ) -> str:
        return self._template.render(view=view, colours=_COLOURS, links=links, width=width, images=images)


class _Troubles:
    """What was wrong with templates, each once."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}

    @property
    def told(self) -> str:
        return "; ".join(self._told)

    def unless(self, made: Callable[[], str], standard: Callable[[], str]) -> str:
        """What is made, or the standard where that fails."""
        try:
            return made()
        except InvalidInput as error:
            self._told[str(error)] = None
            log.warning("%s; the standard form takes its place", error)
            return standard()
