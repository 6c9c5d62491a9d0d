"""What people ask of deployments: deploy, promote, roll back, approve, reject; and what is where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import DeployAction, RollbackAction, Rule
from orchestrator.domain.deployment import Deployment, DeploymentState, why_not_deploy
from orchestrator.domain.environment import Environment, alone, holder
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.run import Run
from orchestrator.ports.hooks import Decision, Ruling
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.deploying.holding import environment_of

_LISTED = 200


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A deployment that waits for a person."""

    action: Action
    run: Run
    environment: Environment
    release: str


class Desk:
    """Takes what people ask for. Thread-safe; the caller knows who they are."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        servers: Sequence[str],
        environments: Mapping[str, Environment],
    ) -> None:
        self._store = store
        self._clock = clock
        self._servers = servers
        self._environments = environments

    def place(self, name: str) -> Environment:
        """An environment, or a server of none, by its name.

        NotFound says which there are; InvalidInput says which environment has a server: its rules hold there.
        """
        if name in self._environments:
            return self._environments[name]
        if (found := holder(self._environments, name)) is not None:
            raise InvalidInput(f"{name} is a server of {found.name}", f"name {found.name} in its place")
        if name in self._servers:
            return alone(name)
        known = ", ".join((*sorted(self._environments), *sorted(self._servers))) or "none"
        raise NotFound(
            f"there is no environment and no server {name}", f"orchestrator.yaml has these: {known}"
        )

    def deploy(self, run: Run, place: str, who: str, reason: str, files: Sequence[str] = ()) -> Action:
        """Owe a deployment of a run that passed; InvalidInput when it may not be deployed.

        It holds what the pipeline deploys there, or else elsewhere; ``files`` in place of that.
        """
        environment = self.place(place)
        pipeline = self._store.runs.definition(run.id)
        if (refusal := why_not_deploy(run, pipeline)) is not None:
            raise InvalidInput(f"{run.title} may not be deployed: {refusal}")
        self._require_no_other(run, environment)
        written = [spec for _, spec in pipeline.actions if isinstance(spec, DeployAction)]
        there = [spec for spec in written if place in (spec.environment, spec.server)]
        if not there:
            self._require_nobody_elses(run, environment)
        base = next(iter((*there, *written)), DeployAction())
        spec = replace(
            base,
            server="" if environment.name else place,
            environment=environment.name,
            files=tuple(files) or base.files,
            rule=Rule(),
        )
        return self._store.actions.owe(run.id, spec, who, reason, self._clock.now())

    def promote(self, source: str, place: str, who: str, reason: str, pipeline: str | None = None) -> Action:
        """Deploy what is live in one environment to another one."""
        first = self.place(source)
        live = self._live(first, pipeline)
        releases = {row.release for row in live}
        if len(live) < len(first.servers) or len(releases) > 1:
            raise InvalidInput(f"the servers of {first.title} do not all have the same release")
        return self.deploy(self._store.runs.get(live[0].run_id), place, who, reason)

    def roll_back(
        self,
        place: str,
        who: str,
        reason: str,
        pipeline: str | None = None,
        release: str = "",
        approver: str | None = None,
    ) -> Action:
        """Owe the way back to ``release``, or else to the one that was live before the live one.

        With ``approver``, InvalidInput where the environment names people and that name is not among them.
        """
        environment = self.place(place)
        if approver is not None and (why_not := environment.why_not_approver(approver)) is not None:
            raise InvalidInput(why_not)
        live = self._live(environment, pipeline)
        row = live[0]
        if release:
            goal = self._known(environment, row.pipeline, release)
        else:
            before = self._store.deployments.before(row)
            if before is None:
                raise NotFound(f"no release was live on {row.server} before {row.release}")
            goal = before
        if all(each.release == goal.release for each in live):
            raise InvalidInput(f"release {goal.release} is live on {environment.title} already")
        spec = RollbackAction("" if environment.name else place, environment.name, goal.release)
        return self._store.actions.owe(goal.run_id, spec, who, reason, self._clock.now())

    def decide(
        self, action_id: int, approved: bool, who: str, reason: str, name: str = ""
    ) -> Decision | None:
        """Approve or reject a deployment that waits; None when it does not wait any more.

        ``who`` is written down; ``name``, where it is another one, is looked up among those who may decide.
        InvalidInput when that person may not, or nothing is to be decided.
        """
        action = self._store.actions.get(action_id)
        if not isinstance(action.spec, DeployAction):
            raise InvalidInput(f"action {action_id} is no deployment")
        environment = environment_of(self._environments, action.spec)
        if (why_not := environment.why_not_approver(name or who)) is not None:
            raise InvalidInput(why_not)
        if not environment.approval:
            raise InvalidInput(f"deployments to {environment.title} need no approval")
        ruling = Ruling.APPROVED if approved else Ruling.REJECTED
        return self._store.deployments.decide(action_id, ruling, who, reason, self._clock.now())

    def awaiting(self) -> Sequence[Awaiting]:
        """What waits for a person, oldest first."""
        found: dict[int, Awaiting] = {}
        for row in self._store.deployments.in_state(DeploymentState.AWAITING_APPROVAL):
            action = self._store.actions.get(row.action_id)
            if action.id in found or not isinstance(action.spec, DeployAction) or action.state.final:
                continue
            if self._store.deployments.decision(action.id) is None:
                environment = self._environments.get(row.environment) or alone(row.server)
                run = self._store.runs.get(row.run_id)
                found[action.id] = Awaiting(action, run, environment, row.release)
        return tuple(found.values())

    def live(self) -> Sequence[Deployment]:
        """What is live where."""
        return self._store.deployments.in_state(DeploymentState.ACTIVE)

    def history(self, limit: int = 50) -> Sequence[Deployment]:
        """The newest first."""
        return self._store.deployments.listing(limit=limit)

    def _live(self, environment: Environment, pipeline: str | None) -> list[Deployment]:
        found = [
            row
            for row in self.live()
            if row.server in environment.servers and pipeline in (None, row.pipeline)
        ]
        pipelines = sorted({row.pipeline for row in found})
        if not found:
            raise NotFound(f"nothing is live on {environment.title}")
        if len(pipelines) > 1:
            raise InvalidInput(
                f"several pipelines are live on {environment.title}: {', '.join(pipelines)}", "name one"
            )
        return found

    def _known(self, environment: Environment, pipeline: str, release: str) -> Deployment:
        reached = (DeploymentState.ACTIVE, DeploymentState.RETIRED)
        rows = [
            row
            for server in environment.servers
            for row in self._store.deployments.listing(server, _LISTED)
            if row.pipeline == pipeline and row.state in reached
        ]
        for row in rows:
            if row.release == release:
                return row
        have = ", ".join(dict.fromkeys(row.release for row in rows[:10])) or "none"
        raise NotFound(f"no release {release} was live on {environment.title}", f"these were: {have}")

    def _require_nobody_elses(self, run: Run, environment: Environment) -> None:
        """What serves for one pipeline is not replaced by another one that is not said to deploy there."""
        for row in self.live():
            if row.server in environment.servers and row.pipeline != run.pipeline:
                told = (
                    f"{row.pipeline} is live on {environment.title}, and {run.pipeline} does not deploy there"
                )
                raise InvalidInput(
                    told,
                    f"write a deploy action to {environment.title} into {run.pipeline} if it is to",
                )

    def _require_no_other(self, run: Run, environment: Environment) -> None:
        """Two of the same at once would only wait for each other."""
        for action in self._store.actions.of_run(run.id):
            spec = action.spec
            if not isinstance(spec, DeployAction) or action.state not in _OWED:
                continue
            if environment.title in (spec.environment, spec.server):
                told = f"{run.title} is being deployed to {environment.title} already"
                raise InvalidInput(told + (f": {action.waits}" if action.waits else ""))


_OWED = (ActionState.PENDING, ActionState.RUNNING)
