"""Deploying: what a passed run left goes to a server, or to all servers of an environment, or to none.

The rows of all servers are in the database before anything is sent, under one name of the release. A try that
was cut off is continued from them. What fails on one server is taken back from those that changed before it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from orchestrator.domain.action import Action, ActionState, Trigger, most_tries
from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.deployment import (
    Deployment,
    DeploymentState,
    is_superseded,
    release_name,
    why_not_deploy,
)
from orchestrator.domain.environment import Environment
from orchestrator.domain.errors import (
    DatasetError,
    DatasetRefused,
    DatasetUnavailable,
    DeploymentError,
    InvalidInput,
    NotFound,
    ServerUnavailable,
)
from orchestrator.domain.run import Run
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore, Clock, Servers
from orchestrator.services.acting.act import Acted, Waits
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.deploying.holding import UNTOUCHED, Holding, environment_of
from orchestrator.services.deploying.site import ON_THE_WAY, Site

log = logging.getLogger(__name__)

_REACHED = frozenset({DeploymentState.ACTIVE, DeploymentState.RETIRED})
_DECISION = 600.0
_SERVES = frozenset({DeploymentState.ACTIVE, DeploymentState.PUTTING_BACK})
_BAD = frozenset({DeploymentState.FAILED, DeploymentState.ROLLED_BACK, DeploymentState.PUTTING_BACK})
_NOT_BEGUN = UNTOUCHED | {DeploymentState.CANCELLED, DeploymentState.REJECTED}
_PATIENCE = timedelta(days=1)
"""How long after a release went live it is tried to take it back from a server that does not answer."""
_AGAIN = 300.0


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
        environments: Mapping[str, Environment] = MappingProxyType({}),
        site: Site | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._gatherer = gatherer
        self._clock = clock
        self._environments = environments
        self._holding = Holding(store, clock, environments)
        self._site = site or Site(store, servers, clock, progress)

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted | Waits:
        """Deploy a run.

        Raises ServerUnavailable or DatasetUnavailable when another try may help; the caller postpones. A
        refusal is a value.
        """
        spec = action.spec
        if not isinstance(spec, DeployAction):
            raise TypeError(f"{action.key} is no deployment")
        refusal = why_not_deploy(run, self._store.runs.definition(run.id))
        if refusal is not None:
            return self._stopped(lease, DeploymentState.CANCELLED, refusal)
        environment = environment_of(self._environments, spec)
        try:
            return self._carried_out(lease, run, action, environment)
        except (ServerUnavailable, DatasetUnavailable) as error:
            if action.tries < most_tries(spec):
                raise
            return self._in_vain(lease, environment, error)

    def _carried_out(self, lease: Lease, run: Run, action: Action, environment: Environment) -> Acted | Waits:
        rows = self._begun(lease, run, environment)
        # Once a server was reached, a person has decided: what was cancelled before that decides nothing.
        if all(row.state in _NOT_BEGUN for row in rows):
            held = self._holding.held(run, action, environment)
            match held:
                case Waits():
                    return held
                case (DeploymentState() as state, str() as why):
                    if state is DeploymentState.AWAITING_APPROVAL:
                        self._all_to(lease, rows, state, why)
                        # A decision makes it due at once, unless it comes just now.
                        return Waits(why, _DECISION)
                    return self._stopped(lease, state, why)
        return self._roll_out(lease, run, action, environment, rows)

    def give_up(self, lease: Lease, error: str) -> None:
        """The last try was in vain: what is not done has failed, and the rest is taken back."""
        rows = [self._site.give_up(lease, row, error) for row in self._store.deployments.of_action(lease.id)]
        if not any(row.state in _BAD for row in rows):
            return
        for row in reversed(rows):
            try:
                self._site.put_back(lease, row, "another server failed")
            except DeploymentError as trouble:
                # Nobody takes the action up again: the record has to end, with what is live as far as known.
                self._site.give_up(lease, row, str(trouble))

    def _in_vain(
        self, lease: Lease, environment: Environment, error: ServerUnavailable | DatasetUnavailable
    ) -> Acted | Waits:
        """As :meth:`give_up`, but what serves elsewhere is taken back with patience: its server may answer
        again, and would serve another release than its company until then.
        """
        for row in self._ordered(lease, environment):
            if not row.state.final and row.activated_at is None:
                log.error("%s on %s is given up: %s", row.release, row.server, error)
                self._site.give_up(lease, row, str(error))
                break
        rows = self._ordered(lease, environment)
        if not any(row.state in _BAD for row in rows):
            raise error
        try:
            return self._taken_back(lease, environment)
        except ServerUnavailable as trouble:
            since = max((row.activated_at for row in rows if row.activated_at), default=None)
            if since is None or since + _PATIENCE <= self._clock.now():
                raise
            return Waits(f"{environment.title}: to be taken back, but {trouble}", _AGAIN)

    def _ordered(self, lease: Lease, environment: Environment) -> list[Deployment]:
        """The rows of the environment's servers, in its order."""
        rows = {row.server: row for row in self._store.deployments.of_action(lease.id)}
        return [rows[server] for server in environment.servers if server in rows]

    def _begun(self, lease: Lease, run: Run, environment: Environment) -> list[Deployment]:
        """The rows of all servers, in the environment's order.

        A row whose server was taken out of the environment is kept until the action ends, as the server may
        come back; what was switched there and is not proved is ended now.
        """
        known = {row.server: row for row in self._store.deployments.of_action(lease.id)}
        now = self._clock.now()
        name = next((row.release for row in known.values()), None) or release_name(run, now)
        for server, row in known.items():
            if server not in environment.servers and row.state not in ON_THE_WAY:
                self._site.give_up(lease, row, _left(server, environment))
        begin = self._store.deployments.begin
        return [
            known.get(server) or begin(lease, run, server, name, now, environment.name)
            for server in environment.servers
        ]

    def _roll_out(
        self, lease: Lease, run: Run, action: Action, environment: Environment, rows: Sequence[Deployment]
    ) -> Acted | Waits:
        if any(row.state in _BAD for row in rows):
            return self._taken_back(lease, environment)
        by_server = {row.server: row for row in rows}
        asked = action.trigger is Trigger.MANUAL
        with Contents(self._blobs) as contents:
            gathered = False
            before: list[Deployment] = []
            for batch in environment.batches:
                waits = self._pause(environment, before)
                before = []
                for server in batch:
                    row = by_server[server]
                    if row.state not in _REACHED:
                        # What was switched to already has to be proved or put back, whatever is newer.
                        newer = row.state in ON_THE_WAY and self._newer(run, environment, lease, asked)
                        if newer:
                            return self._stopped(lease, DeploymentState.SUPERSEDED, newer)
                        if waits is not None and row.state in UNTOUCHED:
                            return waits
                        if row.state is DeploymentState.AWAITING_APPROVAL:
                            row = self._move(lease, row, DeploymentState.UPLOADING)
                        if row.state in ON_THE_WAY and not gathered:
                            # Before anything is sent: what lacks shows itself at once.
                            if (lacks := self._gather(contents, run, action, row)) is not None:
                                self._site.give_up(lease, row, lacks)
                                return self._taken_back(lease, environment)
                            gathered = True
                        row = self._site.deploy(
                            lease, row, contents, lambda: self._newer(run, environment, lease, asked)
                        )
                    if row.state is DeploymentState.SUPERSEDED:
                        return self._stopped(lease, row.state, row.message)
                    if row.state not in _REACHED:
                        return self._taken_back(lease, environment)
                    before.append(row)
        return self._done(lease, run, action, environment)

    def _gather(self, contents: Contents, run: Run, action: Action, row: Deployment) -> str | None:
        """Put together what is sent; why that cannot be done, or None."""
        if not isinstance(action.spec, DeployAction):
            raise TypeError(f"{action.key} is no deployment")
        try:
            pipeline = self._store.runs.definition(run.id)
            self._gatherer.gather(contents, run, pipeline, action.spec, row)
        except (DatasetError, NotFound, InvalidInput) as error:
            if isinstance(error, DatasetUnavailable) and not isinstance(error, DatasetRefused):
                raise
            return str(error)
        return None

    def _pause(self, environment: Environment, before: Sequence[Deployment]) -> Waits | None:
        """What a batch waits for that follows on another one."""
        since = max((row.activated_at for row in before if row.activated_at), default=None)
        if not environment.pause or since is None:
            return None
        left = (since + timedelta(seconds=environment.pause) - self._clock.now()).total_seconds()
        if left <= 0:
            return None
        names = ", ".join(row.server for row in before)
        return Waits(f"{environment.title}: {names} went first, the others follow after a pause", left)

    def _newer(self, run: Run, environment: Environment, lease: Lease, asked: bool) -> str:
        """Why the rest of the servers does not get the release any more; empty when it does."""
        for server in environment.servers:
            live = self._store.deployments.live(run.pipeline, server)
            if live is None or live.action_id == lease.id:
                continue
            if not asked and is_superseded(run.change.rank, live):
                return f"release {live.release}, of a newer change, is live on {server}"
        for row in self._store.deployments.of_action(lease.id):
            if row.state is DeploymentState.RETIRED:
                return f"another release took its place on {row.server} meanwhile"
        return ""

    def _taken_back(self, lease: Lease, environment: Environment) -> Acted:
        """Nothing of it stays: neither where it served, nor where it is not yet.

        Servers change one after the other, so the last one that is not well is the one that failed.
        """
        rows = self._ordered(lease, environment)
        ended = [row for row in rows if row.state.final and row.state not in _REACHED]
        wrong = ([row for row in rows if row.state in _BAD] or ended)[-1]
        trouble: ServerUnavailable | None = None
        if wrong.state is DeploymentState.PUTTING_BACK:
            try:
                wrong = self._site.put_back(lease, wrong)
            except ServerUnavailable as error:
                trouble = error
        message = wrong.message if not environment.name else f"{wrong.server}: {wrong.message}"
        for row in reversed(rows):
            if row.id == wrong.id or (row.state.final and row.state is not DeploymentState.ACTIVE):
                continue
            if row.state in ON_THE_WAY:
                self._move(lease, row, DeploymentState.CANCELLED, f"not begun, because {message}")
                continue
            if row.state not in _SERVES:
                row = self._site.give_up(lease, row, f"{wrong.server} failed")
            try:
                self._site.put_back(lease, row, f"{wrong.server} failed")
            except ServerUnavailable as error:
                # The others do not wait for it.
                trouble = trouble or error
        self._leave(lease, environment)
        if trouble is not None:
            raise trouble
        rows = list(self._store.deployments.of_action(lease.id))
        back = [r.server for r in rows if r.state is DeploymentState.ROLLED_BACK and r.id != wrong.id]
        lost = [r for r in rows if r.state is DeploymentState.FAILED and r.id != wrong.id]
        if back:
            message += f"; taken back on {', '.join(back)}"
        for row in lost:
            message += f"; not taken back on {row.server}: {row.message}"
        return Acted(ActionState.FAILED, message, _said(rows))

    def _stopped(self, lease: Lease, state: DeploymentState, why: str) -> Acted:
        rows = self._store.deployments.of_action(lease.id)
        ended = [row for row in rows if not row.state.final and row.state not in ON_THE_WAY]
        self._all_to(lease, [row for row in rows if row.state in ON_THE_WAY], state, why)
        # Only the server tells what is live where a switch was begun.
        ended = [self._site.give_up(lease, row, why) for row in ended]
        failed = [f"{row.server}: {row.message}" for row in ended if row.state is DeploymentState.FAILED]
        if failed:
            return Acted(ActionState.FAILED, "; ".join(failed), _said(ended))
        return Acted(ActionState.SKIPPED, why)

    def _all_to(self, lease: Lease, rows: Sequence[Deployment], state: DeploymentState, why: str) -> None:
        for row in rows:
            if not row.state.final and row.state is not state:
                # What waited for a person and was not let go is told apart from what never had to.
                waited = row.state is DeploymentState.AWAITING_APPROVAL
                rejected = state is DeploymentState.REJECTED and not waited
                self._move(lease, row, DeploymentState.CANCELLED if rejected else state, why)

    def _leave(self, lease: Lease, environment: Environment) -> None:
        """End the rows of servers that were taken out of the environment before they were reached."""
        for row in self._store.deployments.of_action(lease.id):
            if row.server not in environment.servers and row.state in ON_THE_WAY:
                self._move(lease, row, DeploymentState.CANCELLED, _left(row.server, environment))

    def _done(self, lease: Lease, run: Run, action: Action, environment: Environment) -> Acted:
        self._leave(lease, environment)
        rows = self._ordered(lease, environment)
        now = self._clock.now()
        told = (
            f"release {rows[0].release} went live in {environment.name}: {', '.join(environment.servers)}"
            if environment.name
            else rows[0].message
        )
        if environment.stage is not None and any(row.state is DeploymentState.ACTIVE for row in rows):
            who = action.who or "orchestrator"
            self._store.models.move(run.id, environment.stage, who, f"live on {environment.title}", now)
        # Another environment may wait for this one.
        self._store.deployments.nudge(run.id, now)
        return Acted(ActionState.DONE, told, _said(rows))

    def _move(self, lease: Lease, row: Deployment, state: DeploymentState, message: str = "") -> Deployment:
        log.info("%s on %s: %s %s", row.release, row.server, state.value, message)
        return self._store.deployments.move(lease, row, state, self._clock.now(), message)


def _left(server: str, environment: Environment) -> str:
    return f"{server} is no server of {environment.title} any more"


def _said(rows: Sequence[Deployment]) -> str:
    """What commands said on the servers, told apart where there are several."""
    texts = [(row.server, row.output) for row in rows if row.output]
    if len(rows) < 2:
        return "".join(text for _, text in texts)
    return "\n".join(f"== {server} ==\n{text}" for server, text in texts)
