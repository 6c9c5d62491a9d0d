"""Commands on a configuration whose engine does not answer: what they print, and what a shell learns."""

from __future__ import annotations

import io
import json
import re
import socket
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, Reason, Run, RunState
from orchestrator.ports.records import AttemptResult, NewRun
from tests.support.git import GitRepository
from tests.unit.cli.conftest import Command

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def enqueued(folder: Path, branch: str = "main", pipeline: str = "wine") -> Run:
    """A run that nobody executes."""
    app = Application(read_configuration(folder))
    try:
        revision = Revision(
            "remote", branch, "c0ffee" * 6 + "beef", "Use \x1b[31mfewer trees", "Ann", "a@example.org", AT
        )
        run = app.store.runs.enqueue(
            NewRun(app.pipeline(pipeline), Cause.PUSH, revision, ()), (), pipeline, app.clock.now()
        )
        assert run is not None
        return run
    finally:
        app.close()


def passed(
    folder: Path,
    branch: str = "main",
    *,
    metric: str = "accuracy",
    pipeline: str = "wine",
    difference: float | None = None,
) -> Run:
    """A run that was carried through to its verdict."""
    made = enqueued(folder, branch, pipeline)
    app = Application(read_configuration(folder))
    try:
        store, now = app.store, app.clock.now()
        attempt = store.attempts.of_run(made.id)[0]
        lease = store.attempts.claim(attempt.id, "desk", 2, "box", "me", now, 60)
        assert lease is not None
        store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, now)
        store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, now)
        result = AttemptResult(
            AttemptState.SUCCEEDED, Reason.COMPLETED, metrics=(Metric(metric, 0.93, "metrics.json"),)
        )
        store.attempts.finish(lease, AttemptState.COLLECTING, result, now)
        check = CheckResult(
            f"{metric} >= 0.9",
            metric,
            Outcome.PASS,
            f"{metric} 0.93 meets the limit",
            estimate=0.986111,
            difference=difference,
            baseline_run=None if difference is None else made.id,
        )
        verdict = Verdict(Outcome.PASS, check.sentence, (check,))
        store.runs.move(made.id, RunState.RUNNING, RunState.EVALUATING, now)
        return store.runs.move(made.id, RunState.EVALUATING, RunState.PASSED, now, verdict=verdict)
    finally:
        app.close()


def test_a_missing_configuration_is_wrong_usage_and_says_what_to_do(command: Command, tmp_path: Path) -> None:
    ended = command("--config", str(tmp_path / "none"), "runs", "list")
    assert ended.code == 2
    assert "orchestrator init" in ended.err
    assert "Traceback" not in ended.err


def test_every_mistake_of_a_configuration_has_its_place(command: Command, folder: Path) -> None:
    path = folder / "pipelines" / "wine.yaml"
    path.write_text(path.read_text().replace("gate:", "gates:").replace("runner: cpu", "runner: gpu"))
    for arguments in (("validate",), ("runs", "list")):
        ended = command(*arguments)
        assert ended.code == 2
        told = ended.out + ended.err
        assert f"{path}:5:15: " in told
        assert f"{path}:6:1: " in told


def test_validate_as_json_tells_each_problem_apart(command: Command, folder: Path) -> None:
    (folder / "runners" / "cpu.yaml").write_text("runner: cpu\nimage: python:3.12-slim\nreplica: 3\n")
    ended = command("validate", "--json")
    assert ended.code == 2
    (problem,) = json.loads(ended.out)
    assert (problem["line"], problem["severity"]) == (3, "error")


def test_a_valid_configuration_validates(command: Command, folder: Path) -> None:
    ended = command("validate")
    assert (ended.code, ended.err) == (0, "")
    assert "valid (1 pipeline, 1 runner)" in ended.out


def test_an_error_that_is_not_the_users_ends_with_3_and_one_line(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Application) -> None:
        raise StoreUnavailable("the database did not answer", "look at the disk")

    monkeypatch.setattr(Application, "store", property(refuse))
    ended = command("runs", "list")
    assert ended.code == 3
    assert ended.err == "error: the database did not answer. To do: look at the disk\n"
    assert "Traceback" in command("--verbose", "runs", "list").err


