"""One report says everything about a run, from what the database and the files remember."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.action import Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction, Rule, WebhookAction
from orchestrator.domain.change import DatasetRole
from orchestrator.domain.chart import TrendChart
from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.gate import Gate
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import DatasetSpec, Limits, MetricSpec, Pipeline, Setup
from orchestrator.domain.report import ArtifactRow, CommitRow, MetricRow, Trend, Word
from orchestrator.domain.run import Exit, Reason, Run, RunState
from orchestrator.services.report import ReportBuilder
from tests.support.fake_engine import Script
from tests.unit.services.worlds import World, commit_id, pipeline

ROWS = DatasetSpec("rows", "/data/rows", DatasetRole.TRAIN, settle=0)


def judged(**changes: object) -> Pipeline:
    checks = (parse_check("accuracy >= 0.5"), parse_check("accuracy not worse than previous by 0.1"))
    return pipeline(**{"gate": Gate(checks), "datasets": (ROWS,), **changes})


def executed(world: World, of: Pipeline, word: str, script: Script) -> Run:
    world.engine.script(script)
    if world.store.detection.heads(of.name, "repo"):
        world.sources.push("main", word)
        (run,) = world.detector.poll_source(of, of.sources[0])
    else:
        run = world.first_run(of)
    return world.finish(run, world.server())


def leaving(metrics: bytes, **files: bytes) -> Script:
    left = {f"/mlci/output/{name}": content for name, content in files.items()}
    return Script((b"epoch 1",), Exit(0), {"/mlci/output/metrics.json": metrics, **left})


def test_a_report_of_a_judged_run_has_all_its_parts(world: World) -> None:
    watched = judged(
        metrics=(MetricSpec("latency", Direction.LOWER, "ms"),),
        actions=((Trigger.PASS, DeployAction("prod")),),
    )
    first = executed(world, watched, "a", leaving(b'{"accuracy": 0.9, "latency": 10}'))
    world.data.write("more.csv", b"3\n")
    run = executed(world, watched, "b", leaving(b'{"accuracy": 0.875, "latency": 12.5}', model=b"w"))
    report = world.reports.build(run)
    assert (report.word, report.headline) == (Word.PASSED, run.verdict.sentence if run.verdict else "")
    assert report.key_metric == "accuracy 0.875 (-0.025)"
    assert report.outcome == "not deployed"
    assert [c.metric for c in report.checks] == ["accuracy", "accuracy"]
    assert report.metrics == (
        MetricRow("accuracy", "0.875", "0.9", "-0.025", "", False),
        MetricRow("latency", "12.5", "10", "+2.5", "ms", False),
    )
    assert report.baseline_title == first.title
    assert report.what_changed == f"code and data (rows) changed since {first.title}"
    assert report.commits == (CommitRow(commit_id("b")[:8], "a subject", "Ada"),)
    assert report.data_changes == ("rows v2: +1 file since rows v1",)
    assert report.artifacts == (ArtifactRow("metrics.json", 36), ArtifactRow("model", 1))
    assert (report.log_tail, report.likely_cause, report.warnings) == ((), "", ())
    assert report.host == "local"
    assert report.url == f"http://ci.example.org/runs/{run.id}"
    world.actor().tick()
    after = world.reports.build(run)
    assert after.outcome == "deployed to prod"
    assert [(d.server, d.state) for d in after.deployments] == [("prod", "active")]


def test_a_failed_run_shows_the_reason_first_and_the_end_of_its_log(world: World) -> None:
    script = Script((b"epoch 1", b"ModuleNotFoundError: No module named 'sklearn'"), Exit(1))
    run = executed(world, judged(), "a", script)
    report = world.reports.build(run)
    assert (report.word, report.headline) == (Word.FAILED, "the command ended with exit code 1")
    assert report.log_tail == ("epoch 1", "ModuleNotFoundError: No module named 'sklearn'")
    assert "sklearn" in report.likely_cause
    assert report.subject == "[wine] failed: ModuleNotFoundError: No module named 'sklearn' (exit code 1)"
    assert (report.key_metric, report.checks) == ("", ())


def test_a_setup_that_fails_shows_the_end_of_its_output(world: World) -> None:
    output = tuple(f"line {number}".encode() for number in range(40))
    world.sources.files["requirements.txt"] = b"numpy\n"
    world.engine.script(Script(output, Exit(4)), lambda spec: "-setup-" in spec.name)
    watched = judged(execution=replace(judged().execution, setup=Setup(("make",), ("requirements.txt",))))
    run = world.finish(world.first_run(watched), world.server())
    assert run.reason is Reason.SETUP
    assert world.reports.build(run).log_tail == tuple(f"line {number}" for number in range(10, 40))


def test_a_first_pass_says_that_there_is_nothing_to_compare_with(world: World) -> None:
    said = "; there is nothing to compare with yet"
    headlines = [
        world.reports.build(executed(world, judged(), word, leaving(b'{"accuracy": 0.9}'))).headline
        for word in ("a", "b")
    ]
    assert [headline.endswith(said) for headline in headlines] == [True, False]


def test_a_failing_replicate_is_the_one_whose_log_is_shown(world: World) -> None:
    world.engine.script(Script((b"fine",), Exit(0), {"/mlci/output/metrics.json": b'{"accuracy": 1}'}))
    world.engine.script(Script((b"boom",), Exit(1)), lambda spec: spec.env.get("MLCI_REPLICATE") == "1")
    run = world.finish(world.first_run(judged(replicates=2)), world.server())
    assert run.reason is Reason.EXIT_CODE
    assert world.reports.build(run).log_tail == ("boom",)


def test_the_word_tells_how_a_run_differs_from_the_one_before(world: World) -> None:
    words = [
        world.reports.build(executed(world, judged(), word, leaving(metrics))).word
        for word, metrics in (
            ("a", b'{"accuracy": 0.9}'),
            ("b", b'{"accuracy": 0.1}'),
            ("c", b'{"accuracy": 0.1}'),
            ("d", b'{"accuracy": 0.9}'),
        )
    ]
    assert words == [Word.PASSED, Word.BROKEN, Word.STILL_FAILING, Word.FIXED]


def test_a_crash_after_a_rejection_has_failed_and_is_still_broken(world: World) -> None:
    executed(world, judged(), "a", leaving(b'{"accuracy": 0.9}'))
    executed(world, judged(), "b", leaving(b'{"accuracy": 0.1}'))
    report = world.reports.build(executed(world, judged(), "c", Script((b"boom",), Exit(1))))
    assert (report.word, report.trend, report.label) == (
        Word.FAILED,
        Trend.STILL_BROKEN,
        f"{report.run.state.value} (still broken)",
    )


def test_what_a_person_should_know_beside_the_verdict_is_said(world: World) -> None:
    watched = judged(limits=Limits(file_size=40), replicates=2)
    ending = Exit(0, oom_killed=True)
    script = replace(leaving(b'{"accuracy": 0.9}', model=b"w" * 41), exit=ending)
    report = world.reports.build(executed(world, watched, "a", script))
    assert [w.split(":")[0] for w in report.warnings] == [
        "a child process was killed for lack of memory, yet the command ended with 0",
        "accuracy",
        "not kept",
    ]
    assert "MLCI_SEED" in report.warnings[1]
    assert "model" in report.warnings[2]


def test_a_report_of_the_start_judges_nothing_yet(world: World) -> None:
    run = world.first_run(judged())
    report = world.reports.build(run, trigger=Trigger.START)
    assert (report.word, report.headline) == (Word.STARTED, "first sight on main")
    assert (report.key_metric, report.outcome, report.duration) == ("", "", "")


def test_a_repository_out_of_reach_costs_the_report_only_its_commits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed(world, judged(), "a", leaving(b'{"accuracy": 0.9}'))
    run = executed(world, judged(), "b", leaving(b'{"accuracy": 0.9}'))

    def logged(*args: object) -> list[str]:
        raise SourceUnavailable("no answer")

    monkeypatch.setattr(world.sources, "logged", logged)
    report = world.reports.build(run)
    assert report.commits == ()
    assert report.word is Word.PASSED


def test_a_run_that_is_rewritten_says_so(world: World) -> None:
    watched = judged()
    first = executed(world, watched, "a", leaving(b'{"accuracy": 0.9}'))
    world.sources.push("main", "b", rewrite=True)
    (run,) = world.detector.poll_source(watched, watched.sources[0])
    report = world.reports.build(world.finish(run, world.server()))
    assert report.what_changed == f"code changed since {first.title}; the history of main was rewritten"


def test_data_that_were_moved_to_another_place_are_compared_all_the_same(world: World) -> None:
    there = DatasetSpec("wine", "/data/wine", DatasetRole.TRAIN, settle=0)
    executed(world, judged(datasets=(there,)), "first", leaving(b'{"accuracy": 0.9}'))
    world.data.write("more.csv", b"3,4\n")
    elsewhere = replace(there, path="/data/new", include=("*.csv",))
    run = executed(world, judged(datasets=(elsewhere,)), "second", leaving(b'{"accuracy": 0.9}'))
    assert world.reports.build(run).data_changes == ("wine v1: +1 file since wine v1, taken from elsewhere",)


def test_the_chart_of_a_judged_metric_tells_its_history_and_its_baseline(world: World) -> None:
    first = executed(world, judged(), "a", leaving(b'{"accuracy": 0.9}'))
    run = executed(world, judged(), "b", leaving(b'{"accuracy": 0.875}'))
    (chart,) = world.reports.build(run, pictured=True).charts
    assert isinstance(chart, TrendChart)
    assert [(p.label, p.value) for p in chart.points] == [
        (f"#{first.number}", 0.9),
        (f"#{run.number}", 0.875),
    ]
    assert (chart.metric, chart.direction, chart.baseline) == ("accuracy", "higher", 0.9)


def test_a_first_run_has_no_trend_and_reports_without_pictures_read_no_history(world: World) -> None:
    first = executed(world, judged(), "a", leaving(b'{"accuracy": 0.9}'))
    assert world.reports.build(first, pictured=True).charts == ()
    run = executed(world, judged(), "b", leaving(b'{"accuracy": 0.875}'))
    assert world.reports.build(run).charts == ()


def test_runs_on_other_evaluation_data_are_not_in_a_trend(world: World) -> None:
    watched = judged(datasets=(replace(ROWS, role=DatasetRole.EVALUATION),))
    executed(world, watched, "a", leaving(b'{"accuracy": 0.9}'))
    world.data.write("more.csv", b"3\n")
    second = executed(world, watched, "b", leaving(b'{"accuracy": 0.7}'))
    assert world.reports.build(second, pictured=True).charts == ()
    third = executed(world, watched, "c", leaving(b'{"accuracy": 0.72}'))
    (chart,) = world.reports.build(third, pictured=True).charts
    assert isinstance(chart, TrendChart)
    assert [p.value for p in chart.points] == [0.7, 0.72]


def test_a_report_of_progress_says_how_long_and_how_far_and_judges_nothing(world: World) -> None:
    run = world.first_run(judged())
    begun = replace(run, state=RunState.RUNNING, started_at=world.clock.now())
    world.clock.advance(125)
    report = world.reports.build(begun, trigger=Trigger.PROGRESS)
    assert (report.word, report.label) == (Word.UNDER_WAY, "under way")
    assert report.headline == "training on main for 2 m 5 s"
    assert (report.checks, report.outcome, report.duration) == ((), "", "")


def test_a_report_of_progress_that_comes_after_the_end_tells_the_end(world: World) -> None:
    run = executed(world, judged(), "a", leaving(b'{"accuracy": 0.9}'))
    assert world.reports.build(run, trigger=Trigger.PROGRESS).word is Word.PASSED


def test_commits_and_all_changes_are_linked_where_the_forge_is_known(world: World) -> None:
    source = replace(judged().sources[0], github="acme/wine")
    watched = judged(sources=(source,))
    first = executed(world, watched, "a", leaving(b'{"accuracy": 0.9}'))
    run = executed(world, watched, "b", leaving(b'{"accuracy": 0.9}'))
    reports = ReportBuilder(
        world.store, world.sources, world.logs, "", world.clock, "https://github.example.org"
    )
    report = reports.build(run)
    base = "https://github.example.org/acme/wine"
    old, new = first.change.revision.commit, run.change.revision.commit
    assert [row.url for row in report.commits] == [f"{base}/commit/{new}"]
    assert report.compare_url == f"{base}/compare/{old}...{new}"
    assert report.commit_url == f"{base}/commit/{new}"


def test_what_was_done_beside_mails_and_deployments_is_listed_with_what_came_of_it(world: World) -> None:
    watched = judged(
        actions=(
            (Trigger.PASS, DeployAction("prod")),
            (Trigger.PASS, EmailAction(("team@example.org",))),
            (Trigger.PASS, WebhookAction("board", rule=Rule(name="tell the board"))),
        )
    )
    run = executed(world, watched, "a", leaving(b'{"accuracy": 0.9}'))
    assert [(row.what, row.state) for row in world.reports.build(run).actions] == [
        ("tell the board", "pending")
    ]
