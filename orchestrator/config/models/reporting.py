"""How reports look."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from orchestrator.config.models.common import ExistingFile, Model


class ReportTemplates(Model):
    """Files in place of our own forms. Each is a Jinja template in a sandbox, in UTF-8."""

    subject: ExistingFile | None = Field(
        default=None, description="A mail's subject, on one line.", examples=["templates/subject.txt"]
    )
    text: ExistingFile | None = Field(
        default=None, description="A mail's plain text.", examples=["templates/mail.txt"]
    )
    html: ExistingFile | None = Field(
        default=None,
        description="A mail's HTML: a whole page, or what ours is to show.",
        examples=["templates/mail.html"],
    )
    comment: ExistingFile | None = Field(
        default=None,
        description="The Markdown of comments under pull requests and of check runs.",
        examples=["templates/comment.md"],
    )

    @property
    def files(self) -> dict[str, Path]:
        """The given files by form."""
        return {form: path for form in type(self).model_fields if (path := getattr(self, form)) is not None}


class Reports(Model):
    """How reports look."""

    templates: ReportTemplates = Field(
        default=ReportTemplates(), description="Templates in place of our own forms, for mails and comments."
    )
