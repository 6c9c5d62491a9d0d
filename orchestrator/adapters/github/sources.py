"""Watched repositories where some are looked at by GitHub's API: Git does everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.adapters.github.forge import GitHub
from orchestrator.domain.change import Commit, LoggedCommit, Refs, Revision
from orchestrator.domain.errors import SourceRefused
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.world import SourceControl


class GitHubSources:
    """SourceControl by git whose looks at refs go to GitHub's API where somebody may ask there."""

    def __init__(self, git: SourceControl, github: GitHub | None) -> None:
        self._git = git
        self._github = github

    def refs(self, source: SourceSpec) -> Refs:
        """Branches and tags, and the pull requests. SourceRefused when these cannot be asked for."""
        if self._github is not None and self._github.knows(source):
            return self._github.refs(source)
        if source.pull_requests is not None:
            raise SourceRefused(
                f"pull requests of {source.github or source.name} cannot be watched without a login",
                "github: {token: …} in orchestrator.yaml, or token: at the source",
            )
        return self._git.refs(source)

    def heads(self, source: SourceSpec) -> Mapping[str, str]:
        return self._git.heads(source)

    def default_branch(self, source: SourceSpec) -> str | None:
        return self._git.default_branch(source)

    def fetch(self, source: SourceSpec, commit: str, branch: str) -> Revision:
        return self._git.fetch(source, commit, branch)

    def resolve(self, source: SourceSpec, ref: str) -> Revision:
        return self._git.resolve(source, ref)

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        self._git.checkout(source, commit, into)

    def is_ancestor(self, source: SourceSpec, older: str, newer: str) -> bool:
        return self._git.is_ancestor(source, older, newer)

    def logged(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[LoggedCommit]:
        return self._git.logged(source, older, newer, limit)

    def commits(self, source: SourceSpec, older: str | None, newer: str, limit: int) -> Sequence[Commit]:
        return self._git.commits(source, older, newer, limit)

    def changed_paths(self, source: SourceSpec, older: str, newer: str) -> Sequence[str] | None:
        return self._git.changed_paths(source, older, newer)

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        return self._git.read(source, commit, path, limit)

    def merge_base(self, source: SourceSpec, one: str, other: str) -> str | None:
        return self._git.merge_base(source, one, other)
