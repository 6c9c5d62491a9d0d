"""How mail is sent: the server, its login, the sender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import Model, Secret, Str, plain_text, text_of, wrong
from orchestrator.config.problems import closest
from orchestrator.config.yaml_loader import Plain

SMTP_EXAMPLE: Final = "smtps://user@mail.example.org:465"
_SMTP_PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True)
class SmtpAddress:
    """A mail server: how the connection is secured, where it is, and who logs in (None: nobody)."""

    security: Literal["smtp", "smtp+starttls", "smtps"]
    host: str
    port: int
    username: str | None


def parse_smtp_url(url: str) -> SmtpAddress:
    """`smtps://user@host:465` taken apart. Raises the same error that validation reports."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong("this is not the address of a mail server", SMTP_EXAMPLE) from None
    if parts.scheme not in _SMTP_PORTS:
        meant = closest(parts.scheme, _SMTP_PORTS)
        rest = url.partition("://")[2]
        raise wrong(
            "this is not the address of a mail server",
            f"smtp://, smtp+starttls:// or smtps://, for example {SMTP_EXAMPLE}",
            f"{meant}://{rest}" if meant and "@" not in rest else "",
        )
    if parts.password is not None:
        raise wrong("the password stands in the address, where it would be shown", "password: beside smtp:")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise wrong("this is not the address of a mail server", SMTP_EXAMPLE)
    username = unquote(parts.username) if parts.username else None
    security: Literal["smtp", "smtp+starttls", "smtps"]
    if parts.scheme == "smtps":
        security = "smtps"
    else:
        security = "smtp+starttls" if parts.scheme == "smtp+starttls" else "smtp"
    return SmtpAddress(
        security, parts.hostname, _SMTP_PORTS[parts.scheme] if port is None else port, username
    )


def _smtp(value: Plain, info: ValidationInfo) -> str:
    url = plain_text(value, info)
    parse_smtp_url(url)
    return url


def mail_address(value: Plain) -> str:
    """An e-mail address, bare or as `Name <address>`."""
    text = text_of(value)
    bare = text[text.rfind("<") + 1 : -1] if text.endswith(">") and "<" in text else text
    local, at, domain = bare.rpartition("@")
    if (
        not (at and local and domain)
        or any(c.isspace() or ord(c) < 32 or c in "<>," for c in bare)
        or "\n" in text
    ):
        raise wrong(f'"{text}" is not a mail address', "name@example.org or Name <name@example.org>")
    return text


MailAddress = Annotated[Str, BeforeValidator(mail_address), WithJsonSchema({"type": "string"})]


class Email(Model):
    """How mail is sent."""

    smtp: Annotated[Str, BeforeValidator(_smtp)] = Field(
        description="The mail server: smtp:// (no encryption), smtp+starttls:// or smtps://; "
        "the user name stands before the @.",
        examples=[SMTP_EXAMPLE],
    )
    password: Secret | None = Field(
        default=None,
        description="Password of that user; write a reference, not the password.",
        examples=["${{ env.SMTP_PASSWORD }}"],
    )
    sender: MailAddress = Field(
        alias="from", description="Who the mails come from.", examples=["ML CI <ci@example.org>"]
    )

    @property
    def server(self) -> SmtpAddress:
        return parse_smtp_url(self.smtp)

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Email:
        if self.password is not None and self.server.username is None:
            raise wrong("there is a password and no user", "smtps://USER@host in smtp:", key="password")
        return self
