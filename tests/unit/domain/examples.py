"""Plain domain values to begin a test with; each test says only what matters to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from orchestrator.domain.baseline import Measured
from orchestrator.domain.change import Cause, Change, DatasetRole, DatasetVersion, Revision
from orchestrator.domain.pipeline import Execution, NamedImage, Pipeline, RunnerSpec, SourceSpec
from orchestrator.domain.run import Attempt, AttemptState, Purpose, Reason, Run, RunState

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def change(
    *,
    id: int = 1,  # noqa: A002 - the field's name
    cause: Cause = Cause.PUSH,
    branch: str = "main",
    commit: str = "a" * 40,
    datasets: tuple[DatasetVersion, ...] = (),
) -> Change:
    """A push to main without data."""
    return Change(id, "wine", f"key-{id}", cause, Revision("wine", branch, commit), datasets)


def version(
    dataset: str = "train", fingerprint: str = "f1", role: DatasetRole = DatasetRole.TRAIN
) -> DatasetVersion:
    """A version of some training data."""
    return DatasetVersion(dataset, fingerprint, files=2, size=10, role=role)


def run(
    *,
    state: RunState = RunState.PASSED,
    purpose: Purpose = Purpose.TRAIN,
    of: Change | None = None,
) -> Run:
    """A run that passed."""
    return Run(7, 3, "wine", "default", purpose, state, of or change(), NOON)


def attempt(
    state: AttemptState,
    reason: Reason | None = None,
    *,
    replicate: int = 0,
    number: int = 1,
    message: str = "",
) -> Attempt:
    """An attempt of run 7."""
    return Attempt(
        id=100 * replicate + number,
        run_id=7,
        replicate=replicate,
        number=number,
        seed=1,
        state=state,
        reason=reason,
        message=message,
    )


def pipeline(deploy_branches: tuple[str, ...] = ("main",)) -> Pipeline:
    """A pipeline that deploys from main."""
    return Pipeline(
        name="wine",
        sources=(SourceSpec("wine", "/srv/wine.git"),),
        runner=RunnerSpec("cpu", NamedImage("python")),
        execution=Execution(("python", "train.py")),
        deploy_branches=deploy_branches,
    )


def measured(
    values: Mapping[str, tuple[float, ...]],
    *,
    run_id: int = 7,
    title: str = "wine #3",
    branch: str = "main",
) -> Measured:
    """A run's values."""
    return Measured(run_id, title, "a" * 40, branch, values)
