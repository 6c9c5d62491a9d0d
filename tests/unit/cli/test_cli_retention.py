"""What people read of what goes, of what stays, and of what went."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.adapters.files.maintenance import Maintenance
from orchestrator.adapters.render import ReportRenderer
from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, Reason, Run, RunState
from orchestrator.ports.records import AttemptResult, NewRun, StoredArtifact
from tests.unit.cli.conftest import Command

RULES = "retention: {images: keep, volumes: keep, leftovers: keep, %s}\n"
LOG = b"2026-01-01T00:00:00Z hello\n"


@pytest.fixture
def app(folder: Path) -> Iterator[Application]:
    """The product on the configuration; rules may be written meanwhile."""
    rule(folder, "")
    with closing(Application(read_configuration(folder))) as made:
        yield made


def rule(folder: Path, rules: str) -> None:
    path = folder / "orchestrator.yaml"
    path.write_text(path.read_text().partition("retention:")[0] + RULES % rules)


def ended(app: Application, days: float, state: RunState = RunState.PASSED, baseline: int = 0) -> Run:
    """A run that ended so many days ago, with a model and a log."""
    at = app.clock.now() - timedelta(days=days)
    revision = Revision(
        "remote", "main", f"{'c0ffee' * 6}{int(days):04x}", "Use fewer trees", "Ann", "a@example.org", at
    )
    run = app.store.runs.enqueue(NewRun(app.pipeline("wine"), Cause.PUSH, revision, ()), (), "wine", at)
    assert run is not None
    (attempt,) = app.store.attempts.of_run(run.id)
    lease = app.store.attempts.claim(attempt.id, "desk", 9, f"box-{run.id}", "me", at, 1e9)
    assert lease is not None
    app.store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, at)
    app.store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, at)
    blob = app.blobs.put(io.BytesIO(b"model %d" % run.id), 100)
    log = app.state / "logs" / f"{attempt.id}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(LOG)
    for path in (log, app.state / "blobs" / blob.sha256[:2] / blob.sha256):
        os.utime(path, (at.timestamp(), at.timestamp()))
    files = (StoredArtifact("model.bin", blob.size, blob.sha256),)
    metrics = (Metric("accuracy", 0.9 - run.id / 1000, "metrics.json", "json"),)
    result = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=metrics, artifacts=files)
    app.store.attempts.finish(lease, AttemptState.COLLECTING, result, at)
    if state is RunState.FAILED:
        return app.store.runs.move(run.id, RunState.RUNNING, state, at, Reason.EXIT_CODE, "it failed")
    app.store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, at)
    check = CheckResult(
        "a check",
        "accuracy",
        Outcome.PASS,
        "fine",
        0.9,
        baseline_run=baseline or None,
        baseline_title="wine #1",
    )
    verdict = Verdict(Outcome.PASS, "fine", (check,) if baseline else ())
    return app.store.runs.move(run.id, RunState.EVALUATING, state, at, verdict=verdict)


def test_without_rules_nothing_goes_and_it_is_said_what_has_none(app: Application, command: Command) -> None:
    ended(app, 999)
    shown = command("retention", "plan")
    assert (shown.code, shown.out) == (0, "")
    assert shown.err.splitlines()[-1] == (
        "nothing has had its time; no rule is written for runs, artifacts, logs, releases"
    )


def test_a_plan_shows_what_goes_what_stays_and_why(app: Application, folder: Path, command: Command) -> None:
    ended(app, 99)
    ended(app, 98)
    kept = ended(app, 97)
    ended(app, 1)
    assert command("runs", "keep", str(kept.id), "--reason", "for the paper").code == 0
    rule(folder, "runs: {age: 30d, keep_last: 0}")
    for arguments in (("plan",), ("apply", "--dry-run")):
        shown = command("retention", *arguments)
        assert shown.code == 0
        lines = [" ".join(line.split()) for line in shown.out.splitlines()]
        assert lines[0] == "kind where goes size why"
        assert lines[1].startswith("runs 1 ")
        assert lines[1].endswith("older than 30d")
        assert lines[2] == "kind where stays size why"
        assert "the baseline of 'accuracy not worse than best by 1pp'" in " ".join(lines)
        assert "for the paper" in " ".join(lines)
    each = command("retention", "plan", "--each").out
    assert "wine#2" in each
    assert "older than 30d" in each
    told = json.loads(command("retention", "plan", "--json").out)
    assert told["totals"] == {"runs": {"things": 1, "count": 1, "bytes": len(b"model 2") + len(LOG)}}
    assert [(t["kind"], t["title"], t["why"]) for t in told["going"]] == [
        ("runs", "wine#2", "older than 30d")
    ]
    assert {t["title"] for t in told["staying"]} == {"wine#1", "wine#3"}
    assert len(app.store.runs.listing()) == 4


def test_what_went_is_told_and_asked_for_later_with_the_reason(
    app: Application, folder: Path, command: Command
) -> None:
    run = ended(app, 99, RunState.FAILED)
    rule(folder, "runs: {age: 30d, keep_last: 0}")
    applied = command("retention", "apply")
    assert applied.code == 0
    assert applied.err.splitlines()[-1] == "removed 1 run, 2 files; 34 B freed here"
    shown = command("runs", "show", "wine#1").err
    assert "wine#1 was removed by retention (older than 30d), 34 B, on" in shown
    assert command("runs", "logs", str(run.id)).code == 2
    again = command("retention", "apply", "--json")
    assert (again.code, json.loads(again.out)["removed"]) == (0, {})


def test_files_that_are_too_young_to_go_at_once_are_told(
    app: Application, folder: Path, command: Command
) -> None:
    ended(app, 99, RunState.FAILED)
    for path in (*app.state.glob("blobs/*/*"), *app.state.glob("logs/*")):
        os.utime(path)
    rule(folder, "runs: {age: 30d, keep_last: 0}")
    told = command("retention", "apply").err.splitlines()[-2:]
    assert told[0] == "removed 1 run; 0 B freed here"
    assert told[1].startswith("files stored in the last 6 hours go with a later pass")


def test_a_run_says_what_it_lost_wherever_it_is_shown(
    app: Application, folder: Path, command: Command, tmp_path: Path
) -> None:
    run = ended(app, 99, RunState.FAILED)
    rule(folder, "artifacts: {age: 30d, keep_last: 0}, logs: {age: 30d, keep_last: 0}")
    assert command("retention", "apply", "--only", "artifacts", "--only", "logs").code == 0
    told = f"removed by retention on {app.clock.now():%Y-%m-%d} (older than 30d)"
    assert f"the log of wine#1 was {told}" in command("runs", "logs", "1").err
    listed = command("runs", "artifacts", "1")
    assert told in " ".join(listed.out.split())
    assert json.loads(command("runs", "artifacts", "1", "--json").out)[0]["removed"] == told
    downloaded = command("runs", "artifacts", "1", "--download", str(tmp_path / "out"))
    assert downloaded.code == 3
    assert f"model.bin was {told}" in downloaded.err
    shown = " ".join(command("runs", "show", "1").out.split())
    assert f"the log of replicate 0 was {told}" in shown
    assert shown.count(told) >= 2
    report = app.reports.build(app.store.runs.get(run.id))
    assert report.log_tail == (f"The log was {told}.",)
    rendered = ReportRenderer().render(report)
    for text in (rendered.text, rendered.html):
        assert f"7 B, {told}" in " ".join(text.split())


def test_a_run_is_shown_although_what_it_was_compared_with_went(
    app: Application, folder: Path, command: Command
) -> None:
    oldest = ended(app, 99, RunState.REJECTED)
    older = ended(app, 98, RunState.REJECTED, baseline=oldest.id)
    ended(app, 1, baseline=older.id)
    rule(folder, "runs: {age: 30d, keep_last: 0}")
    applied = command("retention", "apply", "--each")
    assert "a run that stays was compared with it wine#3" in " ".join(applied.out.split())
    assert [run.id for run in app.store.runs.listing()] == [3, 2]
    shown = command("runs", "show", str(older.id))
    assert shown.code == 0
    assert "fine" in shown.out


def test_kept_runs_are_listed_with_who_and_why(app: Application, command: Command) -> None:
    run = ended(app, 1)
    assert command("runs", "kept").err.startswith("nobody keeps a run")
    assert command("runs", "keep", "wine#1").code == 2
    assert command("runs", "keep", "wine#1", "--reason", "for the paper").err.strip() == "wine#1 is kept"
    (kept,) = json.loads(command("runs", "kept", "--json").out)
    assert (kept["id"], kept["reference"], kept["reason"]) == (run.id, "wine#1", "for the paper")
    assert "for the paper" in command("runs", "kept").out
    assert command("runs", "unkeep", "wine#1").err.strip() == "wine#1 is no longer kept"
    assert command("runs", "unkeep", "wine#1").err.strip() == "wine#1 is not kept"


def test_it_is_said_that_a_backup_is_at_work(app: Application, folder: Path, command: Command) -> None:
    ended(app, 99, RunState.FAILED)
    rule(folder, "runs: {age: 30d, keep_last: 0}")
    with Maintenance(app.state).copying():
        applied = command("retention", "apply")
    assert applied.code == 3
    assert "a backup or another retention is at work; try again later" in applied.err
    assert len(app.store.runs.listing()) == 1


def test_a_host_that_does_not_answer_is_told_and_the_exit_code_says_so(
    app: Application, folder: Path, command: Command
) -> None:
    path = folder / "orchestrator.yaml"
    path.write_text(path.read_text().replace("images: keep, ", ""))
    ended(app, 99, RunState.FAILED)
    shown = command("retention", "plan", "--only", "images")
    assert shown.code == 3
    assert "desk: " in shown.err
    assert command("retention", "plan", "--only", "runs").code == 0
