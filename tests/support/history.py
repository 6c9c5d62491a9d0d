"""A made-up history of an installation: as many runs as wanted over a year, with all that they leave.

Rows are written in bulk and files directly, because a year of work would take too long otherwise; what they
hold is what the product itself writes.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from orchestrator.domain.action import ActionState, Trigger, action_key
from orchestrator.domain.action_spec import DeployAction, EmailAction
from orchestrator.domain.change import Cause, DatasetRole, DatasetVersion, Revision
from orchestrator.domain.check import parse_check
from orchestrator.domain.codec import to_plain
from orchestrator.domain.deployment import DeploymentState
from orchestrator.domain.gate import CheckResult, Gate, Outcome, Verdict
from orchestrator.domain.pipeline import Execution, NamedImage, Pipeline, RunnerSpec, SourceSpec
from orchestrator.domain.run import AttemptState, Purpose, Reason, RunState, seed_for
from orchestrator.store.engine import Database
from orchestrator.store.tables import (
    ActionRow,
    ArtifactRow,
    AttemptRow,
    Base,
    ChangeRow,
    DeploymentRow,
    JournalRow,
    KeepRow,
    MetricRow,
    OutboxRow,
    PinRow,
    PipelineRow,
    RunRow,
)

NAMES = ("wine", "beer", "cider", "perry")
_CHECKS = '["accuracy >= 0.1", "accuracy not worse than best by 0.5pp", "accuracy better than previous"]'
_CONFIGURATION = {
    "orchestrator.yaml": """
storage: {{path: {state}, database: "{url}"}}
hosts: {{desk: {{engine: "unix://{state}/no.sock"}}}}
retention:
  runs: {{age: 270d}}
  artifacts: {{age: 90d, per_branch: 500}}
  logs: 120d
  journal: 300d
  images: keep
  volumes: keep
  leftovers: keep
