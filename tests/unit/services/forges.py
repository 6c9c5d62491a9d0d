"""A forge in memory, for the use cases that talk to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.domain.change import PullRequest
from orchestrator.domain.errors import NotFound, OrchestratorError
from orchestrator.domain.pipeline import PullRequestRules, SourceSpec
from orchestrator.ports.forge import Comment, CommitStatus, Quota

WINE = SourceSpec(
    "wine", "https://github.com/acme/wine.git", github="acme/wine", pull_requests=PullRequestRules()
)


@dataclass
class FakeForge:
    """Keeps what it is told. ``faults`` are raised by the method of that name, one each call."""

    writers: set[str] = field(default_factory=lambda: {"ana"})
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    comments: dict[int, Comment] = field(default_factory=dict)
    marks: list[CommitStatus] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)
    written: dict[int, tuple[int, str]] = field(default_factory=dict)
    """What stands under pull requests now, by the comments' ids."""
    lost_answers: list[OrchestratorError] = field(default_factory=list)
    """Raised after a comment was made: its maker is not told."""
    faults: dict[str, list[OrchestratorError]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def pull(self, source: SourceSpec, number: int) -> PullRequest:
        self._called("pull")
        if number not in self.pulls:
            raise NotFound(f"there is no open pull request {number}")
        return self.pulls[number]

    def may_write(self, source: SourceSpec, login: str, user_id: int) -> bool:
        self._called("may_write")
        return login in self.writers

    def set_status(self, source: SourceSpec, status: CommitStatus) -> str:
        self._called("set_status")
        self.marks.append(status)
        return status.external_id or f"mark {len(self.marks)}"

    def read_comment(self, source: SourceSpec, comment: int) -> Comment:
        self._called("read_comment")
        if comment not in self.comments:
            raise NotFound(f"there is no comment {comment}")
        return self.comments[comment]

    def comment(self, source: SourceSpec, number: int, text: str) -> str:
        self._called("comment")
        self.answers.append((number, text))
        self.written[len(self.answers)] = (number, text)
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return str(len(self.answers))

    def change_comment(self, source: SourceSpec, comment: str, text: str) -> bool:
        self._called("change_comment")
        if int(comment) not in self.written:
            return False
        self.written[int(comment)] = (self.written[int(comment)][0], text)
        return True

    def own_comment(self, source: SourceSpec, number: int, marker: str) -> str:
        self._called("own_comment")
        found = (i for i, (n, text) in self.written.items() if n == number and text.startswith(marker))
        return str(next(found, ""))

    def pulls_of(self, source: SourceSpec, commit: str) -> Sequence[int]:
        self._called("pulls_of")
        return [pull.number for pull in self.pulls.values() if pull.commit == commit]

    def quota(self, source: SourceSpec) -> Quota | None:
        return None

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.faults.get(name):
            raise self.faults[name].pop(0)
