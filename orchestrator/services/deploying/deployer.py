"""Deploying: what a passed run left goes to a server, whole or not at all.

The release's name is in the database before anything is sent, so a try that was cut off is continued under
the same name; ``current`` changes in one atomic step, after every hash was compared on the far side.
"""

from __future__ import annotations

import logging

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
    DeploymentError,
    InvalidInput,
    NotFound,
    ServerRejected,
    ServerUnavailable,
    TransferCorrupted,
)
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Run
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore, Clock, ReleaseTarget, Servers
from orchestrator.services.acting.act import Acted
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.gather import Gatherer

log = logging.getLogger(__name__)

_SWITCHED = frozenset({DeploymentState.ACTIVATING, DeploymentState.BAKING})
_ON_THE_WAY = frozenset({DeploymentState.QUEUED, DeploymentState.UPLOADING, DeploymentState.VERIFYING})


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
        self._servers = servers
        self._gatherer = gatherer
        self._clock = clock
        self._progress = progress

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
            return Acted(_action_state(deployment), deployment.message or _sentence(deployment))
        newer = self._newer(run, spec.server)
        if newer:
            return self._superseded(lease, deployment, newer)
        try:
            return self._deploy(lease, run, pipeline, spec, deployment)
        except (ServerRejected, TransferCorrupted, DatasetError, NotFound, InvalidInput) as error:
            if isinstance(error, DatasetUnavailable) and not isinstance(error, DatasetRefused):
                raise
            return self._failed(lease, deployment, str(error))

    def give_up(self, lease: Lease, error: str) -> None:
        """The last try was in vain: the deployment has failed."""
        deployment = self._begun(lease)
        if deployment is not None and not deployment.state.final:
            self._failed(lease, deployment, error)

    def _begun(self, lease: Lease) -> Deployment | None:
        return next(iter(self._store.deployments.of_action(lease.id)), None)

    def _failed(self, lease: Lease, deployment: Deployment, message: str) -> Acted:
        current = self._begun(lease) or deployment
        if current.state in _SWITCHED:
            # The switch may have happened although its answer was lost: what is live decides, not our memory.
            try:
                with self._servers.target(current.server) as target:
                    live = target.current() == current.release
            except DeploymentError as error:
                message = f"{message}; whether it is live could not be found out: {error}"
            else:
                if live:
                    return self._found_live(lease, current)
        self._move(lease, current, DeploymentState.FAILED, message)
        return Acted(ActionState.FAILED, message)

    def _found_live(self, lease: Lease, deployment: Deployment) -> Acted:
        if deployment.state is DeploymentState.ACTIVATING:
            deployment = self._move(lease, deployment, DeploymentState.BAKING)
        self._move(lease, deployment, DeploymentState.ACTIVE, _sentence(deployment))
        return Acted(ActionState.DONE, _sentence(deployment))

    def _deploy(
        self, lease: Lease, run: Run, pipeline: Pipeline, spec: DeployAction, deployment: Deployment
    ) -> Acted:
        # Opened before anything is sent: what lacks shows itself at once, and nothing is half done then.
        with Contents(self._blobs) as contents:
            if deployment.state in _ON_THE_WAY:
                self._gatherer.gather(contents, run, pipeline, spec, deployment)
            with self._servers.target(spec.server) as target:
                if deployment.state in _ON_THE_WAY:
                    deployment = self._transfer(lease, deployment, contents, target)
                    newer = self._newer(run, spec.server)
                    if newer:
                        return self._superseded(lease, deployment, newer)
                    deployment = self._move(lease, deployment, DeploymentState.ACTIVATING)
                if deployment.state is DeploymentState.ACTIVATING:
                    target.activate(deployment.release)
                    deployment = self._move(lease, deployment, DeploymentState.BAKING)
                deployment = self._move(lease, deployment, DeploymentState.ACTIVE, _sentence(deployment))
                self._prune(target, spec.server)
        return Acted(ActionState.DONE, _sentence(deployment))

    def _transfer(
        self, lease: Lease, deployment: Deployment, contents: Contents, target: ReleaseTarget
    ) -> Deployment:
        """Send and verify. Where a try was cut off in between, all is sent again: a report that was rendered
        anew need not be the one that lies there.
        """
        files = contents.files
        if deployment.state is DeploymentState.QUEUED:
            deployment = self._move(lease, deployment, DeploymentState.UPLOADING)
        target.upload(deployment.release, files, contents.open, self._progress)
        if deployment.state is DeploymentState.UPLOADING:
            deployment = self._move(lease, deployment, DeploymentState.VERIFYING)
        target.verify(deployment.release, files)
        return deployment

    def _newer(self, run: Run, server: str) -> str:
        """Which release of a newer change is live on a server; empty when none is."""
        live = self._store.deployments.live(run.pipeline, server)
        if live is None or not is_superseded(run.change.rank, live):
            return ""
        return f"release {live.release}, of a newer change, is live on {server}"

    def _superseded(self, lease: Lease, deployment: Deployment, newer: str) -> Acted:
        self._move(lease, deployment, DeploymentState.SUPERSEDED, newer)
        return Acted(ActionState.SKIPPED, newer)

    def _prune(self, target: ReleaseTarget, server: str) -> None:
        try:
            removed = target.prune(self._servers.keep(server))
        except (ServerRejected, ServerUnavailable) as error:
            # The release is live; old ones that could not be removed change nothing about that.
            log.warning("%s: old releases were not removed: %s", server, error)
            return
        if removed:
            log.info("%s: removed old releases %s", server, ", ".join(removed))

    def _move(
        self, lease: Lease, deployment: Deployment, state: DeploymentState, message: str = ""
    ) -> Deployment:
        log.info("%s on %s: %s %s", deployment.release, deployment.server, state.value, message)
        return self._store.deployments.move(lease, deployment, state, self._clock.now(), message)


def _action_state(deployment: Deployment) -> ActionState:
    match deployment.state:
        case DeploymentState.ACTIVE | DeploymentState.RETIRED:
            return ActionState.DONE
        case DeploymentState.SUPERSEDED | DeploymentState.REJECTED | DeploymentState.CANCELLED:
            return ActionState.SKIPPED
        case _:
            return ActionState.FAILED


def _sentence(deployment: Deployment) -> str:
    return f"release {deployment.release} went live on {deployment.server}"
