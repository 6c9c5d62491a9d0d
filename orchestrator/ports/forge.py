"""A forge: the service around a repository that has pull requests, people and marks on commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from orchestrator.domain.change import PullRequest
from orchestrator.domain.pipeline import SourceSpec


class Mark(StrEnum):
    """What a commit's status says."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    """The commit's fault: rejected, failed, or its configuration is wrong."""
    ERROR = "error"
    """Not the commit's fault: nobody could find out."""
    NEUTRAL = "neutral"
    """Nothing to say: inconclusive, cancelled, skipped."""


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """A mark on a commit. ``context`` tells it from others, such as ``mlci/wine-quality``; ``text`` is one
    sentence, ``details`` more of them in Markdown, for forges that show them.
    """

    commit: str
    context: str
    mark: Mark
    text: str
    url: str = ""
    details: str = ""
    external_id: str = ""
    """What the forge called it at the last time; empty: it has none yet."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests are left until ``resets_at``."""

    limit: int
    remaining: int
    resets_at: datetime


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote under a pull request. ``number`` is the pull request's."""

    id: int
    number: int
    author: str
    author_id: int
    text: str
    written_at: datetime


class Forge(Protocol):
    """The forge of the sources that name one. Thread-safe; every call may be repeated.

    Raises SourceUnavailable when it does not answer or the quota is used up (``retry_after`` says for how
    many seconds nothing need be tried), SourceRefused when it refuses: a revoked token, a repository that is
    gone or renamed, a permission that lacks.
    """

    def pull(self, source: SourceSpec, number: int) -> PullRequest:
        """An open pull request as it is now. NotFound when there is none."""

    def may_write(self, source: SourceSpec, login: str, user_id: int) -> bool:
        """Whether that user may push to the repository, and so may ask for runs by a comment.

        Nobody may whose login was given to another user meanwhile.
        """

    def set_status(self, source: SourceSpec, status: CommitStatus) -> str:
        """Put a mark on a commit, in place of an older one of the same context; what the forge calls it."""

    def read_comment(self, source: SourceSpec, comment: int) -> Comment:
        """A comment under a pull request, by its id, as it is now. NotFound when there is none."""

    def comment(self, source: SourceSpec, number: int, text: str) -> str:
        """Write under a pull request; what the forge calls the comment. NotFound when there is none."""

    def change_comment(self, source: SourceSpec, comment: str, text: str) -> bool:
        """Let a comment say something else. False when it is not there any more."""

    def own_comment(self, source: SourceSpec, number: int, marker: str) -> str:
        """The first comment there that we wrote and that begins with ``marker``; empty when there is none."""

    def pulls_of(self, source: SourceSpec, commit: str) -> Sequence[int]:
        """The open pull requests, by number, whose newest commit that is."""

    def quota(self, source: SourceSpec) -> Quota | None:
        """What the last answers told; None before the first."""