""",
    "runners/cpu.yaml": "runner: cpu\nimage: python:3.12-slim\n",
}
_PIPELINE = """
pipeline: {name}
source: {{git: "https://git.example.org/{name}.git"}}
run: {{runner: cpu, command: python train.py}}
gate: {{checks: {checks}}}
"""
_BRANCHES = ("main", "main", "main", "dev", "release/1")
_STATES = (*[RunState.PASSED] * 6, *[RunState.REJECTED] * 2, RunState.FAILED, RunState.CANCELLED)
_CHUNK = 500
Rows = dict[type[Base], list[dict[str, Any]]]


def pipeline(name: str) -> Pipeline:
    """The pipeline that all runs of a name were made of."""
    checks = ("accuracy >= 0.1", "accuracy not worse than best by 0.5pp", "accuracy better than previous")
    return Pipeline(
        name=name,
        sources=(SourceSpec("code", f"/srv/{name}.git", ("main", "dev", "release/1")),),
        runner=RunnerSpec("cpu", NamedImage("python:3.11")),
        execution=Execution(("python", "train.py")),
        gate=Gate(tuple(parse_check(check) for check in checks)),
        actions=((Trigger.PASS, DeployAction("prod", ("model.bin",))), (Trigger.PASS, EmailAction(("a@x",)))),
        deploy_branches=("main",),
    )


@dataclass
class History:
    """Writes it. The same seed makes the same history."""

    database: Database
    state: Path
    now: datetime
    runs: int
    days: float = 365.0
    model_size: int = 4096
    log_lines: int = 30

    def write(self) -> dict[str, int]:
        """Write all of it: how many rows of each table, and how many files with how many bytes."""
        self._chance = random.Random(7)  # noqa: S311 - nothing secret is made of it
        self._best: dict[str, tuple[float, int, str]] = {}
        self._live: dict[str, int] = {}
        self._numbers = dict.fromkeys(NAMES, 0)
        self._count = {"files": 0, "bytes": 0}
        self._frozen = {name: to_plain(pipeline(name)) for name in NAMES}
        self._ids = {"action": 0, "outbox": 0, "deployment": 0}
        for rows in self._chunks():
            with self.database.writing() as session:
                for table, values in rows.items():
                    if values:
                        session.execute(insert(table), values)
                        name = str(table.__tablename__)
                        self._count[name] = self._count.get(name, 0) + len(values)
        return self._count

    def _chunks(self) -> Iterator[Rows]:
        tables = (ChangeRow, RunRow, AttemptRow, MetricRow, ArtifactRow, ActionRow, OutboxRow)
        order: tuple[type[Base], ...] = (*tables, DeploymentRow, PinRow, KeepRow, JournalRow)
        rows: Rows = {table: [] for table in order}
        for run_id in range(1, self.runs + 1):
            self._run(run_id, rows)
            if run_id % _CHUNK == 0:
                yield rows
                rows = {table: [] for table in order}
        rows[PipelineRow] = [{"name": n, "last_number": count} for n, count in self._numbers.items()]
        yield rows

    def _run(self, run_id: int, rows: Rows) -> None:
        chance = self._chance
        at = self.now - timedelta(days=self.days) * (1 - run_id / (self.runs + 1))
        name, branch, state = chance.choice(NAMES), chance.choice(_BRANCHES), chance.choice(_STATES)
        again = run_id - chance.randint(1, 50) if run_id > 60 and chance.random() < 0.02 else None
        self._numbers[name] += 1
        accuracy = 0.5 + 0.4 * run_id / self.runs + chance.random() / 10
        commit = hashlib.sha1(f"{run_id}".encode(), usedforsecurity=False).hexdigest()
        revision = Revision("code", branch, commit, "Use fewer trees", "Ann", "ann@example.org", at)
        data = DatasetVersion(
            "rows", f"{run_id // 200:064x}", 3, 4096, DatasetRole.EVALUATION, run_id // 200 + 1
        )
        rows[ChangeRow].append(
            {
                "id": run_id,
                "pipeline": name,
                "key": f"head code:{branch}@{run_id}",
                "cause": Cause.PUSH if again is None else Cause.RERUN,
                "branch": branch,
                "revision": to_plain(revision),
                "datasets": to_plain((data,)),
                "note": "",
                "requested_by": "",
                "rank": run_id,
            }
        )
        title = f"{name} #{self._numbers[name]}"
        rows[RunRow].append(
            {
                "id": run_id,
                "number": self._numbers[name],
                "pipeline": name,
                "project": "",
                "purpose": Purpose.TRAIN,
                "state": state,
                "change_id": run_id,
                "created_at": at,
                "replicates": 1,
                "host_wish": None,
                "rerun_of": again,
                "seed_run_id": run_id,
                "reason": Reason.EXIT_CODE if state is RunState.FAILED else None,
                "message": "",
                "verdict": self._verdict(name, state, accuracy),
                "cancel_requested_by": None,
                "cancel_reason": None,
                "started_at": at,
                "finished_at": at,
                "definition": self._frozen[name],
            }
        )
        self._attempt(run_id, state, at, accuracy, rows)
        if state is RunState.PASSED:
            self._best[name] = max(self._best.get(name, (0.0, 0, "")), (accuracy, run_id, title))
            self._acts(run_id, name, branch, at, rows)
        for step in ("queued", "running", "evaluating", state.value):
            rows[JournalRow].append(self._entry(run_id, f"run {run_id}", at, step))
        if chance.random() < 0.002:
            rows[KeepRow].append({"run_id": run_id, "who": "ann", "reason": "for the paper", "at": at})
        if run_id % (self.runs // 8 or 1) == 0:
            rows[PinRow].append({"pipeline": name, "name": f"pin-{run_id}", "run_id": run_id})

    def _verdict(self, name: str, state: RunState, accuracy: float) -> object:
        if state not in (RunState.PASSED, RunState.REJECTED):
            return None
        outcome = Outcome.PASS if state is RunState.PASSED else Outcome.FAIL
        best = self._best.get(name)
        check = CheckResult(
            "accuracy not worse than best by 0.5pp",
            "accuracy",
            outcome,
            "accuracy is what it is",
            accuracy,
            baseline_run=best[1] if best else None,
            baseline_title=best[2] if best else "",
        )
        return to_plain(Verdict(outcome, check.sentence, (check,)))

    def _attempt(self, run_id: int, state: RunState, at: datetime, accuracy: float, rows: Rows) -> None:
        ended = AttemptState.CANCELLED if state is RunState.CANCELLED else AttemptState.SUCCEEDED
        rows[AttemptRow].append(
            {
                "id": run_id,
                "run_id": run_id,
                "replicate": 0,
                "number": 1,
                "seed": seed_for(run_id, 0),
                "state": ended,
                "host": "local",
                "container": f"c-{run_id}",
                "container_id": "",
                "image_digest": f"sha256:{run_id // 300}",
                "reason": None,
                "message": "",
                "exit": None,
                "stop_cause": None,
                "warnings": [],
                "left_out": [],
                "not_before": None,
                "created_at": at,
                "started_at": at,
                "finished_at": at,
            }
        )
        if state is RunState.CANCELLED:
            return
        self._file(self.state / "logs" / f"{run_id}.log", self._log(run_id), at)
        for metric in ("accuracy", "loss"):
            value = {"attempt_id": run_id, "name": metric, "value": accuracy}
            rows[MetricRow].append({**value, "source": "metrics.json", "reader": "json"})
        model = hashlib.sha256(f"model {run_id}".encode()).digest() * (self.model_size // 32)
        shared = b"predictions of %d\n" % (run_id // 5)
        for path, content in (("model.bin", model), ("predictions.csv", shared)):
            sha256 = hashlib.sha256(content).hexdigest()
            row = {"attempt_id": run_id, "kind": "artifact", "path": path}
            rows[ArtifactRow].append({**row, "size": len(content), "sha256": sha256})
            self._file(self.state / "blobs" / sha256[:2] / sha256, content, at)

    def _log(self, run_id: int) -> bytes:
        line = b"2026-01-01T00:00:00.000000000Z epoch %d  loss 0.1234  accuracy 0.9876\n"
        return b"".join(line % epoch for epoch in range(self.log_lines + run_id % 7))

    def _file(self, path: Path, content: bytes, at: datetime) -> None:
        if path.exists():
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at.timestamp(), at.timestamp()))
        self._count["files"] += 1
        self._count["bytes"] += len(content)

    def _acts(self, run_id: int, name: str, branch: str, at: datetime, rows: Rows) -> None:
        mail = self._action(run_id, 1, EmailAction(("a@x",)), at, rows)
        self._ids["outbox"] += 1
        rows[OutboxRow].append(
            {
                "id": self._ids["outbox"],
                "action_id": mail,
                "run_id": run_id,
                "key": f"<run-{run_id}@x>",
                "recipients": ["a@x"],
                "subject": f"[{name}] passed",
                "message": b"x" * 2000,
                "state": "delivered",
                "tries": 1,
                "not_before": None,
                "last_error": "",
                "delivered_at": at,
                "created_at": at,
            }
        )
        if branch != "main":
            return
        deploy = self._action(run_id, 0, DeployAction("prod", ("model.bin",)), at, rows)
        # The newest of each pipeline will be live; what was live before is retired.
        live = run_id > self.runs - 80 and name not in self._live
        if live:
            self._live[name] = run_id
        self._ids["deployment"] += 1
        rows[DeploymentRow].append(
            {
                "id": self._ids["deployment"],
                "run_id": run_id,
                "action_id": deploy,
                "pipeline": name,
                "server": "prod",
                "release": f"{at:%Y%m%dT%H%M%SZ}-{run_id}",
                "state": DeploymentState.ACTIVE if live else DeploymentState.RETIRED,
                "change_rank": run_id,
                "message": "",
                "created_at": at,
                "activated_at": at,
            }
        )

    def _action(
        self, run_id: int, position: int, spec: DeployAction | EmailAction, at: datetime, rows: Rows
    ) -> int:
        self._ids["action"] += 1
        rows[ActionRow].append(
            {
                "id": self._ids["action"],
                "run_id": run_id,
                "key": action_key(run_id, Trigger.PASS, position),
                "trigger": Trigger.PASS,
                "position": position,
                "spec": to_plain(spec),
                "state": ActionState.DONE,
                "tries": 1,
                "not_before": None,
                "message": "",
                "created_at": at,
                "finished_at": at,
            }
        )
        return self._ids["action"]

    def _entry(self, run_id: int, subject: str, at: datetime, after: str) -> dict[str, Any]:
        who = "machine/boot.space/1/2"
        return {
            "at": at,
            "who": who,
            "subject": subject,
            "run_id": run_id,
            "before": "",
            "after": after,
            "reason": "",
        }


def inconsistencies(database: Database, state: Path) -> list[str]:
    """Rows that say they have a file that is not there."""
    with database.reading() as session:
        hashes = set(session.scalars(select(ArtifactRow.sha256).where(ArtifactRow.removed_at.is_(None))))
        logs = session.scalars(
            select(AttemptRow.id).where(
                AttemptRow.log_removed_at.is_(None), AttemptRow.state == AttemptState.SUCCEEDED
            )
        ).all()
    lost = [f"content {sha256}" for sha256 in hashes if not (state / "blobs" / sha256[:2] / sha256).exists()]
    return lost + [f"log {attempt}" for attempt in logs if not (state / "logs" / f"{attempt}.log").exists()]


def leftovers(database: Database, state: Path) -> list[str]:
    """Files that no row has."""
    with database.reading() as session:
        hashes = set(session.scalars(select(ArtifactRow.sha256).where(ArtifactRow.removed_at.is_(None))))
        logs = {
            f"{attempt}.log"
            for attempt in session.scalars(select(AttemptRow.id).where(AttemptRow.log_removed_at.is_(None)))
        }
    blobs = [p.name for p in (state / "blobs").rglob("*") if p.is_file() and p.name not in hashes]
    return blobs + [p.name for p in (state / "logs").iterdir() if p.name not in logs]


def configure(config: Path, state: Path, url: str) -> None:
    """Write a configuration for the history's pipelines, with rules of retention that all have to do."""
    files = {
        name: text.format(state=state, url=url) if "{" in text else text
        for name, text in _CONFIGURATION.items()
    }
    files |= {f"pipelines/{name}.yaml": _PIPELINE.format(name=name, checks=_CHECKS) for name in NAMES}
    for name, text in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
