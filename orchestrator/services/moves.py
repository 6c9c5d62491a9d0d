"""Moves: what becomes of a ref that moved. A run of its newest commit, one of each, or none, and then why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.domain.change import TAGS, Commit, Refs, Revision
from orchestrator.domain.errors import RevisionTooLarge
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.trigger import any_counts, newest_wanted, skip_words
from orchestrator.ports.world import SourceControl
from orchestrator.services.heads import Head, main_of

MOST_COMMITS: Final = 100
"""So many commits of one push are looked at; what lies before them runs with the oldest of these."""


@dataclass(frozen=True, slots=True)
class Step:
    """The head comes to ``commit``, and with that comes a run of ``revision``, or none: ``why_not``."""

    commit: str
    revision: Revision | None
    why_not: str = ""
    note: str = ""


class Moves:
    """Applies a source's rules to a head that moved."""

    def __init__(self, sources: SourceControl) -> None:
        self._sources = sources

    def steps(self, source: SourceSpec, refs: Refs, head: Head, old: str | None) -> list[Step]:
        """From the commit that was seen last to the head's, in order; ``old`` None: the ref is new.

        What a fork proposes is looked at before anybody approves it, as a stranger's: within bounds.

        Raises RevisionGone when the head has moved on meanwhile, and other SourceErrors.
        """
        if head.pull is None or not head.pull.fork:
            return self._steps(source, refs, head, old)
        try:
            return self._steps(replace(source, strangers=True), refs, head, old)
        except RevisionTooLarge as error:
            return [Step(head.commit, None, f"{error.message}: {error.remedy}")]

    def _steps(self, source: SourceSpec, refs: Refs, head: Head, old: str | None) -> list[Step]:
        tip = self._sources.fetch(source, head.commit, head.ref)
        note = ""
        if old is not None and not self._sources.is_ancestor(source, old, head.commit):
            note = f"the history of {head.ref} was rewritten"
        if head.ref.startswith(TAGS):
            # A tag is a wish of its own, whatever the message of its commit says and whichever files changed.
            return [Step(head.commit, tip, note=note)]
        # A head that went back has no new commits.
        commits = self._sources.commits(source, old, head.commit, MOST_COMMITS) or self._sources.commits(
            source, None, head.commit, 1
        )
        if source.every_commit and old is not None and head.pull is None:
            return self._each(source, head, old, commits, note)
        return [self._newest(source, refs, head, old, tip, commits, note)]

    def _newest(
        self,
        source: SourceSpec,
        refs: Refs,
        head: Head,
        old: str | None,
        tip: Revision,
        commits: Sequence[Commit],
        note: str,
    ) -> Step:
        wanted = newest_wanted(commits)
        if wanted is None:
            return Step(head.commit, None, _says_no(commits[0] if commits else Commit(head.commit, "")))
        base = self._base(source, refs, head, old) if source.paths else None
        if (why_not := self._no_file_counts(source, base, wanted.commit)) is not None:
            return Step(head.commit, None, why_not)
        if wanted.commit == head.commit:
            return Step(head.commit, tip, note=note)
        told = f"{wanted.commit[:8]} is the newest commit whose message asks for a run"
        note = f"{note}; {told}" if note else told
        return Step(head.commit, self._sources.fetch(source, wanted.commit, head.ref), note=note)

    def _each(
        self, source: SourceSpec, head: Head, old: str, commits: Sequence[Commit], note: str
    ) -> list[Step]:
        steps = []
        before = old
        for commit in reversed(commits):
            if skip_words(commit.message):
                steps.append(Step(commit.commit, None, _says_no(commit)))
            elif (why_not := self._no_file_counts(source, before, commit.commit)) is not None:
                steps.append(Step(commit.commit, None, why_not))
            else:
                revision = self._sources.fetch(source, commit.commit, head.ref)
                steps.append(Step(commit.commit, revision, note=note))
            before, note = commit.commit, ""
        return steps

    def _base(self, source: SourceSpec, refs: Refs, head: Head, old: str | None) -> str | None:
        """The commit since which the files of a head have changed; None: nobody can say."""
        if head.pull is not None:
            other = head.pull.base
        elif old is not None:
            return old
        else:
            other = main_of(refs.branches, refs.default)
        if other == head.ref or other not in refs.branches:
            return None
        commit = refs.branches[other]
        self._sources.fetch(source, commit, other)
        return self._sources.merge_base(source, commit, head.commit)

    def _no_file_counts(self, source: SourceSpec, base: str | None, commit: str) -> str | None:
        """Why the files that changed make no run, or None when they do, or nobody can say which did."""
        if not source.paths or base is None:
            return None
        paths = self._sources.changed_paths(source, base, commit)
        if paths is None or any_counts(paths, source.paths):
            return None
        if not paths:
            return f"{commit[:8]} changes no file"
        files = f"{len(paths)} files" if len(paths) > 1 else "one file"
        return f"{commit[:8]} changes {files}, and none that counts"


def _says_no(commit: Commit) -> str:
    return f"{skip_words(commit.message)} in the message of {commit.commit[:8]}"
