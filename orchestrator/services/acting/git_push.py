"""Pushing: what a run left becomes a commit of a branch, or the run's commit gets a tag."""

from __future__ import annotations

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import GitAction
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import NotFound
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.placeholders import filled
from orchestrator.domain.run import Run
from orchestrator.ports.outlets import Repositories
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.results import Results

FOLDER = "results"
"""Where files go on a branch when an action does not say."""
MESSAGE = "Results of run {number} of {pipeline}"


class GitPusher:
    """Carries out git actions: an Act."""

    def __init__(self, store: Store, results: Results, repositories: Repositories) -> None:
        self._store = store
        self._results = results
        self._repositories = repositories

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted:
        """Have the commit or the tag."""
        spec = action.spec
        if not isinstance(spec, GitAction):
            raise TypeError(f"{action.key} is no push")
        pipeline = self._store.runs.definition(run.id)
        refusal = why_not_trusted(run, pipeline)
        if refusal is not None:
            return Acted(ActionState.SKIPPED, refusal)
        source = pipeline.source_named(spec.source)
        if source is None:
            raise NotFound(f"pipeline {pipeline.name} has no source {spec.source}")
        name = filled(spec.tag or spec.branch, run)
        if (source.watches_tag(name) if spec.tag else source.watches(name)) and _own(run, source):
            what = "tag" if spec.tag else "branch"
            why = f"the {what} {name} is watched by this pipeline: each push would begin the next run"
            return Acted(ActionState.FAILED, f"{why}; name another one, or exclude it with '!{name}'")
        message = filled(spec.message or MESSAGE, run)
        if spec.tag:
            commit = run.change.revision.commit
            if not _own(run, source):
                raise NotFound(f"the run's commit is of {run.change.revision.source}, not of {source.name}")
            pushed = self._repositories.tag(source, name, commit, message)
            told = f"tag {name} of {source.name} is at {commit[:12]}"
        else:
            with self._results.of(run, action, spec.contents) as contents:
                pushed = self._repositories.commit(
                    source,
                    name,
                    filled(spec.folder or FOLDER, run),
                    contents.files,
                    contents.open,
                    message,
                    # Each database counts its runs from one, and several may push to one branch.
                    f"{self._store.instance}/{action.key}",
                )
            told = f"commit {pushed.commit[:12]} is on branch {name} of {source.name}"
        return Acted(ActionState.DONE, told if pushed.made else f"{told}, and was there already")

    def give_up(self, lease: Lease, error: str) -> None:
        """Nothing was begun that has to be told as failed."""


def _own(run: Run, source: SourceSpec) -> bool:
    return run.change.revision.source == source.name
