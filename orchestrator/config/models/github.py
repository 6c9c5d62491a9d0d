"""GitHub, or a GitHub Enterprise server: where it is, and who the orchestrator is there."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from orchestrator.config.models.common import Model, Secret, Str, is_loopback, kind_of, plain_text, wrong
from orchestrator.config.yaml_loader import Plain

API_URL: Final = "https://api.github.com"
_EXPECTED: Final = f"{API_URL}, or https://HOST/api/v3 of a GitHub Enterprise server"
_ENTERPRISE_PATH: Final = "/api/v3"


def _api_url(value: Plain, info: ValidationInfo) -> str:
    url = plain_text(value, info).rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise wrong(f'"{url}" is not a web address', _EXPECTED) from None
    if parts.scheme not in ("https", "http") or not host or parts.query or parts.fragment:
        raise wrong(f'"{url}" is not the address of an API', _EXPECTED)
    if parts.username is not None:
        raise wrong("a login stands in the address, where it would be shown", "token: or app: beside it")
    if parts.scheme == "http" and not is_loopback(host):
        raise wrong(
            "the token would cross the network in the clear", _EXPECTED, f"https://{url.partition('://')[2]}"
        )
    if host in ("github.com", "www.github.com"):
        raise wrong(f"{url} has the pages, not the API", _EXPECTED, API_URL)
    if not host.startswith("api.") and parts.path != _ENTERPRISE_PATH:
        meant = f"{parts.scheme}://{parts.netloc}{_ENTERPRISE_PATH}"
        raise wrong(f"{url} is not where the API of a GitHub Enterprise server is", _EXPECTED, meant)
    return url


def _app_id(value: Plain, info: ValidationInfo) -> str:
    if type(value) is int and value > 0:
        return str(value)
    if isinstance(value, str) and (text := plain_text(value, info)) and text.isascii() and text.isprintable():
        return text
    raise wrong(f"{kind_of(value)} is not the id of an App", "its App ID, such as 12345, or its client ID")


class GitHubApp(Model):
    """A GitHub App: the identity that may also set check runs."""

    id: Annotated[
        str,
        BeforeValidator(_app_id),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}]}),
    ] = Field(description="The App's ID or client ID, as its settings show it.", examples=[12345])
    private_key: Secret = Field(
        description="The App's private key (PEM); write a reference.",
        examples=["${{ file:/run/secrets/github-app.pem }}"],
    )
    installation: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Where the App is installed; without it, GitHub is asked for each repository's owner.",
        examples=[45678901],
    )


class GitHub(Model):
    """GitHub, or a GitHub Enterprise server."""

    token: Secret | None = Field(
        default=None,
        description="Personal access token, fine-grained (contents and metadata: read; pull requests: read; "
        "commit statuses: write) or classic (`repo`); write a reference.",
        examples=["${{ env.GITHUB_TOKEN }}"],
    )
    app: GitHubApp | None = Field(
        default=None,
        description="In place of `token`: a GitHub App, which sets check runs instead of commit statuses.",
        examples=[{"id": 12345, "private_key": "${{ file:/run/secrets/github-app.pem }}"}],
    )
    api_url: Annotated[Str, BeforeValidator(_api_url)] = Field(
        default=API_URL,
        description="Address of the API; a GitHub Enterprise server has it at https://HOST/api/v3.",
        examples=["https://github.example.org/api/v3"],
    )
    webhook_secret: Secret | None = Field(
        default=None,
        description="What GitHub signs webhooks with; without it, none is taken. Write a reference.",
        examples=["${{ file:/run/secrets/hook }}"],
    )

    @property
    def web_url(self) -> str:
        """Where the pages are and repositories are cloned from: https://github.com."""
        parts = urlsplit(self.api_url)
        if parts.path == _ENTERPRISE_PATH:
            return f"{parts.scheme}://{parts.netloc}"
        return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"

    @model_validator(mode="after")
    def _one_identity(self) -> GitHub:
        if self.token is not None and self.app is not None:
            raise wrong("both token and app are given", "one of the two", key="token")
        return self