def test_a_defect_shows_its_traceback(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(_: Application) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Application, "store", property(break_down))
    ended = command("runs", "list")
    assert ended.code == 3
    assert "ZeroDivisionError: oh" in ended.err
    assert "a defect of the orchestrator" in ended.err


def test_a_run_that_is_not_there_is_wrong_usage(command: Command, folder: Path) -> None:
    for arguments in (("runs", "show", "9"), ("runs", "logs", "wine#7"), ("run", "wien")):
        ended = command(*arguments)
        assert ended.code == 2, arguments
        assert ended.err.startswith("error: there is no"), arguments
    assert 'did you mean "wine"?' in command("run", "wien").err


def test_runs_list_fits_100_columns_and_shows_nothing_that_moves_the_cursor(
    command: Command, folder: Path
) -> None:
    passed(folder)
    enqueued(folder, "feature/with-quite-a-long-name-that-goes-on-and-on")
    ended = command("runs", "list")
    header, newest, oldest = ended.out.splitlines()
    assert header.split()[0] == "run"
    assert newest.split()[:2] == ["wine#2", "queued"]
    assert oldest.split()[:4] == ["wine#1", "passed", "accuracy", "0.9861"]
    assert all(len(line) <= 100 for line in (header, newest, oldest))
    assert "\x1b" not in ended.out
    assert "\x1b" not in command("runs", "show", "wine#1").out


def test_runs_list_never_cuts_a_difference(command: Command, folder: Path) -> None:
    name = "wine-quality-of-the-northern"
    text = (folder / "pipelines" / "wine.yaml").read_text()
    (folder / "pipelines" / "wine.yaml").write_text(text.replace("pipeline: wine", f"pipeline: {name}"))
    passed(folder, "feature/quite-long", metric="validation/accuracy", pipeline=name, difference=-0.0125)
    header, row = command("runs", "list").out.splitlines()
    assert "0.986 (-0.013)" in row
    assert row.startswith(f"{name}#1  passed  ")
    assert "…" in row
    assert len(row) <= 100
    assert "cause" not in header


def test_runs_list_filters_and_prints_json(command: Command, folder: Path) -> None:
    passed(folder)
    enqueued(folder, "other")
    assert [r["reference"] for r in json.loads(command("runs", "list", "--json").out)] == ["wine#2", "wine#1"]
    (first,) = json.loads(command("--json", "runs", "list", "--state", "passed").out)
    assert (first["id"], first["word"], first["trend"]) == (1, "passed", None)
    assert [r["id"] for r in json.loads(command("runs", "list", "--json", "-b", "other").out)] == [2]
    assert [r["id"] for r in json.loads(command("runs", "list", "--json", "-n", "1").out)] == [2]
    assert command("runs", "list", "--pipeline", "beer").code == 2


def test_a_waiting_run_says_why(command: Command, folder: Path) -> None:
    enqueued(folder)
    shown = json.loads(command("runs", "show", "1", "--json").out)
    nobody, silent = shown["waiting"]
    assert nobody == "no server is up: start `orchestrator serve`, or `orchestrator runs resume` it"
    assert silent.startswith("it waits for a host: desk does not answer: ")
    assert shown["now"] == []
    assert shown["attempts"][0]["state"] == "queued"


def test_show_tells_everything_with_the_journal(command: Command, folder: Path) -> None:
    passed(folder)
    plain = command("runs", "show", "wine#1", "--journal")
    assert plain.code == 0
    for text in ("passed", "c0ffee", "Ann <a@example.org>", "evaluating"):
        assert text in plain.out
    assert plain.out.count("accuracy 0.93 meets the limit") == 1
    assert plain.out.count("Use [31mfewer trees") == 1
    assert "journal" not in command("runs", "show", "wine#1").out


