"""Reports to render: an ordinary one, and the parts to make others of."""

from datetime import UTC, datetime

from orchestrator.domain.change import Cause, Change, DatasetVersion, Revision
from orchestrator.domain.gate import CheckResult, Outcome
from orchestrator.domain.report import ArtifactRow, CommitRow, DeploymentRow, MetricRow, Report, Trend, Word
from orchestrator.domain.run import Purpose, Run, RunState

COMMIT = "3f2a91c04d5e6f708192a3b4c5d6e7f809a1b2c3"
WHEN = datetime(2026, 11, 23, 5, 44, 59, tzinfo=UTC)


def run(
    pipeline: str = "wine-quality",
    subject: str = "try smaller trees",
    author: str = "Ana Sousa",
    branch: str = "main",
    commit: str = COMMIT,
) -> Run:
    """A rejected run."""
    revision = Revision("wine", branch, commit, subject, author, "ana@example.org")
    data = DatasetVersion("wine", "9f" * 32, files=12, size=120_000, number=7)
    change = Change(7, pipeline, "key", Cause.PUSH, revision, (data,))
    return Run(
        id=42,
        number=17,
        pipeline=pipeline,
        project="cellar",
        purpose=Purpose.TRAIN,
        state=RunState.REJECTED,
        change=change,
        created_at=WHEN,
        replicates=3,
        started_at=WHEN,
        finished_at=WHEN,
    )


FELL = CheckResult(
    "accuracy not worse than best by 0.005",
    "accuracy",
    Outcome.FAIL,
    "accuracy 0.897 (mean of 3 runs) against 0.915 (best: wine-quality #12, mean of 3 runs): worse by 0.018, "
    "a loss of up to 0.005 is allowed (point test, noise not estimated): fail",
    estimate=0.897,
    baseline=0.915,
    difference=-0.018,
)
FAST = CheckResult(
    "latency <= 20",
    "latency",
    Outcome.PASS,
    "latency 14.2 (mean of 3 runs) meets the limit <= 20: pass",
    estimate=14.2,
    warnings=("all seeds gave the same value: deterministic, or MLCI_SEED is not used",),
)
NEW = CheckResult(
    "f1 better than last_deployed",
    "f1",
    Outcome.SKIPPED,
    "f1 0.88: not compared, nothing was deployed yet",
    estimate=0.88,
)


def broken() -> Report:
    return Report(
        run=run(),
        word=Word.BROKEN,
        headline=FELL.sentence,
        key_metric="accuracy 0.897 (-0.018)",
        outcome="not deployed",
        checks=(FELL, FAST, NEW),
        metrics=(
            MetricRow("accuracy", "0.897", "0.915", "-0.018", better=False),
            MetricRow("latency", "14.2", "15", "-0.8", "ms", better=True),
            MetricRow("f1", "0.88", "0.88", "±0"),
            MetricRow("trees", "40", "120", "-80"),
        ),
        baseline_title="wine-quality #12",
        what_changed="code and data (wine) changed since wine-quality #12",
        commits=(
            CommitRow("3f2a91c", "try smaller trees", "Ada", "https://github.com/acme/wine/commit/3f2a91c"),
            CommitRow("77aa310", "tidy the loader"),
        ),
        compare_url="https://github.com/acme/wine/compare/77aa310...3f2a91c",
        data_changes=("wine v6 → v7: +2 files, 1 changed",),
        deployments=(DeploymentRow("prod", "cancelled", "20261123T054459Z-42", "the gate rejected the run"),),
        artifacts=(ArtifactRow("model.joblib", 1_234_567), ArtifactRow("metrics.json", 210)),
        warnings=("a child process was killed for lack of memory, yet the command ended with 0",),
        duration="4 m 12 s",
        host="local",
        url="http://localhost:8080/runs/42",
        trend=Trend.BROKEN,
    )


def crashed() -> Report:
    log = [f"epoch {n}: loss {1 / n:.4f}" for n in range(1, 40)]
    log += [
        "Traceback (most recent call last):",
        '  File "train.py", line 31, in <module>',
        "    model.fit(frame[COLUMNS], frame.quality)",
        "KeyError: \"['alcohol'] not in index\"",
    ]
    return Report(
        run=run(),
        word=Word.FAILED,
        headline="the training ended with exit code 1",
        key_metric="",
        outcome="not deployed",
        what_changed="code changed since wine-quality #12",
        commits=(CommitRow("3f2a91c", "rename the columns"),),
        likely_cause="KeyError: \"['alcohol'] not in index\"",
        log_tail=tuple(log),
        duration="12 s",
        host="local",
    )
