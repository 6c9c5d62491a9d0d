"""The mail around a rendered report: who, about what, in which thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime, getaddresses, parseaddr
from urllib.parse import quote

from orchestrator.domain.errors import MailRejected
from orchestrator.domain.report import Rendered
from orchestrator.domain.run import Run

_SUBJECT_LIMIT = 200
_PICTURE = re.compile(r"cid:([A-Za-z0-9-]+)")


class _Policy(EmailPolicy):
    """Never breaks a line between a header's name and its value.

    The library does where the value alone fits into a line, and receivers then see a subject that begins with
    a space, after a line that RFC 5322 forbids.
    """

    def fold(self, name: str, value: str) -> str:
        """The header, in lines."""
        return re.sub(r"\A([^:]+):\s*\n[ \t]+", r"\1: ", super().fold(name, value))

    def fold_binary(self, name: str, value: str) -> bytes:
        """The same for messages as bytes."""
        return re.sub(rb"\A([^:]+):\s*\n[ \t]+", rb"\1: ", super().fold_binary(name, value))


_WRITTEN = _Policy() + SMTP
AS_WRITTEN = SMTP.clone(refold_source="none")
"""For reading a composed message back: it is sent on as it was composed."""


def compose(
    rendered: Rendered,
    *,
    run: Run,
    sender: str,
    recipients: Sequence[str],
    message_id: str,
    now: datetime,
    unsubscribe: str = "",
) -> EmailMessage:
    """A mail with a plain and an HTML body, and the pictures that the HTML shows inside it.

    ``unsubscribe`` is the address, ``https:`` or ``mailto:``, where one leaves the list; without it a mail to
    the sender. ``sender`` and ``recipients`` are ``name@example.org`` or ``Name <name@example.org>``.
    ``message_id`` (with or without brackets) is chosen before the act and stays the same on every try, by
    which receivers know a double. All mails about one pipeline are one thread. Raises MailRejected when an
    address is none: one that was made of a commit's author is not to be trusted.
    """
    origin = _address(sender)
    if not recipients:
        raise MailRejected("the message has no recipient", "name one in the pipeline's actions")
    message = EmailMessage(policy=_WRITTEN)
    message["From"] = origin
    message["To"] = [_address(recipient) for recipient in recipients]
    message["Subject"] = _one_line(rendered.subject)[:_SUBJECT_LIMIT]
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{_identifier(message_id)}>"
    slug = _slug(run.pipeline)
    thread = f"<pipeline.{slug}@{origin.domain}>"
    message["In-Reply-To"] = thread
    message["References"] = thread
    message["List-Id"] = f"<{slug}.{_slug(run.project) or 'mlci'}.{origin.domain}>"
    message["List-Unsubscribe"] = f"<{unsubscribe or _by_mail(origin, slug)}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message["X-MLCI-Run"] = _one_line(run.title)
    message.set_content(rendered.text)
    # Who shows HTML asks for the pictures by their names; they are unique in the world, as a Message-ID is.
    names = {image.name: f"{image.name}.{_identifier(message_id)}" for image in rendered.images}
    html = _PICTURE.sub(lambda found: f"cid:{names.get(found[1], found[1])}", rendered.html)
    message.add_alternative(html, subtype="html")
    page = message.get_body(("html",))
    for image in rendered.images:
        if page is not None:
            page.add_related(
                image.png,
                "image",
                "png",
                cid=f"<{names[image.name]}>",
                filename=f"{image.name}.png",
                disposition="inline",
            )
    return message


def _by_mail(origin: Address, slug: str) -> str:
    return f"mailto:{quote(origin.addr_spec, safe='@')}?subject={quote(f'unsubscribe {slug}')}"


def is_address(text: str) -> bool:
    """Whether a mail can be sent to it; a commit's author may write anything where the address belongs."""
    try:
        _address(text)
    except MailRejected:
        return False
    return True


def domain_of(sender: str) -> str:
    """The domain that a sender's Message-IDs end with."""
    return parseaddr(sender)[1].rpartition("@")[2]


def _address(text: str) -> Address:
    wrong = MailRejected(f"{text!r} is no mail address", "write name@example.org or Name <name@example.org>")
    found = getaddresses([text])
    if len(found) != 1 or any(ord(c) < 32 for c in text):
        raise wrong
    name, spec = found[0]
    # The parser repairs what it cannot read, and so could send to somebody whom nobody named.
    if spec not in text:
        raise wrong
    try:
        address = Address(display_name=name, addr_spec=spec)
    except (HeaderParseError, ValueError, IndexError) as error:
        raise wrong from error
    if not address.username or not address.domain or not address.domain.isascii():
        raise wrong
    return address


def _identifier(message_id: str) -> str:
    bare = message_id.strip().removeprefix("<").removesuffix(">")
    if not re.fullmatch(r"[A-Za-z0-9._+=-]+@[A-Za-z0-9._-]+", bare):
        raise MailRejected(f"{message_id!r} is no Message-ID", "it has the form name@domain")
    return bare


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _slug(text: str) -> str:
    """Only what an identifier may hold; the rest of a name becomes dashes."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-").lower() or "pipeline"
