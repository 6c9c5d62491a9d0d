"""Templates of the administrator's in place of our own, for mails and comments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from orchestrator.adapters.render.filling import Form, SandboxedTemplates
from orchestrator.adapters.render.view import View
from orchestrator.domain.chart import Drawn
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.report import Report
from orchestrator.ports.templates import Value

_MOST: Final = 256 * 1024
_BODY: Final = re.compile(r"(?P<before>.*?<body\b[^>]*>)(?P<inside>.*)(?P<after></body>.*)", re.DOTALL)


class CustomTemplates:
    """Fills the administrator's templates with what a report says. ``files`` are by form: ``subject``,
    ``text``, ``html``, ``comment``.

    Files are read each time, so that a change holds at once.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._templates = SandboxedTemplates()

    def has(self, form: str) -> bool:
        """Whether there is one for that form."""
        return form in self._files

    def subject(self, report: Report, view: View) -> str:
        """The subject, on one line."""
        return " ".join(self._filled("subject", "text", report, view, view.subject).split())

    def text(self, report: Report, view: View, standard: str) -> str:
        """The plain text. ``standard`` is our own, as the template may put it somewhere."""
        return self._filled("text", "text", report, view, standard)

    def comment(self, report: Report, view: View, standard: str) -> str:
        """The Markdown of a comment."""
        return self._filled("comment", "markdown", report, view, standard)

    def html(self, report: Report, view: View, standard: str, images: Sequence[Drawn]) -> str:
        """The HTML. What is no whole page is put into our own in place of what it shows."""
        page = _BODY.fullmatch(standard)
        inside = page["inside"] if page else standard
        made = self._filled("html", "html", report, view, inside, images)
        return made if page is None or "<html" in made.lower() else page["before"] + made + page["after"]

    def _filled(
        self,
        form: str,
        markup: Form,
        report: Report,
        view: View,
        standard: str,
        images: Sequence[Drawn] = (),
    ) -> str:
        file = self._files[form]
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"the template {file} cannot be read: {error.strerror}", "a file that the server may read"
            ) from error
        if len(content) > _MOST:
            raise InvalidInput(f"the template {file} has {len(content)} bytes", f"at most {_MOST}")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the template {file} is not UTF-8", "a text file in UTF-8") from error
        return self._templates.fill(
            file.name, text, values_of(report, view, images), markup, {"standard": standard}
        )


def values_of(report: Report, view: View, images: Sequence[Drawn] = ()) -> Mapping[str, Value]:
    """What templates may name."""
    run, revision = report.run, report.run.change.revision
    shown = cast("dict[str, Value]", dataclasses.asdict(view))
    facts = {name: fact.text for name, fact in view.facts}
    return shown | {
        "facts": cast("Value", facts),
        "artifacts": tuple({"path": path, "size": size} for path, size in view.artifacts),
        "images": tuple({"src": f"cid:{i.name}", "alt": i.alt, "width": i.width} for i in images),
        "run": {
            "id": run.id,
            "number": run.number,
            "pipeline": run.pipeline,
            "project": run.project,
            "state": run.state.value,
            "cause": run.change.cause.value,
            "branch": revision.branch,
            "commit": revision.commit,
            "commit_subject": revision.subject,
            "author": revision.author,
        },
    }
