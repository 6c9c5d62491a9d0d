"""Who is told of runs beside people: hooks that are called, and programs that are started."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.config.models.common import (
    Duration,
    ExistingFile,
    Model,
    Secret,
    Variable,
    text_of,
    wrong,
)
from orchestrator.config.yaml_loader import Plain

_OURS: Final = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "connection",
        "transfer-encoding",
        "idempotency-key",
        "x-mlci-event",
        "x-mlci-signature-256",
    }
)


def _address(value: Plain) -> Plain:
    """What can be seen of it without its references, which may hold all of it."""
    if not isinstance(value, str) or value.lstrip().startswith("${{"):
        return value
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or (not host and "${{" not in value):
        raise wrong("this is no address that can be called", "https://HOST/PATH, or a reference to it")
    if parts.username is not None:
        raise wrong("a login stands in the address", "headers: {Authorization: …} beside it")
    return value


def _header(value: Plain) -> str:
    text = text_of(value)
    if not text or not all(c.isascii() and (c.isalnum() or c == "-") for c in text):
        raise wrong(f'"{text}" is not the name of a header', "letters, digits and -, such as Authorization")
    if text.lower() in _OURS:
        raise wrong(f"{text} is set by the orchestrator", "another header")
    return text


Header = Annotated[str, BeforeValidator(_header), WithJsonSchema({"type": "string"})]


class Hook(Model):
    """A service that is told of runs."""

    url: Annotated[Secret, BeforeValidator(_address)] = Field(
        description="Where the run is sent by POST, as JSON; a reference where the address itself is a "
        "secret. Redirects are not followed.",
        examples=["https://chat.example.org/hooks/ci"],
    )
    format: Literal["json", "slack", "teams", "discord", "mattermost"] = Field(
        default="json",
        description="What is sent: the run as JSON, or the report as a message of Slack (incoming webhook), "
        "Teams (webhook of a workflow), Discord or Mattermost.",
        examples=["slack"],
    )
    secret: Secret | None = Field(
        default=None,
        description="What the request is signed with, by HMAC-SHA256, in the header X-MLCI-Signature-256; "
        "write a reference. Without it, requests are not signed.",
        examples=["${{ env.HOOK_SECRET }}"],
    )
    headers: Mapping[Header, Secret] = Field(
        default={},
        description="Headers that are sent along.",
        examples=[{"Authorization": "Bearer ${{ env.CHAT_TOKEN }}"}],
    )
    timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="Longest time of one request, unless the action says another.",
        examples=["10s"],
    )
    allow_private: bool = Field(
        default=False,
        description="Whether its address may be of this machine or of a private network, and be http://. "
        "Those by which clouds give away credentials never may.",
        examples=[True],
    )
    ca_file: ExistingFile | None = Field(
        default=None,
        description="Certificates that are trusted in place of the system's.",
        examples=["/etc/ssl/lab-ca.pem"],
    )

    @model_validator(mode="after")
    def _nothing_in_the_clear(self) -> Hook:
        if str(self.url).startswith("http:") and not self.allow_private:
            raise wrong(
                "what is sent there would cross the network in the clear",
                "https://, or allow_private: true for a server of your own network",
                key="url",
            )
        return self


class Program(Model):
    """An executable of the administrator's that is started for runs."""

    path: ExistingFile = Field(
        description="The executable, started without arguments and without a shell, as the orchestrator's "
        "user. The run is on its standard input, as JSON.",
        examples=["/usr/local/bin/ci-notify"],
    )
    timeout: Duration = Field(
        default=timedelta(minutes=5),
        description="Longest time that it may take, unless the action says another; then it is killed with "
        "all that it started.",
        examples=["1m"],
    )
    env: Mapping[Variable, Secret] = Field(
        default={},
        description="Environment variables besides PATH, HOME, LANG and MLCI_…; nothing else of the "
        "orchestrator's own environment is passed on.",
        examples=[{"CHAT_TOKEN": "${{ env.CHAT_TOKEN }}"}],
    )
