"""Deploying: what a passed run left goes to a server, whole or not at all.

The release's name is in the database before anything is sent, so a try that was cut off is continued under
the same name.
"""

from __future__ import annotations

import logging
from functools import partial

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.deployment import (
    Deployment,
    DeploymentState,
    is_superseded,
    release_name,
    why_not_deploy,
)
from orchestrator.domain.errors import (
    DatasetError,
    DatasetRefused,
    DatasetUnavailable,
    InvalidInput,
    NotFound,
)
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Run
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore, Clock, Servers
from orchestrator.services.acting.act import Acted
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.deploying.site import ON_THE_WAY, Site

log = logging.getLogger(__name__)


class Deployer:
    """Carries out deploy actions under their lease: an Act."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        servers: Servers,
        gatherer: Gatherer,
        clock: Clock,
        progress: ProgressSink,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._gatherer = gatherer
        self._clock = clock
        self._site = Site(store, servers, clock, progress)

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted:
        """Deploy a run.

        Raises ServerUnavailable or DatasetUnavailable when another try may help; the caller postpones. A
        refusal is a value.
        """
        spec = action.spec
        if not isinstance(spec, DeployAction):
            raise TypeError(f"{action.key} is no deployment")
        pipeline = self._store.runs.definition(run.id)
        refusal = why_not_deploy(run, pipeline)
        if refusal is not None:
            return Acted(ActionState.SKIPPED, refusal)
        deployment = self._begun(lease)
        if deployment is None:
            name = release_name(run, self._clock.now())
            deployment = self._store.deployments.begin(lease, run, spec.server, name, self._clock.now())
        if deployment.state is DeploymentState.ACTIVE or deployment.state.final:
            return _acted(deployment)
        newer = self._newer(run, spec.server)
        if newer:
            return self._superseded(lease, deployment, newer)
        try:
            return _acted(self._deploy(lease, run, pipeline, spec, deployment))
        except (DatasetError, NotFound, InvalidInput) as error:
            if isinstance(error, DatasetUnavailable) and not isinstance(error, DatasetRefused):
                raise
            return _acted(self._site.give_up(lease, deployment, str(error)))

    def give_up(self, lease: Lease, error: str) -> None:
        """The last try was in vain: the deployment has failed."""
        deployment = self._begun(lease)
        if deployment is not None:
            self._site.give_up(lease, deployment, error)

    def _begun(self, lease: Lease) -> Deployment | None:
        return next(iter(self._store.deployments.of_action(lease.id)), None)

    def _deploy(
        self, lease: Lease, run: Run, pipeline: Pipeline, spec: DeployAction, deployment: Deployment
    ) -> Deployment:
        # Opened before anything is sent: what lacks shows itself at once, and nothing is half done then.
        with Contents(self._blobs) as contents:
            if deployment.state in ON_THE_WAY:
                self._gatherer.gather(contents, run, pipeline, spec, deployment)
            return self._site.deploy(lease, deployment, contents, partial(self._newer, run, spec.server))

    def _newer(self, run: Run, server: str) -> str:
        """Which release of a newer change is live on a server; empty when none is."""
        live = self._store.deployments.live(run.pipeline, server)
        if live is None or not is_superseded(run.change.rank, live):
            return ""
        return f"release {live.release}, of a newer change, is live on {server}"

    def _superseded(self, lease: Lease, deployment: Deployment, newer: str) -> Acted:
        state = DeploymentState.SUPERSEDED
        log.info("%s on %s: %s", deployment.release, deployment.server, newer)
        self._store.deployments.move(lease, deployment, state, self._clock.now(), newer)
        return Acted(ActionState.SKIPPED, newer)


def _acted(deployment: Deployment) -> Acted:
    return Acted(_action_state(deployment), deployment.message, deployment.output)


def _action_state(deployment: Deployment) -> ActionState:
    match deployment.state:
        case DeploymentState.ACTIVE | DeploymentState.RETIRED:
            return ActionState.DONE
        case DeploymentState.SUPERSEDED | DeploymentState.REJECTED | DeploymentState.CANCELLED:
            return ActionState.SKIPPED
        case _:
            return ActionState.FAILED
