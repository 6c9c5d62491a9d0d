"""One server of a deployment: a release is brought there, switched to, and put back when it does not serve.

What is to happen is in the database before it happens, so a try that was cut off anywhere is continued: the
same release, the same step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.errors import (
    DeploymentError,
    InvalidInput,
    NotFound,
    ServerRejected,
    ServerUnavailable,
    TransferCorrupted,
)
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, ReleaseTarget, Servers
from orchestrator.services.contents import Contents

log = logging.getLogger(__name__)

ON_THE_WAY = frozenset({DeploymentState.QUEUED, DeploymentState.UPLOADING, DeploymentState.VERIFYING})
"""Nothing has been switched yet, so what the release holds is needed."""
_SWITCHED = frozenset({DeploymentState.ACTIVATING, DeploymentState.BAKING})


class Site:
    """Deploys to one server at a time, under the lease of the action that the deployment belongs to."""

    def __init__(self, store: Store, servers: Servers, clock: Clock, progress: ProgressSink) -> None:
        self._store = store
        self._servers = servers
        self._clock = clock
        self._progress = progress

    def deploy(
        self,
        lease: Lease,
        deployment: Deployment,
        contents: Contents | None,
        superseded: Callable[[], str] = lambda: "",
    ) -> Deployment:
        """Bring a release to its server and make it live, or leave the server as it was.

        It comes back in a state that is final, with a message. ``contents`` is what the release holds; None
        when it lies on the server already and is only to be switched to; not looked at once it was sent.
        ``superseded`` is asked just before the switch: why the release is not wanted any more, or "".
        Raises ServerUnavailable when another try may help, which goes on where this one stopped.
        """
        if deployment.state.final:
            return deployment
        try:
            with self._servers.target(deployment.server) as target:
                return self._carry(lease, deployment, contents, superseded, target)
        except (ServerRejected, TransferCorrupted, NotFound, InvalidInput) as error:
            return self.give_up(lease, deployment, str(error))

    def put_back(self, lease: Lease, deployment: Deployment) -> Deployment:
        """Take a release of this action back, though it serves: the one before it becomes live again.

        Raises ServerUnavailable when another try may help.
        """
        if deployment.state is not DeploymentState.ACTIVE:
            return deployment
        with self._servers.target(deployment.server) as target:
            target.activate(deployment.previous)
        said = f"release {deployment.previous} is live again"
        return self._move(lease, deployment, DeploymentState.ROLLED_BACK, said)

    def give_up(self, lease: Lease, deployment: Deployment, message: str) -> Deployment:
        """No further try: the record says what is live as found on the server."""
        current = self._now(lease, deployment)
        if current.state.final:
            return current
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
        return self._move(lease, current, DeploymentState.FAILED, message)

    def _carry(
        self,
        lease: Lease,
        deployment: Deployment,
        contents: Contents | None,
        superseded: Callable[[], str],
        target: ReleaseTarget,
    ) -> Deployment:
        if deployment.state in ON_THE_WAY:
            if contents is not None:
                deployment = self._transfer(lease, deployment, contents, target)
            if newer := superseded():
                return self._move(lease, deployment, DeploymentState.SUPERSEDED, newer)
            before = target.current() or ""
            deployment = self._move(lease, deployment, DeploymentState.ACTIVATING, previous=before)
        if deployment.state is DeploymentState.ACTIVATING:
            target.activate(deployment.release)
            deployment = self._move(lease, deployment, DeploymentState.BAKING)
        deployment = self._move(lease, deployment, DeploymentState.ACTIVE, _sentence(deployment))
        self._prune(target, deployment.server)
        return deployment

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

    def _found_live(self, lease: Lease, deployment: Deployment) -> Deployment:
        if deployment.state is DeploymentState.ACTIVATING:
            deployment = self._move(lease, deployment, DeploymentState.BAKING)
        return self._move(lease, deployment, DeploymentState.ACTIVE, _sentence(deployment))

    def _now(self, lease: Lease, deployment: Deployment) -> Deployment:
        known = self._store.deployments.of_action(lease.id)
        return next((row for row in known if row.id == deployment.id), deployment)

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
        self,
        lease: Lease,
        deployment: Deployment,
        state: DeploymentState,
        message: str = "",
        *,
        previous: str | None = None,
    ) -> Deployment:
        log.info("%s on %s: %s %s", deployment.release, deployment.server, state.value, message)
        now = self._clock.now()
        return self._store.deployments.move(lease, deployment, state, now, message, previous=previous)


def _sentence(deployment: Deployment) -> str:
    return f"release {deployment.release} went live on {deployment.server}"
