"""Deploying: what a passed run left goes to a server, whole or not at all.

The release's name is in the database before anything is sent, so a try that was cut off is continued under
the same name; ``current`` changes in one atomic step, after every hash was compared on the far side.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial

from orchestrator.domain.action import ActionState, DeployAction
from orchestrator.domain.codec import to_plain
from orchestrator.domain.deployment import (
    Deployment,
    DeploymentState,
    ReleaseFile,
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
from orchestrator.domain.globs import matches
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Attempt, Run, representative
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease, StoredArtifact
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore, Clock, DatasetSource, ReleaseTarget, Renderer, Servers
from orchestrator.services.contents import Contents
from orchestrator.services.report import ReportBuilder

log = logging.getLogger(__name__)

MANIFEST = "release.json"
REPORT = "report.html"

_SWITCHED = frozenset({DeploymentState.ACTIVATING, DeploymentState.BAKING})
_ON_THE_WAY = frozenset({DeploymentState.QUEUED, DeploymentState.UPLOADING, DeploymentState.VERIFYING})


class Deployer:
    """Carries out deploy actions under their lease."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        datasets: DatasetSource,
        servers: Servers,
        reports: ReportBuilder,
        renderer: Renderer,
        clock: Clock,
        progress: ProgressSink,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._datasets = datasets
        self._servers = servers
        self._reports = reports
        self._renderer = renderer
        self._clock = clock
        self._progress = progress

    def carry_out(self, lease: Lease, run: Run, spec: DeployAction) -> tuple[ActionState, str]:
        """Deploy a run: the action's final state with what to say about it.

        Raises ServerUnavailable or DatasetUnavailable when another try may help; the caller postpones. A
        refusal is a value.
        """
        pipeline = self._store.runs.definition(run.id)
        refusal = why_not_deploy(run, pipeline)
        if refusal is not None:
            return ActionState.SKIPPED, refusal
        deployment = self._store.deployments.of_action(lease.id)
        if deployment is None:
            name = release_name(run, self._clock.now())
            deployment = self._store.deployments.begin(lease, run, spec.server, name, self._clock.now())
        if deployment.state is DeploymentState.ACTIVE or deployment.state.final:
            return _action_state(deployment), deployment.message or _sentence(deployment)
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
        deployment = self._store.deployments.of_action(lease.id)
        if deployment is not None and not deployment.state.final:
            self._failed(lease, deployment, error)

    def _failed(self, lease: Lease, deployment: Deployment, message: str) -> tuple[ActionState, str]:
        current = self._store.deployments.of_action(lease.id) or deployment
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
        return ActionState.FAILED, message

    def _found_live(self, lease: Lease, deployment: Deployment) -> tuple[ActionState, str]:
        if deployment.state is DeploymentState.ACTIVATING:
            deployment = self._move(lease, deployment, DeploymentState.BAKING)
        self._move(lease, deployment, DeploymentState.ACTIVE, _sentence(deployment))
        return ActionState.DONE, _sentence(deployment)

    def _deploy(
        self, lease: Lease, run: Run, pipeline: Pipeline, spec: DeployAction, deployment: Deployment
    ) -> tuple[ActionState, str]:
        # Opened before anything is sent: what lacks shows itself at once, and nothing is half done then.
        with Contents(self._blobs) as contents:
            if deployment.state in _ON_THE_WAY:
                self._gather(contents, run, pipeline, spec, deployment)
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
        return ActionState.DONE, _sentence(deployment)

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

    def _superseded(self, lease: Lease, deployment: Deployment, newer: str) -> tuple[ActionState, str]:
        self._move(lease, deployment, DeploymentState.SUPERSEDED, newer)
        return ActionState.SKIPPED, newer

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

    def _gather(
        self, contents: Contents, run: Run, pipeline: Pipeline, spec: DeployAction, deployment: Deployment
    ) -> None:
        """Everything that the release holds.

        Raises NotFound when something asked for is not there, InvalidInput when an artifact lies where a
        dataset goes.
        """
        attempt = representative(self._store.attempts.of_run(run.id))
        artifacts = self._store.attempts.artifacts(attempt.id) if attempt else ()
        wanted = spec.files or ("**",)
        for pattern in spec.files:
            if not any(matches(artifact.path, (pattern,)) for artifact in artifacts):
                raise self._not_there(pattern, attempt, artifacts)
        for artifact in artifacts:
            if matches(artifact.path, wanted):
                if artifact.path.startswith(tuple(f"data/{name}/" for name in spec.data)):
                    raise InvalidInput(
                        f"the artifact {artifact.path} lies where the release holds a dataset",
                        "let the training write it elsewhere",
                    )
                contents.add_blob(artifact.path, artifact.size, artifact.sha256)
        for name in spec.data:
            self._gather_data(contents, run, pipeline, name)
        if spec.report:
            html = self._renderer.render(self._reports.build(run, releasing=deployment)).html
            contents.add_bytes(REPORT, html.encode())
        contents.add_bytes(MANIFEST, self._manifest(run, deployment, contents.files))

    def _not_there(
        self, pattern: str, attempt: Attempt | None, artifacts: Sequence[StoredArtifact]
    ) -> NotFound:
        left_out = self._store.attempts.left_out(attempt.id) if attempt else ()
        for entry in left_out:
            if matches(entry.partition(": ")[0], (pattern,)):
                return NotFound(
                    f"'{pattern}' was not kept: {entry}", "raise the limit, or let the run write less"
                )
        have = ", ".join(artifact.path for artifact in artifacts[:10]) or "nothing"
        return NotFound(f"no artifact matches '{pattern}'", f"the run left: {have}")

    def _gather_data(self, contents: Contents, run: Run, pipeline: Pipeline, name: str) -> None:
        version = run.change.version_of(name)
        dataset = pipeline.dataset_named(name)
        if version is None or dataset is None:
            raise NotFound(f"the run has no dataset {name}")
        entries = self._store.detection.manifest(dataset, version.fingerprint)
        files = self._datasets.materialise(dataset, entries, self._progress)
        contents.add_archive(
            f"data/{name}", files, partial(self._datasets.archive, dataset, files, self._progress)
        )

    def _manifest(self, run: Run, deployment: Deployment, files: tuple[ReleaseFile, ...]) -> bytes:
        attempt = representative(self._store.attempts.of_run(run.id))
        metrics = self._store.runs.metrics(run.id).get(attempt.replicate, ()) if attempt else ()
        document = {
            "release": deployment.release,
            "pipeline": run.pipeline,
            "run": run.id,
            "number": run.number,
            "commit": run.change.revision.commit,
            "branch": run.change.revision.branch,
            "data": {
                v.dataset: {"version": v.number, "fingerprint": v.fingerprint} for v in run.change.datasets
            },
            "verdict": to_plain(run.verdict),
            "metrics": {m.name: _number(m.value) for m in metrics},
            "image": attempt.image_digest if attempt else "",
            "files": {f.path: {"size": f.size, "sha256": f.sha256} for f in files},
        }
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


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


def _number(value: float) -> object:
    """A metric for JSON: whole numbers as such, NaN and the infinities as text."""
    return int(value) if value.is_integer() else to_plain(value)
