"""Deployments: their states, who may deploy, and what a release is called."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from orchestrator.domain.change import PULLS, TAGS, Cause
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose, Run, RunState


class DeploymentState(StrEnum):
    """Where a Deployment stands."""

    QUEUED = "queued"
    AWAITING_APPROVAL = "awaiting_approval"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    ACTIVATING = "activating"
    BAKING = "baking"
    PUTTING_BACK = "putting_back"
    """It does not serve, or its company was put back: the release before it is made live again."""
    ACTIVE = "active"
    RETIRED = "retired"
    """Another release took its place."""
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        stays = self in (DeploymentState.ACTIVE, DeploymentState.RETIRED)
        return stays or not DEPLOYMENT_TRANSITIONS[self]


_ENDED = frozenset({DeploymentState.FAILED, DeploymentState.SUPERSEDED})
_STOPPED = _ENDED | {DeploymentState.CANCELLED}

DEPLOYMENT_TRANSITIONS: Mapping[DeploymentState, frozenset[DeploymentState]] = {
    # A release that is on the server already, and is put back, goes straight to ACTIVATING.
    DeploymentState.QUEUED: frozenset(
        {DeploymentState.AWAITING_APPROVAL, DeploymentState.UPLOADING, DeploymentState.ACTIVATING}
    )
    | _STOPPED,
    DeploymentState.AWAITING_APPROVAL: frozenset(
        {DeploymentState.REJECTED, DeploymentState.UPLOADING, DeploymentState.ACTIVATING}
    )
    | _STOPPED,
    DeploymentState.UPLOADING: frozenset({DeploymentState.VERIFYING}) | _STOPPED,
    DeploymentState.VERIFYING: frozenset({DeploymentState.ACTIVATING}) | _STOPPED,
    # What was switched to is ended by what its server says, never by a word alone.
    DeploymentState.ACTIVATING: frozenset({DeploymentState.BAKING, DeploymentState.PUTTING_BACK}) | _ENDED,
    DeploymentState.BAKING: frozenset({DeploymentState.ACTIVE, DeploymentState.PUTTING_BACK}) | _ENDED,
    DeploymentState.PUTTING_BACK: frozenset({DeploymentState.ROLLED_BACK, DeploymentState.FAILED}),
    DeploymentState.ACTIVE: frozenset({DeploymentState.RETIRED, DeploymentState.PUTTING_BACK}),
    # Back again: the release that took its place was put back.
    DeploymentState.RETIRED: frozenset({DeploymentState.ACTIVE}),
    DeploymentState.REJECTED: frozenset(),
    DeploymentState.FAILED: frozenset(),
    DeploymentState.CANCELLED: frozenset(),
    DeploymentState.SUPERSEDED: frozenset(),
    DeploymentState.ROLLED_BACK: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Putting one Run's artifacts on one server. ``release`` is the folder's name, chosen before the act."""

    id: int
    run_id: int
    action_id: int
    pipeline: str
    server: str
    release: str
    state: DeploymentState
    change_rank: int
    message: str = ""
    environment: str = ""
    previous: str = ""
    """The release that was live on the server before; empty when none was, or it is not known yet."""
    output: str = ""
    """What commands and the failed release said: the end of it, secrets masked."""
    created_at: datetime | None = None
    activated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file of a release.

    ``path`` is relative with ``/``; ``blob`` names stored content by its SHA-256.
    """

    path: str
    size: int
    sha256: str


def release_name(run: Run, now: datetime) -> str:
    """The release folder's name, sortable by time: ``20261123T054459Z-42``."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{run.id}"


RELEASE_PATTERN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]+")
"""What a release folder of ours is called; nothing else under ``releases/`` is ever removed."""

_DEPLOYING_CAUSES = frozenset(
    {
        Cause.FIRST_SIGHT,
        Cause.PUSH,
        Cause.TAG,
        Cause.DATA,
        Cause.SCHEDULE,
        Cause.UPSTREAM,
        Cause.TRIGGER,
        Cause.MANUAL,
        Cause.RERUN,
    }
)


def why_not_trusted(run: Run, pipeline: Pipeline) -> str | None:
    """Why a run may neither deploy nor serve as a baseline, or None when it may.

    It must have been caused by a push, a tag, a data change, an occasion or a person, on one of the
    pipeline's ``deploy_branches``. A pull request's commit is on none of them, whatever they name; a tag's is
    only where they name ``refs/tags/…``.
    """
    return why_not_trusted_with(run.change.cause, run.purpose, run.change.revision.branch, pipeline)


def why_not_trusted_with(cause: Cause, purpose: Purpose, branch: str, pipeline: Pipeline) -> str | None:
    """As :func:`why_not_trusted`, of a run of which only this is known."""
    if purpose is Purpose.REPRODUCE:
        return "a run that repeats another one says nothing new"
    if cause not in _DEPLOYING_CAUSES and purpose is not Purpose.BASELINE:
        return f"a run caused by {cause.value} never deploys"
    if pipeline.untrusted or branch.startswith(PULLS):
        return "code from a pull request is never deployed"
    if not any(_allows(pattern, branch) for pattern in pipeline.deploy_branches):
        allowed = ", ".join(pipeline.deploy_branches) or "none"
        return f"branch {branch} is not one of the deploy_branches ({allowed})"
    return None


def _allows(pattern: str, branch: str) -> bool:
    # "*" means all branches: neither what is on none of them, nor a tag.
    if not branch or (branch.startswith("refs/") and not pattern.startswith(TAGS)):
        return False
    return fnmatch.fnmatchcase(branch, pattern)


def why_not_deploy(run: Run, pipeline: Pipeline) -> str | None:
    """Why a run may not deploy, or None when it may.

    It must be trusted, meant for training, and have passed.
    """
    if run.purpose is not Purpose.TRAIN:
        return f"a {run.purpose.value} run never deploys"
    if run.state is not RunState.PASSED:
        return f"the run has not passed ({run.state.value})"
    return why_not_trusted(run, pipeline)


def is_superseded(rank: int, live: Deployment | None) -> bool:
    """Whether something newer than this change is live already."""
    return live is not None and live.change_rank > rank
