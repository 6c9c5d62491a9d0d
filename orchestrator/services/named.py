"""What somebody names: which commit that is, whether strangers may have written it, whose file defines it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from orchestrator.domain.change import PULLS, TAGS, Revision
from orchestrator.domain.errors import NotFound
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.run import Purpose, Run
from orchestrator.domain.trigger import may_be_strangers
from orchestrator.ports.store import Store
from orchestrator.ports.world import SourceControl
from orchestrator.services.making import Maker

_LOOKED_THROUGH: Final = 100
"""So many of the newest runs may tell how old a commit is; it is older than what is not among them."""


@dataclass(frozen=True, slots=True)
class Named:
    """A revision that is asked for. ``defined_by`` says what runs: never a stranger's own file."""

    source: SourceSpec
    revision: Revision
    defined_by: Revision
    strangers: bool = False
    """Whether it runs as a stranger's, where the pull request does not tell so already."""
    rank: int | None = None
    """How new its change is; None: as the newest."""
    age: str = ""
    """Where it is not the newest of its branch: what follows from that."""

    @property
    def note(self) -> str:
        """Why it runs with less than others, and what to do about it."""
        if not self.strangers:
            return self.age
        return (
            f"no branch and no watched tag of {self.source.name} has this commit, so strangers may have "
            "written it: it runs without secrets and deploys nothing; push it to a branch to run it with them"
        )


class Names:
    """Finds what people and programs name. Thread-safe."""

    def __init__(self, store: Store, sources: SourceControl, maker: Maker) -> None:
        self._store = store
        self._sources = sources
        self._maker = maker

    def of_ref(self, pipeline: Pipeline, ref: str | None) -> Named:
        """A ref, or the branch that is deployed. Raises SourceError, or NotFound when there is none such."""
        source = pipeline.sources[0]
        if ref is None:
            found = self._sources.resolve(source, self._maker.default_branch(pipeline, source))
            return self._judged(pipeline, source, found)
        found = self._sources.resolve(source, ref)
        return self._aged(pipeline, self._judged(pipeline, source, self._with_pull(source, found)))

    def of_run(self, pipeline: Pipeline, run: Run) -> Named:
        """What a run was of. What ran as a stranger's does so again, whoever asks. Raises SourceError."""
        revision = run.change.revision
        source = pipeline.source_named(revision.source) or pipeline.sources[0]
        return self._judged(pipeline, source, revision, self._store.runs.definition(run.id).untrusted)

    def _judged(
        self, pipeline: Pipeline, source: SourceSpec, revision: Revision, strangers: bool = False
    ) -> Named:
        if revision.pull is not None:
            return Named(source, revision, revision)
        if not revision.branch and not strangers:
            tags = sorted(self._sources.refs(source).tags.items())
            tag = next((name for name, commit in tags if commit == revision.commit), None)
            if tag is not None:
                revision = replace(revision, branch=f"{TAGS}{tag}")
        if not strangers and not may_be_strangers(revision.branch):
            return Named(source, revision, revision)
        main = self._sources.resolve(source, self._maker.default_branch(pipeline, source))
        return Named(source, revision, main, strangers=True)

    def _aged(self, pipeline: Pipeline, named: Named) -> Named:
        """The same with its rank: what is not the newest of its branch must not count as newer than what ran
        after it.
        """
        source, revision = named.source, named.revision
        if named.strangers or revision.pull is not None:
            return named
        if self._sources.refs(source).branches.get(revision.branch) == revision.commit:
            return named
        before = self._contained(pipeline, source, revision)
        what = f"{revision.short} is not the newest commit of a branch"
        if before is None:
            return replace(named, rank=0, age=f"{what}: it counts as older than all that ran here")
        return replace(
            named, rank=before.change.rank, age=f"{what}: it counts as no newer than {before.title}"
        )

    def _contained(self, pipeline: Pipeline, source: SourceSpec, revision: Revision) -> Run | None:
        """The newest run of the commit, or of one that it rests on."""
        runs = self._store.runs.listing(pipeline.name, limit=_LOOKED_THROUGH)
        judged: dict[str, bool] = {}
        for run in sorted(runs, key=lambda run: (-run.change.rank, run.id)):
            of = run.change.revision
            if run.purpose is not Purpose.TRAIN or of.source != source.name:
                continue
            if of.commit not in judged:
                same = of.commit == revision.commit
                judged[of.commit] = same or self._sources.is_ancestor(source, of.commit, revision.commit)
            if judged[of.commit]:
                return run
        return None

    def _with_pull(self, source: SourceSpec, revision: Revision) -> Revision:
        """A revision with the pull request whose ref it was named by, so that it runs as that one would."""
        if not revision.branch.startswith(PULLS):
            return revision
        pulls = self._sources.refs(source).pulls
        pull = next((pull for pull in pulls if pull.ref == revision.branch), None)
        if pull is None:
            raise NotFound(f"{revision.branch} is no open pull request that {source.name} shows")
        return replace(revision, pull=replace(pull, commit=revision.commit))
