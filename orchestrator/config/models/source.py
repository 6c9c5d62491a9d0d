"""A watched repository: where it is, how it is reached, and which of its changes count."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from orchestrator.config.models.common import (
    Duration,
    ExistingFile,
    Items,
    Model,
    Name,
    Pause,
    Secret,
    Str,
    Verbatim,
    absolute,
    context_of,
    is_loopback,
    near,
    plain_text,
    text_of,
    verbatim_text,
    wrong,
)
from orchestrator.config.yaml_loader import Plain

GITHUB: Final = "https://github.com"
_SCHEMES: Final = ("https", "http", "ssh", "file")
_SCP_FORM = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:(?!//)\S+")
_GITHUB_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_TEXT: Final = WithJsonSchema({"type": "string", "minLength": 1})


def _git(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    expected = "a URL (https://, ssh://, git@host:path) or the path of a local repository"
    if not text or text.startswith("-") or "::" in text or any(ord(c) < 33 for c in text):
        raise wrong(f'"{text}" is not a repository', expected)
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme not in _SCHEMES:
            raise wrong(f'"{parts.scheme}://" is not a way to reach a repository', expected)
        if parts.password:
            raise wrong(
                "a password in a repository's address would be stored and shown",
                "an address without it, and beside it username: and password:, or token:",
            )
        return text
    if _SCP_FORM.fullmatch(text):
        return text
    context = context_of(info)
    path = absolute(text, context.base)
    if context.check_paths and not _is_repository(path):
        what = "is not a git repository" if path.exists() else "does not exist"
        raise wrong(
            f"{path} {what}", expected + "; relative paths count from the configuration folder", near(path)
        )
    return str(path)


def _is_repository(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _github(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    if not _GITHUB_NAME.fullmatch(text):
        bare = re.sub(r"^(https?://|ssh://git@|git@)[^/:]+[/:]", "", text).strip("/").removesuffix(".git")
        raise wrong(
            f'"{text}" is not the name of a repository on GitHub',
            "OWNER/NAME",
            bare if bare != text and _GITHUB_NAME.fullmatch(bare) else "",
        )
    return text


def _path_rule(value: Plain) -> str:
    text = verbatim_text(value)
    pattern = text.removeprefix("!")
    if not pattern or pattern.startswith(("/", "~", "!")) or ".." in pattern.split("/") or "\\" in pattern:
        raise wrong(
            f'"{text}" fits no file of a repository',
            "a relative path or pattern such as src/** or *.py, with ! before it for files that do not count",
            f"!{pattern.strip('/')}" if text.startswith("!") else pattern.strip("/"),
        )
    return text


def _ref_rule(value: Plain) -> str:
    text = verbatim_text(value)
    if not text.removeprefix("!") or any(ord(c) < 33 for c in text):
        raise wrong(f'"{text}" fits no branch and no tag', "a name, or a pattern with * and ?")
    if text.startswith("refs/"):
        raise wrong(
            f'"{text}" is the full name of a ref', "its short name", re.sub(r"^refs/(heads|tags)/", "", text)
        )
    return text


RefRule: TypeAlias = Annotated[Verbatim, BeforeValidator(_ref_rule), _TEXT]
PathRule: TypeAlias = Annotated[Verbatim, BeforeValidator(_path_rule), _TEXT]


class PullRequests(Model):
    """Which pull requests run."""

    bases: Items[RefRule] = Field(
        default=(),
        description="Branches that they are to be merged into, names or patterns; none: the watched ones.",
        examples=[["main"]],
    )
    forks: bool = Field(
        default=True,
        description="Whether those from forks run as well, without secrets and without deploying, each once "
        "somebody has approved it.",
        examples=[False],
    )
    drafts: bool = Field(default=False, description="Whether drafts run as well.", examples=[True])
    trusted: Items[Annotated[int, Field(ge=1)]] = Field(
        default=(),
        description="Numeric ids of users whose pull requests from forks need no approval (`gh api "
        "users/NAME --jq .id`); a login can be given to somebody else, an id cannot.",
        examples=[[583231]],
    )


def _pulls_kind(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | PullRequests) else "<flag>"


PullRequestsOption: TypeAlias = Annotated[
    Annotated[bool, Tag("<flag>")] | Annotated[PullRequests, Tag("<mapping>")], Discriminator(_pulls_kind)
]


class SourceSsh(Model):
    """How to log in to a Git server over SSH."""

    identity_file: ExistingFile | None = Field(
        default=None,
        description="Private key to log in with, such as a deploy key, without a passphrase; without it, "
        "what the orchestrator's user has.",
        examples=["~/.ssh/wine-deploy"],
    )
    known_hosts: ExistingFile | None = Field(
        default=None,
        description="A known_hosts file that you keep yourself, in place of the keys that `orchestrator "
        "sources trust` wrote down.",
        examples=["/etc/ssh/ssh_known_hosts"],
    )


class Source(Model):
    """A watched repository."""

    git: Annotated[Str, BeforeValidator(_git), _TEXT] | None = Field(
        default=None,
        description="URL or path of the repository; a relative path counts from the configuration folder.",
        examples=["https://gitlab.com/acme/wine.git", "git@example.org:acme/wine.git", "../repository"],
    )
    github: Annotated[Str, BeforeValidator(_github), _TEXT] | None = Field(
        default=None,
        description="In place of `git`: OWNER/NAME on GitHub, watched by its API.",
        examples=["acme/wine"],
    )
    name: Name | None = Field(
        default=None,
        description="Its name in listings; without it, the last part of its address.",
        examples=["wine"],
    )
    branches: Annotated[Items[RefRule], Field(min_length=1)] = Field(
        default=("main",),
        description="Branches to watch: names, or patterns with * and ?; with ! before it, those that are "
        "not watched. The last that fits decides.",
        examples=[["main", "release/*"]],
    )
    tags: Items[RefRule] = Field(
        default=(),
        description="Tags to watch, in the same way; none: no tags. A run of a tag deploys only where "
        "deploy_branches names refs/tags/….",
        examples=[["v*", "!*-rc*"]],
    )
    pull_requests: PullRequestsOption = Field(
        default=False,
        description="Whether pull requests run, of a repository on GitHub; or which.",
        examples=[True],
    )
    paths: Items[PathRule] = Field(
        default=(),
        description="Files that count, as patterns (`**` crosses folders); with ! before it, those that do "
        "not. The last that fits decides. A push that changes no such file makes no run. None: all count.",
        examples=[["**", "!docs/**", "!*.md"]],
    )
    every_commit: bool = Field(
        default=False,
        description="Whether each commit of a push gets a run of its own, oldest first, not only the newest.",
        examples=[True],
    )
    settle: Pause = Field(
        default=timedelta(seconds=10),
        description="How long a branch must be still before its new commit runs, so that a burst of pushes "
        "makes one run of the newest. A branch that is never still runs all the same after 30 times as long.",
        examples=["10s", "0s"],
    )
    min_interval: Pause = Field(
        default=timedelta(0),
        description="Time between two runs of a branch at least; what is pushed earlier waits, and then the "
        "newest runs.",
        examples=["1h"],
    )
    poll: Duration = Field(
        default=timedelta(seconds=60), description="How often it is asked for new commits.", examples=["60s"]
    )
    submodules: bool = Field(
        default=False,
        description="Whether runs get the submodules as well: of the same server, or over https.",
        examples=[True],
    )
    lfs: bool = Field(
        default=False, description="Whether runs get the files that Git LFS keeps.", examples=[True]
    )
    username: Verbatim | None = Field(
        default=None, description="User for a repository over https.", examples=["ci"]
    )
    password: Secret | None = Field(
        default=None,
        description="Password of that user; write a reference, not the password.",
        examples=["${{ env.GIT_PASSWORD }}"],
    )
    token: Secret | None = Field(
        default=None,
        description="Access token for a repository over https, in place of user and password; for one on "
        "GitHub, in place of `github.token` of orchestrator.yaml.",
        examples=["${{ env.WINE_TOKEN }}"],
    )
    ssh: SourceSsh | None = Field(default=None, description="How to log in to a server over SSH.")

    @property
    def title(self) -> str:
        """The name, given or derived from the address."""
        if self.name is not None:
            return self.name
        last = re.split(r"[/:]", self.address().rstrip("/"))[-1].removesuffix(".git")
        return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")[:63] or "source"

    def address(self, forge: str = GITHUB) -> str:
        """URL or absolute path to fetch from; ``forge`` is where the pages of GitHub's repositories are."""
        return self.git if self.git is not None else f"{forge.rstrip('/')}/{self.github}.git"

    @property
    def pulls(self) -> PullRequests | None:
        """Which pull requests run; None: no ones."""
        if isinstance(self.pull_requests, PullRequests):
            return self.pull_requests
        return PullRequests() if self.pull_requests else None

    @model_validator(mode="after")
    def _fits_together(self) -> Source:
        if (self.git is None) == (self.github is None):
            message = "both git and github are given" if self.git else "nothing says which repository"
            raise wrong(message, "git: URL or path, or github: OWNER/NAME", key="github" if self.git else "")
        if self.pulls is not None and self.github is None:
            raise wrong(
                "pull requests are known to a forge, not to Git",
                "github: OWNER/NAME in place of git:",
                _on_github(self.git or ""),
                key="pull_requests",
            )
        if self.every_commit and self.min_interval:
            raise wrong(
                "every commit is to run, and at most one in a time", "one of the two", key="min_interval"
            )
        self._logs_in_one_way()
        return self

    def _logs_in_one_way(self) -> None:
        given = {"username": self.username, "password": self.password, "token": self.token}
        keys = [key for key, value in given.items() if value is not None]
        if self.token is not None and len(keys) > 1:
            raise wrong("there are a token and a user", "token:, or username: and password:", key="token")
        if self.token is None and len(keys) == 1:
            lacking = "password" if self.username is not None else "username"
            raise wrong(f"{keys[0]} stands without {lacking}", f"{lacking}: beside it", key=keys[0])
        if self.github is not None and self.username is not None:
            raise wrong("GitHub takes no passwords", "token: ${{ env.WINE_TOKEN }}", key="password")
        scheme, host = _way(self.address())
        if keys and not (scheme == "https" or (scheme == "http" and is_loopback(host))):
            message = "it would cross the network in the clear" if scheme == "http" else "nobody asks for it"
            raise wrong(f"{keys[-1]} is for repositories over https: {message}", "https://…", key=keys[-1])
        if self.ssh is not None and scheme != "ssh":
            raise wrong(
                "the repository is not reached over SSH", "ssh://… or git@host:path in git:", key="ssh"
            )


def _way(address: str) -> tuple[str, str]:
    """Scheme and host of an address; ``("", "")`` for a path."""
    if "://" in address:
        parts = urlsplit(address)
        return parts.scheme, parts.hostname or ""
    return ("ssh", "") if _SCP_FORM.fullmatch(address) else ("", "")


def _on_github(address: str) -> str:
    found = re.fullmatch(r"(?:https://|ssh://git@|git@)github\.com[/:](.+?)(?:\.git)?/?", address)
    return f"github: {found[1]}" if found and _GITHUB_NAME.fullmatch(found[1]) else ""


def source_title(source: Plain) -> str:
    """What a source that was only parsed will be called; empty when that cannot be said."""
    if not isinstance(source, dict):
        return ""
    name, address = source.get("name"), source.get("git") or source.get("github")
    if isinstance(name, str):
        return name
    if not isinstance(address, str):
        return ""
    return re.split(r"[/:]", text_of(address).rstrip("/"))[-1].removesuffix(".git")
