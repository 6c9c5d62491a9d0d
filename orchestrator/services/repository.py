"""Repositories that say themselves what runs: their pipelines come and go with their commits.

The file of a commit defines what that commit runs. A pull request is run as the branch defines it that it is
to be merged into, so that nobody gets more by changing the file than whoever may push to that branch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.domain.change import PullRequest, Refs, Revision
from orchestrator.domain.errors import (
    InvalidInput,
    OrchestratorError,
    RevisionGone,
    SourceError,
)
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.ports.world import SourceControl
from orchestrator.services.detect import Detector
from orchestrator.services.heads import main_of
from orchestrator.services.watches import Sight

MAX_BYTES: Final = 256 * 1024
_REMEMBERED: Final = 256
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Defined:
    """What a commit's file defines: pipelines by name, or what is wrong with it, a line each."""

    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    there: bool = True
    """Whether the commit has such a file at all."""


Read = Callable[[bytes], Defined]
Tell = Callable[[SourceSpec, str, Sequence[str]], None]
"""Shows on a commit what is wrong with its file; nothing is wrong when the list is empty."""


class RepositoryPipelines:
    """The pipelines of one repository, as its own file defines them. Thread-safe.

    ``read`` judges a file by what was granted to the repository; it raises nothing.
    """

    def __init__(
        self,
        name: str,
        source: SourceSpec,
        file: str,
        sources: SourceControl,
        read: Read,
        tell: Tell,
        deploy_branches: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.source = source
        self._deploy_branches = tuple(deploy_branches)
        self._file = file
        self._sources = sources
        self._read = read
        self._tell = tell
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Defined] = OrderedDict()
        self._told: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._branches: Mapping[str, str] = {}
        self._seen: tuple[tuple[tuple[str, str], ...], Mapping[str, Pipeline], tuple[str, ...]] | None = None
        """The heads of the last look, with what it found: nothing is asked anew while none of them moves."""

    @property
    def now(self) -> Mapping[str, Pipeline]:
        """The pipelines that the last look found, by name."""
        with self._lock:
            return {} if self._seen is None else self._seen[1]

    def look(self, refs: Refs | None = None) -> tuple[Mapping[str, Pipeline], tuple[str, ...]]:
        """The pipelines of all watched branches by name, and what is wrong with their files.

        The main branch defines those that several have: the first that may deploy, else the default one. What
        only another branch defines has neither schedules nor upstreams: such runs are of the main branch's
        code and may deploy, so who may write another branch must not make any. Raises SourceError when the
        repository cannot be asked.
        """
        refs = refs if refs is not None else self._sources.refs(self.source)
        found: dict[str, Pipeline] = {}
        wrong: list[str] = []
        branches = self._in_order(refs)
        heads = tuple((branch, refs.branches[branch]) for branch in branches)
        with self._lock:
            # Pull requests may be against branches that are not watched: these move by themselves.
            self._branches = dict(refs.branches)
            if self._seen is not None and self._seen[0] == heads:
                return self._seen[1:]
        for branch, commit in heads:
            try:
                revision = self._sources.fetch(self.source, commit, branch)
            except RevisionGone:
                continue  # the branch moved on, and the next look sees where to
            defined = self._at(revision)
            for name, pipeline in defined.pipelines.items():
                if branch != branches[0]:
                    pipeline = replace(pipeline, schedules=(), after=())
                found.setdefault(name, pipeline)
            wrong += [f"{branch} at {revision.short}: {problem}" for problem in defined.problems]
            self._tell_once(branch, commit, defined)
        if not found and not wrong:
            wrong.append(f"no watched branch of {self.source.location} has a file {self._file}")
        with self._lock:
            self._seen = heads, found, tuple(wrong)
        return found, tuple(wrong)

    def refs(self) -> Refs:
        """What the repository has now. Raises SourceError."""
        return self._sources.refs(self.source)

    def define(self, pipeline: str, revision: Revision) -> Pipeline | str:
        """A pipeline as it is to run a revision, or why it does not.

        Raises SourceError when that cannot be found out.
        """
        judged = revision if revision.pull is None else self._base_of(revision.pull)
        if judged is None:
            return "the branch that it is to be merged into is gone"
        defined = self._at(judged)
        if defined.problems:
            self._tell(self.source, revision.commit, defined.problems)
            return f"{self._file} at {judged.short} is wrong: {defined.problems[0]}"
        if pipeline not in defined.pipelines:
            return f"{self._file} at {judged.short} has no such pipeline"
        return defined.pipelines[pipeline]

    def _in_order(self, refs: Refs) -> list[str]:
        watched = [branch for branch in refs.branches if self.source.watches(branch)]
        deployed = [branch for branch in self._deploy_branches if branch in watched]
        main = deployed[0] if deployed else main_of(watched, refs.default) if watched else ""
        return sorted(watched, key=lambda branch: (branch != main, branch))

    def _base_of(self, pull: PullRequest) -> Revision | None:
        branches = self._branches or self._sources.refs(self.source).branches
        commit = branches.get(pull.base)
        return None if commit is None else self._sources.fetch(self.source, commit, pull.base)

    def _at(self, revision: Revision) -> Defined:
        with self._lock:
            if revision.commit in self._known:
                self._known.move_to_end(revision.commit)
                return self._known[revision.commit]
        try:
            raw = self._sources.read(self.source, revision.commit, self._file, MAX_BYTES)
        except InvalidInput as error:
            defined = Defined(problems=(str(error),))
        else:
            defined = Defined(there=False) if raw is None else self._read(raw)
        with self._lock:
            self._known[revision.commit] = defined
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return defined

    def _tell_once(self, branch: str, commit: str, defined: Defined) -> None:
        """Tell of a commit's file when it is first seen; good ones only after a bad one."""
        before = self._told.get(branch)
        if before is not None and before[0] == commit:
            return
        if defined.problems or (before is not None and before[1]):
            self._tell(self.source, commit, defined.problems)
        self._told[branch] = (commit, defined.problems)


class RepositoryLooks:
    """Looks at a repository with a file of its own. ``changed`` is given the pipelines that there are now."""

    def __init__(
        self,
        repository: RepositoryPipelines,
        detector: Detector,
        changed: Callable[[Mapping[str, Pipeline]], None],
    ) -> None:
        self._repository = repository
        self._detector = detector
        self._changed = changed

    def look(self) -> Sight:
        """Enqueue a run for each ref that moved and counts, of each pipeline.

        Raises SourceError, and InvalidInput with what is wrong with the repository's files:
        each after what is right was looked at.
        """
        refs = self._repository.refs()
        pipelines, wrong = self._repository.look(refs)
        self._changed(pipelines)
        found, again = False, None
        trouble: OrchestratorError | None = None
        for pipeline in pipelines.values():
            source = pipeline.sources[0]
            try:
                found = bool(self._detector.poll_source(pipeline, source, refs)) or found
            except SourceError as error:
                trouble = trouble or error
            waits = self._detector.again(pipeline, source)
            again = waits if again is None else again if waits is None else min(again, waits)
        if trouble is not None:
            raise trouble
        if wrong:
            shown = "; ".join(wrong[:_SHOWN]) + (" …" if len(wrong) > _SHOWN else "")
            raise InvalidInput(
                shown,
                "`orchestrator validate --repository DIR` shows all that is wrong in a checkout",
            )
        return Sight(found, again)
