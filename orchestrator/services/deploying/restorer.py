"""Rolling back: what was live before is live again, and nothing is sent where it still lies there."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import DeployAction, RollbackAction
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.environment import Environment
from orchestrator.domain.errors import (
    DatasetError,
    DatasetUnavailable,
    DeploymentError,
    NotFound,
    OrchestratorError,
    ServerUnavailable,
)
from orchestrator.domain.run import Run
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore, Clock, Servers
from orchestrator.services.acting.act import Acted, Waits
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.deploying.holding import environment_of
from orchestrator.services.deploying.site import ON_THE_WAY, Site

log = logging.getLogger(__name__)


class Restorer:
    """Carries out rollback actions under their lease: an Act. The run is the one that is gone back to."""

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        servers: Servers,
        gatherer: Gatherer,
        clock: Clock,
        site: Site,
        environments: Mapping[str, Environment],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._servers = servers
        self._gatherer = gatherer
        self._clock = clock
        self._site = site
        self._environments = environments

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted | Waits:
        """Switch every server; one that fails keeps no other one from it.

        Raises ServerUnavailable or DatasetUnavailable when another try may help those that are left.
        """
        spec = action.spec
        if not isinstance(spec, RollbackAction):
            raise TypeError(f"{action.key} is no rollback")
        environment = environment_of(self._environments, spec)
        now = self._clock.now()
        begin = self._store.deployments.begin
        rows = [begin(lease, run, s, spec.release, now, environment.name) for s in environment.servers]
        done: list[Deployment] = []
        missed: OrchestratorError | None = None
        for row in rows:
            try:
                done.append(row if row.state.final else self._restored(lease, run, row))
            except (ServerUnavailable, DatasetUnavailable) as error:
                log.warning("%s is not live on %s yet: %s", row.release, row.server, error)
                missed = missed or error
            except (DeploymentError, DatasetError) as error:
                done.append(self._site.give_up(lease, row, str(error)))
        if missed is not None:
            raise missed
        bad = [row for row in done if row.state not in (DeploymentState.ACTIVE, DeploymentState.RETIRED)]
        said = "\n".join(row.output for row in done if row.output)
        if bad:
            told = "; ".join(f"{row.server}: {row.message}" for row in bad)
            return Acted(ActionState.FAILED, told, said)
        if environment.stage is not None:
            why = f"rolled back to on {environment.title}"
            self._store.models.move(run.id, environment.stage, action.who or "orchestrator", why, now)
        return Acted(ActionState.DONE, f"{spec.release} is live again on {environment.title}", said)

    def give_up(self, lease: Lease, error: str) -> None:
        """The last try was in vain."""
        for row in self._store.deployments.of_action(lease.id):
            self._site.give_up(lease, row, error)

    def _restored(self, lease: Lease, run: Run, row: Deployment) -> Deployment:
        if row.state not in ON_THE_WAY:
            return self._site.deploy(lease, row, None)
        with self._servers.target(row.server) as target:
            kept = row.release in target.verified()
        if kept and row.state is DeploymentState.QUEUED:
            return self._site.deploy(lease, row, None)
        log.info("%s does not lie on %s any more and is sent again", row.release, row.server)
        with Contents(self._blobs) as contents:
            try:
                spec = self._made_by(row)
                pipeline = self._store.runs.definition(run.id)
                self._gatherer.gather(contents, run, pipeline, spec, row)
            except NotFound as error:
                return self._site.give_up(lease, row, str(error))
            return self._site.deploy(lease, row, contents)

    def _made_by(self, row: Deployment) -> DeployAction:
        """What the release was made by. NotFound when nobody knows any more."""
        for other in self._store.deployments.of_run(row.run_id):
            spec = self._store.actions.get(other.action_id).spec
            if other.release == row.release and isinstance(spec, DeployAction):
                return spec
        raise NotFound(f"it is not known any more what release {row.release} was made of")
