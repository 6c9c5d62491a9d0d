"""``orchestrator report``: what people are told of a run, seen before they are, and sent as a test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from orchestrator.cli.complete import run_references
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from email.message import EmailMessage

    from orchestrator.bootstrap import Application
    from orchestrator.domain.report import Report
    from orchestrator.domain.run import Run

CHATS: Final = ("slack", "teams", "discord", "mattermost")
FORMS: Final = ("text", "html", "markdown", "comment", "mail", *CHATS)
_MOMENTS: Final = ("result", "start", "progress")


@click.group(cls=CommandGroup)
@global_options
def report() -> None:
    """See what mails, comments and chats say of a run, and send a mail as a test."""


_moment = click.option(
    "--on",
    "moment",
    type=click.Choice(_MOMENTS),
    default="result",
    help="As it is told then; the result unless said otherwise.",
)


@report.command("preview")
@click.argument("ref", shell_complete=run_references)
@click.option("--form", type=click.Choice(FORMS), default="text", help="What to show; text unless said.")
@_moment
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write it to a file in place of printing it.",
)
@global_options
def preview(ref: str, form: str, moment: str, out: Path | None) -> int:
    """Show a run's report in any form, by the templates that are configured; nothing is sent.

    `html` is one page with its charts inside; `mail` is the whole message as it would be sent, with charts.
    """
    from orchestrator.cli.output import say

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        made, trouble = _formed(app, _told(app, run, moment, form in ("html", "mail")), form)
        if trouble:
            say(f"! {trouble}; the standard form takes its place")
        if out is None:
            click.echo(made.decode(), nl=not made.endswith(b"\n"))
        else:
            write_report(out, made)
    return PASSED


@report.command("send")
@click.argument("ref", shell_complete=run_references)
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="Who gets it; may be repeated.")
@_moment
@global_options
def send(ref: str, to: tuple[str, ...], moment: str) -> int:
    """Mail a run's report to somebody now, as a test of mail server and templates.

    The subject says that it is a test. It is not of the run's actions: nothing is recorded, nothing repeated.
    """
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.errors import InvalidInput

    settings = this()
    with settings.application() as app:
        mailer = app.mailer
        if mailer is None:
            raise InvalidInput(
                "no mail server is configured", "email: {smtp: …, from: …} in orchestrator.yaml"
            )
        run = app.store.runs.find(ref)
        message, trouble = _mail(app, _told(app, run, moment, True), to)
        if trouble:
            say(f"! {trouble}; the standard form takes its place")
        refusals = mailer.send(message, to)
        refused = {refusal.address: refusal.told for refusal in refusals}
        reached = [address for address in to if address not in refused]
        if settings.json:
            print_json({"message_id": str(message["Message-ID"]), "reached": reached, "refused": refused})
        else:
            say(f"sent to {', '.join(reached)}: {message['Subject']}")
        for address, told in refused.items():
            say(f"! {address} is refused: {told}")
    return PASSED


def write_report(file: Path, content: bytes) -> None:
    """Write a report to a file and say so. Raises InvalidInput."""
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import InvalidInput

    try:
        file.write_bytes(content)
    except OSError as error:
        raise InvalidInput(
            f"{file} could not be written: {error.strerror}", "name a file in a folder that exists"
        ) from error
    say(f"wrote {file}")


def _told(app: Application, run: Run, moment: str, pictured: bool) -> Report:
    from orchestrator.domain.action import Trigger

    triggers: dict[str, Trigger] = {"start": Trigger.START, "progress": Trigger.PROGRESS}
    return app.reports.build(run, trigger=triggers.get(moment), pictured=pictured)


def _formed(app: Application, told: Report, form: str) -> tuple[bytes, str]:
    """The report in that form, and what was wrong with a template."""
    if form in CHATS:
        from orchestrator.bootstrap.masked import MaskedChats

        return MaskedChats(app.masker, app.secrets).message(form, told), ""
    if form == "comment":
        written = app.renderer.comment(told)
        return written.text.encode(), written.trouble
    if form == "markdown":
        return app.renderer.markdown(told).encode(), ""
    if form == "mail":
        message, trouble = _mail(app, told, ("somebody@example.org",))
        return message.as_bytes(), trouble
    rendered = app.renderer.render(told)
    return (rendered.whole if form == "html" else rendered.text).encode(), rendered.trouble


def _mail(app: Application, told: Report, to: tuple[str, ...]) -> tuple[EmailMessage, str]:
    from dataclasses import replace
    from uuid import uuid4

    from orchestrator.services.mail_message import compose, domain_of

    mailer = app.mailer
    sender = mailer.sender if mailer is not None else "ML CI <ci@localhost>"
    rendered = app.renderer.render(told)
    message = compose(
        replace(rendered, subject=f"[test] {rendered.subject}"),
        run=told.run,
        sender=sender,
        recipients=to,
        message_id=f"<test-{told.run.id}.{uuid4().hex}@{domain_of(sender)}>",
        now=app.clock.now(),
    )
    return message, rendered.trouble
