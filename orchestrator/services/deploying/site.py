"""One server of a deployment: a release is brought there, switched to, proved, and put back if it fails.

What is to happen is in the database before it happens, so a try that was cut off anywhere is continued: the
same release, the same step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from orchestrator.domain.activation import Activation
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.errors import (
    DeploymentError,
    InvalidInput,
    NotFound,
    ServerRejected,
    ServerUnavailable,
    TransferCorrupted,
)
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, ReleaseTarget, Servers
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.proving import DoesNotServe, Proof

log = logging.getLogger(__name__)

ON_THE_WAY = frozenset(
    {
        DeploymentState.QUEUED,
        DeploymentState.AWAITING_APPROVAL,
        DeploymentState.UPLOADING,
        DeploymentState.VERIFYING,
    }
)
"""Nothing has been switched yet, so what the release holds is needed."""


class Site:
    """Deploys to one server at a time, under the lease of the action that the deployment belongs to.

    ``stopping`` ends waits by Stopping, and they go on when the process runs again; ``mask`` blanks secrets
    in what is kept.
    """

    def __init__(
        self,
        store: Store,
        servers: Servers,
        clock: Clock,
        progress: ProgressSink,
        stopping: threading.Event | None = None,
        mask: Callable[[str], str] = str,
    ) -> None:
        self._store = store
        self._servers = servers
        self._clock = clock
        self._progress = progress
        self._stopping = stopping or threading.Event()
        self._mask = mask

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
            with self._visit(deployment) as visit:
                return visit.deploy(lease, deployment, contents, superseded)
        except (ServerRejected, TransferCorrupted, NotFound, InvalidInput) as error:
            return self.give_up(lease, deployment, str(error))

    def put_back(self, lease: Lease, deployment: Deployment, why: str = "it was taken back") -> Deployment:
        """Take a release of this action back, though it serves: the one before it becomes live again.

        It comes back as ROLLED_BACK, or as FAILED when even that did not succeed. One that is neither live
        nor being put back stays as it is. Raises ServerUnavailable when another try may help.
        """
        if deployment.state not in (DeploymentState.ACTIVE, DeploymentState.PUTTING_BACK):
            return deployment
        if deployment.state is DeploymentState.ACTIVE:
            deployment = self._move(lease, deployment, DeploymentState.PUTTING_BACK, why)
        try:
            with self._visit(deployment) as visit:
                return visit.put_back(lease, deployment)
        except (ServerRejected, NotFound) as error:
            return self._lost(lease, deployment, str(error))

    def give_up(self, lease: Lease, deployment: Deployment, message: str) -> Deployment:
        """No further try: it is put back if that can be done, and the record says what is live."""
        known = self._store.deployments.of_action(lease.id)
        deployment = next((row for row in known if row.id == deployment.id), deployment)
        if deployment.state.final:
            return deployment
        if deployment.state in ON_THE_WAY:
            return self._move(lease, deployment, DeploymentState.FAILED, message)
        # The switch may have happened although its answer was lost: what is live decides, not our memory.
        try:
            with self._visit(deployment) as visit:
                return visit.settle(lease, deployment, message)
        except (DeploymentError, NotFound) as error:
            known = self._store.deployments.of_action(lease.id)
            deployment = next((row for row in known if row.id == deployment.id), deployment)
            return self._lost(lease, deployment, f"{message}; {error}" if str(error) != message else message)

    @contextmanager
    def _visit(self, deployment: Deployment) -> Iterator[_Visit]:
        activation = self._servers.activation(deployment.server)
        with self._servers.target(deployment.server) as target:
            proof = Proof(target, activation, deployment, self._clock, self._stopping, self._mask)
            yield _Visit(
                target, activation, proof, self._move, self._progress, self._servers.keep, self._baking_since
            )

    def _baking_since(self, deployment: Deployment) -> datetime | None:
        """When an earlier try put it on probation; None when none did."""
        baking = DeploymentState.BAKING.value
        said = self._store.journal.of_subject(f"deployment {deployment.id}")
        return next((entry.at for entry in said if entry.after == baking), None)

    def _lost(self, lease: Lease, deployment: Deployment, message: str) -> Deployment:
        """Putting back failed too: loudly, with what is live as far as that can be found out."""
        if deployment.message and deployment.message not in message:
            message = f"{deployment.message}; {message}"
        found = None
        try:
            with self._servers.target(deployment.server) as target:
                found = target.current() or ""
            live = f"release {found} is live there" if found else "no release is live there"
        except (DeploymentError, NotFound) as error:
            live = "what is live there could not be found out"
            live += f": {error}" if str(error) not in message else ""
        message = f"{message}; {live}"
        log.error("%s on %s: %s", deployment.release, deployment.server, message)
        return self._move(lease, deployment, DeploymentState.FAILED, message, live=found)

    def _move(
        self,
        lease: Lease,
        deployment: Deployment,
        state: DeploymentState,
        message: str = "",
        *,
        previous: str | None = None,
        output: str | None = None,
        live: str | None = None,
    ) -> Deployment:
        log.info("%s on %s: %s %s", deployment.release, deployment.server, state.value, message)
        now = self._clock.now()
        return self._store.deployments.move(
            lease, deployment, state, now, message, previous=previous, output=output, live=live
        )


class _Visit:
    """What is done while the server is locked for us."""

    def __init__(
        self,
        target: ReleaseTarget,
        activation: Activation,
        proof: Proof,
        move: _Move,
        progress: ProgressSink,
        keep: Callable[[str], int],
        baking_since: Callable[[Deployment], datetime | None],
    ) -> None:
        self._target = target
        self._activation = activation
        self._proof = proof
        self._move = move
        self._progress = progress
        self._keep = keep
        self._baking_since = baking_since

    def deploy(
        self,
        lease: Lease,
        deployment: Deployment,
        contents: Contents | None,
        superseded: Callable[[], str],
    ) -> Deployment:
        """From wherever the deployment stands to its end."""
        if deployment.state is DeploymentState.PUTTING_BACK:
            return self.put_back(lease, deployment)
        if deployment.state in ON_THE_WAY:
            if self._activation.needs_commands and not self._target.shell:
                raise ServerRejected(
                    f"{deployment.server}: its account may only move files, and its activation runs commands",
                    "use an account with a shell, or leave the commands of this server out",
                )
            if contents is not None:
                deployment = self._transfer(lease, deployment, contents)
            if newer := superseded():
                return self._move(lease, deployment, DeploymentState.SUPERSEDED, newer)
            try:
                self._proof.before()
            except DoesNotServe as failure:
                said = f"nothing was switched: {failure}"
                return self._move(lease, deployment, DeploymentState.FAILED, said, output=self._proof.output)
            before = self._target.current() or ""
            deployment = self._move(
                lease, deployment, DeploymentState.ACTIVATING, previous=before, output=self._proof.output
            )
            self._proof.begin(deployment)
        elif (live := self._target.current()) not in (deployment.release, deployment.previous or None):
            said = f"release {live or 'none'} took its place before it was proved"
            return self._move(lease, deployment, DeploymentState.SUPERSEDED, said, live=live or "")
        try:
            since = self._baking_since(deployment)
            if deployment.state is DeploymentState.ACTIVATING:
                self._target.activate(deployment.release)
                self._proof.activate(deployment.release)
                self._proof.health(deployment.release)
                self._proof.smoke()
                deployment = self._move(lease, deployment, DeploymentState.BAKING, output=self._proof.output)
            self._proof.bake(since)
            self._proof.after()
        except DoesNotServe as failure:
            return self._failed(lease, deployment, str(failure))
        said = f"release {deployment.release} went live on {deployment.server}"
        deployment = self._move(lease, deployment, DeploymentState.ACTIVE, said, output=self._proof.output)
        self._prune(deployment)
        return deployment

    def put_back(self, lease: Lease, deployment: Deployment) -> Deployment:
        """Make the release before it live again. ServerRejected when that fails."""
        previous, why = deployment.previous, deployment.message
        live = self._target.current()
        if live not in (deployment.release, previous or None):
            said = f"{why}; by then release {live or 'none'} was live, and stays"
            return self._move(lease, deployment, DeploymentState.ROLLED_BACK, said, live=live or "")
        if not previous:
            self._target.withdraw(deployment.release)
            said = f"{why}; no release was live before, and none is now"
            return self._move(lease, deployment, DeploymentState.ROLLED_BACK, said, live="")
        self._target.activate(previous)
        try:
            self._proof.activate(previous)
            self._proof.health(previous)
        except DoesNotServe as failure:
            said = f"{why}; release {previous} was put back and does not serve either: {failure}"
            log.error("%s on %s: %s", deployment.release, deployment.server, said)
            state = DeploymentState.FAILED
        else:
            said = f"{why}; release {previous} is live again"
            state = DeploymentState.ROLLED_BACK
        return self._move(lease, deployment, state, said, output=self._proof.output, live=previous)

    def settle(self, lease: Lease, deployment: Deployment, message: str) -> Deployment:
        """End what was begun, as it is found: a release that is live and unproved is put back."""
        if deployment.state is DeploymentState.PUTTING_BACK:
            return self.put_back(lease, deployment)
        live = self._target.current()
        if live != deployment.release:
            said = f"{message}; release {live} is live" if live else message
            return self._move(lease, deployment, DeploymentState.FAILED, said, live=live or "")
        if self._activation.proves:
            return self._failed(lease, deployment, message)
        if deployment.state is DeploymentState.ACTIVATING:
            deployment = self._move(lease, deployment, DeploymentState.BAKING)
        said = f"release {deployment.release} went live on {deployment.server}"
        return self._move(lease, deployment, DeploymentState.ACTIVE, said)

    def _failed(self, lease: Lease, deployment: Deployment, why: str) -> Deployment:
        self._proof.logs()
        log.warning("%s on %s is put back: %s", deployment.release, deployment.server, why)
        deployment = self._move(
            lease, deployment, DeploymentState.PUTTING_BACK, why, output=self._proof.output
        )
        return self.put_back(lease, deployment)

    def _transfer(self, lease: Lease, deployment: Deployment, contents: Contents) -> Deployment:
        """Send and verify. Where a try was cut off in between, all is sent again: a report that was rendered
        anew need not be the one that lies there.
        """
        files = contents.files
        if deployment.state in (DeploymentState.QUEUED, DeploymentState.AWAITING_APPROVAL):
            deployment = self._move(lease, deployment, DeploymentState.UPLOADING)
        told: list[str] = []

        def progress(event: ProgressEvent) -> None:
            # A line beside a count only names the file that is on its way.
            if event.line and event.total is None:
                told.append(event.line)
            self._progress(event)

        self._target.upload(deployment.release, files, contents.open, progress)
        if deployment.state is DeploymentState.UPLOADING:
            # What was out of the ordinary stands in the record with this step.
            deployment = self._move(lease, deployment, DeploymentState.VERIFYING, "; ".join(told))
        self._target.verify(deployment.release, files)
        return deployment

    def _prune(self, deployment: Deployment) -> None:
        try:
            # The one before stays in any case: it is what putting back leads to.
            removed = self._target.prune(self._keep(deployment.server), (deployment.previous,))
        except (ServerRejected, ServerUnavailable) as error:
            # The release is live; old ones that could not be removed change nothing about that.
            log.warning("%s: old releases were not removed: %s", deployment.server, error)
            return
        if removed:
            log.info("%s: removed old releases %s", deployment.server, ", ".join(removed))


class _Move(Protocol):
    """Records a deployment's next state."""

    def __call__(
        self,
        lease: Lease,
        deployment: Deployment,
        state: DeploymentState,
        message: str = "",
        *,
        previous: str | None = None,
        output: str | None = None,
        live: str | None = None,
    ) -> Deployment: ...
