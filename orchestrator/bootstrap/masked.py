"""Repositories and reports without secrets, also those that no run of this process was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.adapters.chat import ReportChats
from orchestrator.bootstrap.secrets import ConfiguredSecrets
from orchestrator.domain.change import Commit, LoggedCommit, PullRequest, Refs, Revision
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.report import Rendered, Report, Written
from orchestrator.observe import Masker
from orchestrator.ports.forge import Comment, CommitStatus, Forge, Quota
from orchestrator.ports.world import Renderer, SourceControl


class MaskedSources:
    """SourceControl whose commit messages and authors hold no secret when they come to the database."""

    def __init__(self, sources: SourceControl, masker: Masker, secrets: ConfiguredSecrets) -> None:
        self._sources = sources
        self._masker = masker
        self._secrets = secrets

    def heads(self, source: SourceSpec) -> Mapping[str, str]:
        return self._sources.heads(source)

    def refs(self, source: SourceSpec) -> Refs:
        return self._sources.refs(source)

    def default_branch(self, source: SourceSpec) -> str | None:
        return self._sources.default_branch(source)

    def fetch(self, source: SourceSpec, commit: str, branch: str) -> Revision:
        return self._masked(self._sources.fetch(source, commit, branch))

    def resolve(self, source: SourceSpec, ref: str) -> Revision:
        return self._masked(self._sources.resolve(source, ref))

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        self._sources.checkout(source, commit, into)

    def is_ancestor(self, source: SourceSpec, older: str, newer: str) -> bool:
        return self._sources.is_ancestor(source, older, newer)

    def logged(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[LoggedCommit]:
        self._secrets.learn_now_and_then()
        found = self._sources.logged(source, older, newer, limit)
        mask = self._masker.mask_text
        return [replace(each, subject=mask(each.subject), author=mask(each.author)) for each in found]

    def commits(self, source: SourceSpec, older: str | None, newer: str, limit: int) -> Sequence[Commit]:
        # Rules read these messages; nobody is shown them, and they are not stored.
        return self._sources.commits(source, older, newer, limit)

    def changed_paths(self, source: SourceSpec, older: str, newer: str) -> Sequence[str] | None:
        return self._sources.changed_paths(source, older, newer)

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        return self._sources.read(source, commit, path, limit)

    def merge_base(self, source: SourceSpec, one: str, other: str) -> str | None:
        return self._sources.merge_base(source, one, other)

    def _masked(self, revision: Revision) -> Revision:
        self._secrets.learn_now_and_then()
        mask = self._masker.mask_text
        return replace(revision, subject=mask(revision.subject), author=mask(revision.author))


class MaskedForge:
    """A Forge that is told no secret of the configuration, whatever a run has measured or printed."""

    def __init__(self, forge: Forge, masker: Masker, secrets: ConfiguredSecrets) -> None:
        self._forge = forge
        self._masker = masker
        self._secrets = secrets

    def pull(self, source: SourceSpec, number: int) -> PullRequest:
        return self._forge.pull(source, number)

    def may_write(self, source: SourceSpec, login: str, user_id: int) -> bool:
        return self._forge.may_write(source, login, user_id)

    def set_status(self, source: SourceSpec, status: CommitStatus) -> str:
        self._secrets.learn_now_and_then()
        mask = self._masker.mask_text
        return self._forge.set_status(
            source, replace(status, text=mask(status.text), details=mask(status.details))
        )

    def read_comment(self, source: SourceSpec, comment: int) -> Comment:
        return self._forge.read_comment(source, comment)

    def comment(self, source: SourceSpec, number: int, text: str) -> str:
        self._secrets.learn_now_and_then()
        return self._forge.comment(source, number, self._masker.mask_text(text))

    def change_comment(self, source: SourceSpec, comment: str, text: str) -> bool:
        self._secrets.learn_now_and_then()
        return self._forge.change_comment(source, comment, self._masker.mask_text(text))

    def own_comment(self, source: SourceSpec, number: int, marker: str) -> str:
        return self._forge.own_comment(source, number, marker)

    def pulls_of(self, source: SourceSpec, commit: str) -> Sequence[int]:
        return self._forge.pulls_of(source, commit)

    def quota(self, source: SourceSpec) -> Quota | None:
        return self._forge.quota(source)


class MaskedRenderer:
    """A Renderer that blanks every secret of the configuration out of what another one renders.

    A branch or the name of a file can hold one that the run itself was never given.
    """

    def __init__(self, renderer: Renderer, masker: Masker, secrets: ConfiguredSecrets) -> None:
        self._renderer = renderer
        self._masker = masker
        self._secrets = secrets

    def render(self, report: Report) -> Rendered:
        self._secrets.learn_now_and_then()
        found = self._renderer.render(report)
        mask = self._masker.mask_text
        return replace(found, subject=mask(found.subject), text=mask(found.text), html=mask(found.html))

    def comment(self, report: Report) -> Written:
        self._secrets.learn_now_and_then()
        found = self._renderer.comment(report)
        return Written(self._masker.mask_text(found.text), found.trouble)

    def markdown(self, report: Report) -> str:
        self._secrets.learn_now_and_then()
        return self._masker.mask_text(self._renderer.markdown(report))

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        self._secrets.learn_now_and_then()
        return self._masker.mask_text(self._renderer.page(report, links))


class MaskedChats:
    """Chats that are told no secret of the configuration, whatever a report holds."""

    def __init__(self, masker: Masker, secrets: ConfiguredSecrets) -> None:
        # What is escaped already would hide a secret from the masker: the texts are masked before.
        self._chats = ReportChats(masker.mask_text)
        self._secrets = secrets

    def message(self, form: str, report: Report) -> bytes:
        self._secrets.learn_now_and_then()
        return self._chats.message(form, report)
