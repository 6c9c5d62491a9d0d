"""Deployments, guarded by the lease of the action that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from orchestrator.domain.action import ActionState
from orchestrator.domain.deployment import DEPLOYMENT_TRANSITIONS, Deployment, DeploymentState
from orchestrator.domain.errors import LeaseLost, NotFound
from orchestrator.domain.run import Run
from orchestrator.ports.hooks import Decision, Ruling
from orchestrator.ports.records import Lease
from orchestrator.store.engine import Database
from orchestrator.store.tables import ActionRow, DecisionRow, DeploymentRow, PipelineRow
from orchestrator.store.transitions import changed, lost, record, require_legal


class SqlDeployments:
    """Implements ``ports.store.Deployments``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_action(self, action_id: int) -> Sequence[Deployment]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(DeploymentRow).where(DeploymentRow.action_id == action_id).order_by(DeploymentRow.id)
            )
            return [_deployment(row) for row in rows]

    def get(self, deployment_id: int) -> Deployment:
        with self._database.reading() as session:
            row = session.get(DeploymentRow, deployment_id)
            if row is None:
                raise NotFound(f"there is no deployment {deployment_id}")
            return _deployment(row)

    def of_run(self, run_id: int) -> Sequence[Deployment]:
        with self._database.reading() as session:
            rows = session.scalars(
                select(DeploymentRow).where(DeploymentRow.run_id == run_id).order_by(DeploymentRow.id)
            )
            return [_deployment(row) for row in rows]

    def listing(self, server: str | None = None, limit: int = 50) -> Sequence[Deployment]:
        wanted = select(DeploymentRow).order_by(DeploymentRow.id.desc()).limit(limit)
        if server is not None:
            wanted = wanted.where(DeploymentRow.server == server)
        with self._database.reading() as session:
            return [_deployment(row) for row in session.scalars(wanted)]

    def live(self, pipeline: str, server: str) -> Deployment | None:
        with self._database.reading() as session:
            row = session.scalar(
                select(DeploymentRow).where(
                    DeploymentRow.pipeline == pipeline,
                    DeploymentRow.server == server,
                    DeploymentRow.state == DeploymentState.ACTIVE,
                )
            )
            return _deployment(row) if row else None

    def in_state(self, state: DeploymentState) -> Sequence[Deployment]:
        row = DeploymentRow
        live = select(row).where(row.state == state)
        with self._database.reading() as session:
            rows = session.scalars(live.order_by(row.pipeline, row.environment, row.server, row.id))
            return [_deployment(row) for row in rows]

    def before(self, live: Deployment) -> Deployment | None:
        with self._database.reading() as session:
            row = session.scalar(
                select(DeploymentRow)
                .where(
                    DeploymentRow.pipeline == live.pipeline,
                    DeploymentRow.server == live.server,
                    DeploymentRow.state == DeploymentState.RETIRED,
                    DeploymentRow.release < live.release,
                )
                .order_by(DeploymentRow.release.desc(), DeploymentRow.id.desc())
                .limit(1)
            )
            return _deployment(row) if row else None

    def decide(self, action_id: int, ruling: Ruling, who: str, reason: str, at: datetime) -> Decision | None:
        with self._database.writing() as session:
            row = session.scalar(select(ActionRow).where(ActionRow.id == action_id).with_for_update())
            if row is None or row.state.final or _decision(session, action_id) is not None:
                return None
            said = {
                "run_id": row.run_id,
                "action_id": action_id,
                "decision": ruling.value,
                "who": who,
                "reason": reason,
                "at": at,
            }
            session.connection().execute(insert(DecisionRow), said)
            due = update(ActionRow).where(
                ActionRow.id == action_id, ActionRow.state == ActionState.PENDING, ActionRow.waits != ""
            )
            changed(session, due.values(not_before=at, waits=""))
            told = f"{ruling.value} by {who}" + (f": {reason}" if reason else "")
            state = row.state.value
            record(session, at, who, f"action {action_id}", row.run_id, state, state, told)
            return Decision(row.run_id, ruling, who, reason, at)

    def decision(self, action_id: int) -> Decision | None:
        with self._database.reading() as session:
            return _decision(session, action_id)

    def nudge(self, run_id: int, at: datetime) -> None:
        waiting = (
            ActionRow.run_id == run_id,
            ActionRow.state == ActionState.PENDING,
            ActionRow.waits != "",
            ActionRow.not_before > at,
        )
        with self._database.writing() as session:
            changed(session, update(ActionRow).where(*waiting).values(not_before=at, waits=""))

    def begin(
        self,
        lease: Lease,
        run: Run,
        server: str,
        release: str,
        at: datetime,
        environment: str = "",
    ) -> Deployment:
        with self._database.writing() as session:
            _require_lease(session, lease)
            if (existing := _existing(session, lease.id, server)) is not None:
                return existing
            row = DeploymentRow(
                run_id=run.id,
                action_id=lease.id,
                pipeline=run.pipeline,
                server=server,
                release=release,
                state=DeploymentState.QUEUED,
                change_rank=run.change.rank,
                message="",
                environment=environment,
                previous="",
                output="",
                created_at=at,
            )
            session.add(row)
            session.flush()
            what = f"{release} to {server}"
            record(session, at, lease.owner, f"deployment {row.id}", run.id, "", row.state.value, what)
            return _deployment(row)

    def move(
        self,
        lease: Lease,
        deployment: Deployment,
        after: DeploymentState,
        at: datetime,
        message: str = "",
        *,
        previous: str | None = None,
        output: str | None = None,
        live: str | None = None,
    ) -> Deployment:
        subject = f"deployment {deployment.id}"
        require_legal(subject, DEPLOYMENT_TRANSITIONS, deployment.state, after)
        values: dict[str, object] = {"state": after, "message": message}
        if previous is not None:
            values["previous"] = previous
        if output is not None:
            values["output"] = output
        if after is DeploymentState.ACTIVE:
            values["activated_at"] = at
            live = deployment.release
        with self._database.writing() as session:
            _require_lease(session, lease)
            if live is not None and (after is DeploymentState.ACTIVE or live != deployment.release):
                _serves(session, lease, deployment, live, at)
            guarded = (
                update(DeploymentRow)
                .where(
                    DeploymentRow.id == deployment.id,
                    DeploymentRow.action_id == lease.id,
                    DeploymentRow.state == deployment.state,
                )
                .values(**values)
            )
            if not changed(session, guarded):
                raise LeaseLost(f"{subject} is not {deployment.state.value} any more, or not this action's")
            before = deployment.state.value
            record(session, at, lease.owner, subject, deployment.run_id, before, after.value, message)
            return _deployment(_row(session, deployment.id))


