"""Repositories and reports without secrets, also those that no run of this process was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.bootstrap.secrets import ConfiguredSecrets
from orchestrator.domain.change import Commit, Refs, Revision
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.report import Rendered, Report
from orchestrator.observe import Masker
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

    def subjects(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[str]:
        self._secrets.learn_now_and_then()
        found = self._sources.subjects(source, older, newer, limit)
        return [self._masker.mask_text(subject) for subject in found]

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

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        self._secrets.learn_now_and_then()
        return self._masker.mask_text(self._renderer.page(report, links))