def test_the_report_of_a_run_is_printed_or_written_as_one_file(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    passed(folder)
    told = command("runs", "report", "wine#1")
    assert told.code == 0
    assert "accuracy 0.93 meets the limit" in told.out
    page = tmp_path / "out.html"
    assert command("runs", "report", "wine#1", "--html", str(page)).code == 0
    assert "accuracy 0.93 meets the limit" in page.read_text()
    assert json.loads(command("runs", "report", "1", "--json").out)["state"] == "passed"


def test_a_report_that_cannot_be_written_says_why(command: Command, folder: Path, tmp_path: Path) -> None:
    passed(folder)
    refused = command("runs", "report", "wine#1", "--html", str(tmp_path / "missing" / "out.html"))
    assert refused.code == 2
    assert "could not be written: No such file or directory" in refused.err


def test_a_queued_run_is_cancelled_at_once_and_by_name(command: Command, folder: Path) -> None:
    enqueued(folder)
    assert command("runs", "cancel", "wine#1").code == 0
    shown = json.loads(command("runs", "show", "1", "--json", "--journal").out)
    assert shown["state"] == "cancelled"
    assert any(socket.gethostname() in entry["who"] for entry in shown["journal"])
    who = next(entry["who"] for entry in shown["journal"] if "asked to end" in entry["reason"])
    told = command("runs", "show", "1").out
    assert f"asked for by {who}" in told
    assert re.search(rf"asked to end +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d by {re.escape(who)}", told)
    assert "has ended already" in command("runs", "cancel", "1").err


def test_copies_of_checkpoints_go_with_their_run_also_where_no_server_is(
    command: Command, folder: Path
) -> None:
    over, waiting = enqueued(folder), enqueued(folder, "other")
    with closing(Application(read_configuration(folder))) as app:
        for run in (over, waiting):
            app.checkpoints.keep(run.id, 0, 1, lambda out: out.write(b"weights"))
        assert command("runs", "cancel", str(over.id)).code == 0
        assert app.checkpoints.runs() == {waiting.id}


def test_run_without_waiting_enqueues_and_says_how_it_goes_on(command: Command, folder: Path) -> None:
    ended = command("run", "wine", "--no-wait", "--replicates", "2", "--json")
    assert ended.code == 0
    made = json.loads(ended.out)
    assert (made["cause"], made["replicates"], made["branch"]) == ("manual", 2, "main")
    assert "orchestrator runs resume 1" in ended.err
    assert command("run", "wine", "--host", "moon").code == 2
    assert command("run", "wine", "--no-wait", "--ref", "no-such-branch").code == 2


def test_retry_makes_a_new_run_of_the_same_commit(command: Command, folder: Path) -> None:
    command("run", "wine", "--no-wait")
    first = json.loads(command("runs", "show", "1", "--json").out)
    again = json.loads(command("runs", "retry", "1", "--no-wait", "--json").out)
    assert (again["rerun_of"], again["commit"], again["cause"]) == (1, first["commit"], "rerun")


def test_plan_says_what_would_run_and_leaves_no_trace(
    command: Command, folder: Path, tmp_path: Path, git_repository: GitRepository
) -> None:
    fresh = json.loads(command("plan", "wine", "--json").out)
    assert [look["news"] for look in fresh["data"]] == ["being written"]
    assert fresh["waits"] == ["dataset grapes: it is being written until it has been still for 10 s"]
    wine = folder / "pipelines/wine.yaml"
    wine.write_text(wine.read_text().replace("../grapes}", "../grapes, settle: 0s}"))
    ended = command("plan", "wine", "--json")
    assert ended.code == 0
    planned = json.loads(ended.out)
    assert planned["expected"] == ["one run of remote, because it was not seen before"]
    assert planned["branches"][0]["now"] == git_repository.head()
    assert planned["data"][0]["news"] == "not seen before"
    assert planned["hosts"][0]["free"] == 2
    assert planned["hosts"][0]["image"].startswith("not known")
    assert planned["baselines"][0]["why_none"] == "no eligible baseline yet"
    assert planned["actions"] == [{"on": "pass", "does": "deploy to prod: model.bin"}]
    assert not (tmp_path / "var").exists()
    assert "because it was not seen before" in command("plan", "wine").out


def test_plan_does_not_write_to_a_database_that_is_there(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    passed(folder)
    database = tmp_path / "var" / "orchestrator.db"
    before = (database.read_bytes(), sorted(p.name for p in (tmp_path / "var").iterdir() if p.is_file()))
    assert json.loads(command("plan", "wine", "--json").out)["baselines"][0]["baseline"] == "wine #1"
    after = (database.read_bytes(), sorted(p.name for p in (tmp_path / "var").iterdir() if p.is_file()))
    assert before == after


def test_baselines_are_pinned_with_a_reason_and_unpinned(command: Command, folder: Path) -> None:
    passed(folder)
    enqueued(folder)
    assert command("baselines", "pin", "wine#1").code == 2
    assert command("baselines", "pin", "wine#2", "--reason", "fast").code == 2
    assert command("baselines", "pin", "wine#1", "--name", "gold", "--reason", "the paper's").code == 0
    rows = json.loads(command("baselines", "list", "--json").out)
    assert ("pinned:gold", "wine#1") in [(row["check"], row["baseline"]) for row in rows]
    assert "the paper's" in command("runs", "show", "1", "--journal").out
    assert command("baselines", "unpin", "wine", "--name", "gold").code == 0
    assert command("baselines", "unpin", "wine", "--name", "gold").code == 2


def test_baselines_begin_anew_with_a_run_and_that_is_taken_back(command: Command, folder: Path) -> None:
    passed(folder)
    assert command("rebaseline", "wine", "wine#1").code == 2
    assert command("rebaseline", "wine", "--reason", "none named").code == 2
    assert command("rebaseline", "other", "wine#1", "--reason", "of another").code == 2
    assert command("rebaseline", "wine", "wine#1", "--reason", "new metric").code == 0
    rows = json.loads(command("baselines", "list", "--json").out)
    (begins,) = [row for row in rows if row["check"] == "all begin with"]
    assert begins["baseline"] == "wine#1"
    assert "new metric" in begins["why_none"]
    assert "new metric" in command("runs", "show", "1", "--journal").out
    assert command("rebaseline", "wine", "--undo", "--reason", "oops").code == 0
    assert "all begin with" not in command("baselines", "list", "--json").out
    assert "oops" in command("runs", "show", "1", "--journal").out
    assert command("rebaseline", "wine", "--undo", "--reason", "twice").code == 2


def test_a_run_outside_the_deploy_branches_is_no_baseline(command: Command, folder: Path) -> None:
    passed(folder, "feature")
    ended = command("baselines", "pin", "wine#1", "--reason", "nice")
    assert ended.code == 2
    assert "deploy_branches" in ended.err


def test_datasets_are_scanned_listed_and_compared(command: Command, folder: Path, tmp_path: Path) -> None:
    path = folder / "pipelines" / "wine.yaml"
    path.write_text(path.read_text().replace("{path: ../grapes}", "{path: ../grapes, settle: 0s}"))
    assert json.loads(command("datasets", "list", "--json").out)[0]["newest"] is None
    assert json.loads(command("datasets", "scan", "grapes", "--json").out)["number"] == 1
    (tmp_path / "grapes" / "b.csv").write_text("3,4\n")
    assert command("datasets", "scan", "wine/grapes").code == 0
    versions = json.loads(command("datasets", "show", "grapes", "--json").out)
    assert [(v["number"], v["files"], v["changed"]) for v in versions] == [(1, 1, ""), (2, 2, "+1 file")]
    assert command("datasets", "show", "raisins").code == 2


def test_the_newest_versions_of_a_dataset_are_shown_and_all_when_asked_for(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    path = folder / "pipelines" / "wine.yaml"
    path.write_text(path.read_text().replace("{path: ../grapes}", "{path: ../grapes, settle: 0s}"))
    for number in range(1, 5):
        (tmp_path / "grapes" / f"{number}.txt").write_text(str(number))
        assert command("datasets", "scan", "grapes").code == 0

    def shown(*options: str) -> list[tuple[int, str]]:
        told = json.loads(command("datasets", "show", "grapes", "--json", *options).out)
        return [(version["number"], version["changed"]) for version in told]

    assert shown("--limit", "2") == [(3, "+1 file"), (4, "+1 file")]
    assert shown("--limit", "4") == shown() == [(1, ""), *((number, "+1 file") for number in (2, 3, 4))]
    assert shown("--limit", "1", "--all") == shown()


def test_two_versions_of_a_dataset_are_compared_by_files_and_by_tables(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    path = folder / "pipelines" / "wine.yaml"
    path.write_text(path.read_text().replace("{path: ../grapes}", "{path: ../grapes, settle: 0s}"))
    grapes = tmp_path / "grapes"
    (grapes / "a.csv").write_text("id,ph\n1,3\n")
    (grapes / "old.txt").write_text("old")
    assert command("datasets", "diff", "grapes").code == 2
    assert command("datasets", "scan", "grapes", "--check").code == 1
    assert command("datasets", "scan", "grapes").code == 0
    assert command("datasets", "scan", "grapes", "--check").code == 0
    (grapes / "a.csv").write_text("id,ph,sugar\n1,3,5\n2,3,4\n")
    (grapes / "new.txt").write_text("new!")
    (grapes / "old.txt").unlink()
    changed = command("datasets", "scan", "grapes", "--check", "--json")
    assert (changed.code, json.loads(changed.out)["changed"]) == (1, True)
    assert len(json.loads(command("datasets", "show", "grapes", "--json").out)) == 1
    assert command("datasets", "scan", "grapes").code == 0
    told = json.loads(command("datasets", "diff", "grapes", "--json").out)
    assert (told["added"], told["removed"], told["changed"]) == (
        {"new.txt": 4},
        {"old.txt": 3},
        {"a.csv": [10, 24]},
    )
    assert told["tables"] == ["a.csv: 2 rows, +1; new column sugar"]
    assert command("datasets", "diff", "grapes", "v1", "2", "--exit-code").code == 1
    assert command("datasets", "diff", "grapes", "v2", "v2", "--exit-code").code == 0
    shown = command("datasets", "diff", "grapes", "--limit", "1")
    assert "new.txt" in shown.out
    assert "2 more files differ" in shown.err
    assert command("datasets", "diff", "grapes", "v9").code == 2
    assert command("datasets", "diff", "grapes", "wine#7").code == 2
    newest = json.loads(command("datasets", "show", "grapes", "--json").out)[-1]
    assert newest["tables"]["a.csv"]["rows"] == 2
    assert "2 rows, 3 columns" in command("datasets", "show", "grapes").out


def test_an_engine_that_does_not_answer_is_told_by_hosts_and_doctor(command: Command, folder: Path) -> None:
    (host,) = json.loads(command("hosts", "list", "--json").out)
    assert (host["reachable"], host["slots"]) == (False, 2)
    checked = command("hosts", "check", "--json")
    assert checked.code == 3
    (connect,) = json.loads(checked.out)
    assert (connect["part"], connect["result"]) == ("connect", "fail")
    assert command("hosts", "check", "moon").code == 2


def test_the_runners_are_listed_with_their_hosts(command: Command, folder: Path) -> None:
    ended = command("runners", "list")
    assert ended.out.splitlines()[1].split() == ["cpu", "python:3.12-slim", "-", "bridge", "desk"]


def test_the_database_is_made_upgraded_backed_up_and_restored(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    empty = command("db", "current")
    assert (empty.code, empty.out) == (3, "none\n")
    assert empty.err.strip() == "the database is empty: run `orchestrator db upgrade`"
    assert command("db", "upgrade").code == 0
    assert json.loads(command("db", "current", "--json").out)["revision"] is not None
    copy = tmp_path / "backup.tar"
    made = command("db", "backup", "--json", str(copy))
    assert json.loads(made.out)["bytes"] == copy.stat().st_size
    assert "their key is not" in made.err
    assert command("db", "backup", str(copy)).code == 2
    restored = command("db", "restore", str(copy))
    assert restored.code == 0
    assert "stored secrets need the key" in restored.err
    assert restored.err.splitlines()[-1].endswith("then `orchestrator serve`")
    assert command("db", "restore", str(copy)).code == 3
    assert command("db", "restore", "--force", str(copy)).code == 0
    copy.write_bytes(copy.read_bytes()[:-20_000])
    damaged = command("db", "restore", "--force", str(copy))
    assert (damaged.code, damaged.out) == (3, "")
    assert "cut off" in damaged.err


def test_a_backup_into_a_folder_that_is_missing_makes_it_and_the_next_night_adds_to_it(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    assert command("db", "upgrade").code == 0
    nightly = tmp_path / "backups" / "nightly"
    first = command("db", "backup", f"{nightly}/")
    assert first.code == 0, first.err
    assert Path(first.out.strip()).parent == nightly
    assert nightly.stat().st_mode & 0o777 == 0o700
    Path(first.out.strip()).rename(nightly / "yesterday.tar")
    assert command("db", "backup", f"{nightly}/").code == 0
    assert len(list(nightly.iterdir())) == 2
    beneath_a_file = command("db", "backup", f"{nightly}/yesterday.tar/")
    assert beneath_a_file.code == 2
    assert "cannot be made: File exists" in beneath_a_file.err


def test_links_lead_to_the_server_that_is_up_unless_an_address_is_configured(
    command: Command, folder: Path
) -> None:
    passed(folder)
    served, configured = "http://127.0.0.1:18080", "https://ci.example.org"
    app = Application(read_configuration(folder))
    try:
        owner = app.processes.this()
        app.store.servers.register(owner, served, app.clock.now())
        assert json.loads(command("runs", "show", "1", "--json").out)["url"] == f"{served}/runs/1"
        app.store.servers.unregister(owner)
        assert json.loads(command("runs", "show", "1", "--json").out)["url"] == "http://127.0.0.1:8080/runs/1"
        app.store.servers.register(owner, served, app.clock.now())
        with (folder / "orchestrator.yaml").open("a") as file:
            file.write(f"web: {{url: {configured}}}\n")
        assert json.loads(command("runs", "show", "1", "--json").out)["url"] == f"{configured}/runs/1"
    finally:
        app.close()


def test_schema_prints_one_kind_or_writes_all(command: Command, tmp_path: Path) -> None:
    assert json.loads(command("schema", "runner").out)["type"] == "object"
    assert command("schema").code == 2
    assert command("schema", "--out", str(tmp_path / "schemas")).code == 0
    assert sorted(p.name for p in (tmp_path / "schemas").iterdir()) == [
        "orchestrator.json",
        "pipeline.json",
        "runner.json",
    ]


def test_init_writes_a_configuration_that_validates_and_overwrites_nothing(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = str(tmp_path / "fresh" / "config")
    arguments = ("init", made, "--pipeline", "churn", "--source", "git/remote.git", "--dataset", "grapes")
    assert command(*arguments).code == 0
    assert command("validate", made).code == 0
    assert json.loads(command("--config", made, "datasets", "list", "--json").out)[0]["path"] == str(
        tmp_path / "grapes"
    )
    ended = command(*arguments)
    assert ended.code == 2
    assert "exists already" in ended.err


def test_init_takes_the_runner_image_that_is_at_hand_and_says_so(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "runner-images" / "cpu"
    shipped.mkdir(parents=True)
    (shipped / "Dockerfile").write_text("FROM mlci/base:1\n")
    ended = command("init", "--pipeline", "churn")
    assert "image: {build: ../runner-images/cpu}\n" in (tmp_path / "config/runners/cpu.yaml").read_text()
    assert "runs execute in runner-images/cpu, built from its Dockerfile" in ended.err
    named = command("init", "other", "--pipeline", "churn", "--image", "python:3.12-slim")
    assert "image: python:3.12-slim\n" in (tmp_path / "other/runners/cpu.yaml").read_text()
    assert "runs execute in python:3.12-slim, pulled" in named.err


def test_serve_says_at_once_that_it_starts(command: Command, tmp_path: Path) -> None:
    first = command("--config", str(tmp_path / "gone"), "serve").err.splitlines()[0]
    assert first.endswith(f"starting, the configuration is in {tmp_path / 'gone'}")


def test_serve_refuses_to_open_itself_to_the_network(command: Command, folder: Path) -> None:
    ended = command("serve", "--host", "0.0.0.0")  # noqa: S104 - what is refused
    assert ended.code == 2
    assert "reverse proxy" in ended.err


def test_an_artifact_whose_name_leads_out_is_not_written(folder: Path, tmp_path: Path) -> None:
    from orchestrator.cli.artifacts import save
    from orchestrator.domain.errors import InvalidInput
    from orchestrator.ports.records import StoredArtifact

    app = Application(read_configuration(folder))
    try:
        blob = app.blobs.put(_stream(b"model"), 100)
        good = StoredArtifact("out/model.bin", blob.size, blob.sha256)
        assert save(app, [(0, good)], tmp_path / "there", apart=False) == 1
        assert (tmp_path / "there" / "out" / "model.bin").read_bytes() == b"model"
        for path in ("../evil", "/tmp/evil", "a/../../evil"):
            with pytest.raises(InvalidInput):
                save(app, [(0, replace(good, path=path))], tmp_path / "there", apart=False)
        with pytest.raises(InvalidInput, match="exists already"):
            save(app, [(0, good)], tmp_path / "there", apart=False)
    finally:
        app.close()
    assert not (tmp_path / "evil").exists()


def _stream(content: bytes) -> BinaryIO:

    return io.BytesIO(content)