def _decision(session: Session, action_id: int) -> Decision | None:
    wanted = select(DecisionRow).where(DecisionRow.action_id == action_id).order_by(DecisionRow.id).limit(1)
    row = session.scalar(wanted)
    return None if row is None else Decision(row.run_id, Ruling(row.decision), row.who, row.reason, row.at)


def _require_lease(session: Session, lease: Lease) -> None:
    """Raise LeaseLost unless the action is this worker's; it stays so until the transaction ends."""
    held = select(ActionRow.id).where(
        ActionRow.id == lease.id,
        ActionRow.state == ActionState.RUNNING,
        ActionRow.lease_token == lease.token,
    )
    if session.scalar(held.with_for_update()) is None:
        raise lost(lease)


def _serves(session: Session, lease: Lease, deployment: Deployment, live: str, at: datetime) -> None:
    """Write down that ``live`` serves on the deployment's server: its row is ACTIVE there, and no other one.

    The deployment's own row is its move's. A release that no row tells of, or none (""), leaves none ACTIVE.
    """
    here = (DeploymentRow.server == deployment.server, DeploymentRow.id != deployment.id)
    # Two releases that become active at once must see each other, also those of two pipelines: the rows of
    # all pipelines that were ever there put them in order.
    there = select(DeploymentRow.pipeline).where(DeploymentRow.server == deployment.server)
    locked = select(PipelineRow.name).where(PipelineRow.name.in_(there)).order_by(PipelineRow.name)
    session.execute(locked.with_for_update()).all()
    active, retired = DeploymentState.ACTIVE, DeploymentState.RETIRED
    ours = live == deployment.release
    known = False
    for row in session.scalars(select(DeploymentRow).where(*here, DeploymentRow.state == active)).all():
        if row.release == live and not ours:
            known = True
            continue
        why = f"{live} took its place" if live else "no release serves there any more"
        _told(session, lease, row, retired, f"was live until {why}", why, at)
    if known or ours or not live:
        return
    again = session.scalar(
        select(DeploymentRow)
        .where(*here, DeploymentRow.state == retired, DeploymentRow.release == live)
        .order_by(DeploymentRow.id.desc())
        .limit(1)
    )
    if again is not None:
        why = f"live again, as {deployment.release} was put back"
        _told(session, lease, again, active, why, why, at)


def _told(
    session: Session,
    lease: Lease,
    row: DeploymentRow,
    after: DeploymentState,
    message: str,
    why: str,
    at: datetime,
) -> None:
    """Another deployment's move, as a consequence of this one's."""
    deployment_id, run_id, before = row.id, row.run_id, row.state.value
    wanted = update(DeploymentRow).where(DeploymentRow.id == deployment_id)
    changed(session, wanted.values(state=after, message=message))
    record(session, at, lease.owner, f"deployment {deployment_id}", run_id, before, after.value, why)


def _row(session: Session, deployment_id: int) -> DeploymentRow:
    return session.scalars(select(DeploymentRow).where(DeploymentRow.id == deployment_id)).one()


def _existing(session: Session, action_id: int, server: str) -> Deployment | None:
    row = session.scalar(
        select(DeploymentRow).where(DeploymentRow.action_id == action_id, DeploymentRow.server == server)
    )
    return _deployment(row) if row else None


def _deployment(row: DeploymentRow) -> Deployment:
    return Deployment(
        id=row.id,
        run_id=row.run_id,
        action_id=row.action_id,
        pipeline=row.pipeline,
        server=row.server,
        release=row.release,
        state=row.state,
        change_rank=row.change_rank,
        message=row.message,
        environment=row.environment,
        previous=row.previous,
        output=row.output,
        created_at=row.created_at,
        activated_at=row.activated_at,
    )
