"""What an action takes from its run, whatever it does with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.domain import action_spec
from orchestrator.domain.action import Action
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.run import Run
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.gather import Gatherer


class Results:
    """Opens what actions take from runs."""

    def __init__(self, store: Store, blobs: BlobStore, gatherer: Gatherer) -> None:
        self._store = store
        self._blobs = blobs
        self._gatherer = gatherer

    @contextmanager
    def of(self, run: Run, action: Action, wanted: action_spec.Contents) -> Iterator[Contents]:
        """All of it, with a manifest that names the action's key. Raises as :meth:`Gatherer.gather`."""
        pipeline = self._store.runs.definition(run.id)
        spec = DeployAction(
            "",
            wanted.files,
            wanted.data,
            wanted.report,
            metrics=wanted.metrics,
            code=wanted.code,
            templates=wanted.templates,
        )
        # No row of the database: it only names what is gathered.
        named = Deployment(
            0, run.id, action.id, run.pipeline, "", action.key, DeploymentState.QUEUED, run.change.rank
        )
        with Contents(self._blobs) as contents:
            self._gatherer.gather(contents, run, pipeline, spec, named)
            yield contents
