"""Building the one Report that every rendering shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from orchestrator.domain.action import ActionState, Trigger
from orchestrator.domain.action_spec import DeployAction, EmailAction, GithubAction, RollbackAction, place_of
from orchestrator.domain.change import Change, diff_manifests, what_changed
from orchestrator.domain.chart import Chart
from orchestrator.domain.collected import Series
from orchestrator.domain.curves import SeriesFacts
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.diagnosis import likely_cause
from orchestrator.domain.errors import NotFound, SourceError
from orchestrator.domain.forge_pages import commit_page, compare_page
from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Metric, format_compared, format_difference, format_value
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.domain.report import (
    ActionRow,
    ArtifactRow,
    CommitRow,
    DeploymentRow,
    MetricRow,
    Report,
    Word,
    format_duration,
    key_metric,
    trend_for,
    word_for,
)
from orchestrator.domain.run import Attempt, Reason, Run, RunState, latest_tries, representative
from orchestrator.domain.tabular import SHOWN, table_changes
from orchestrator.domain.usage import resources_of
from orchestrator.ports.collecting import Collectors
from orchestrator.ports.hooks import Ruling
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, LogFiles, SourceControl
from orchestrator.services.charts import curve_charts, trend_charts
from orchestrator.services.measuring import measured
from orchestrator.services.standing import doing
from orchestrator.services.under_way import curves_so_far, printed_so_far, so_far

log = logging.getLogger(__name__)

_LOG_LINES = 30
_COMMITS = 10
_TOLD_ELSEWHERE = (EmailAction, GithubAction, DeployAction, RollbackAction)
_TOLD_BY_LOGS = (Reason.IMAGE_BUILD, Reason.SETUP, Reason.START)


class ReportBuilder:
    """Reads everything about a run and says it once. Thread-safe.

    ``url`` is where our pages are, ``github`` where GitHub's are; ``collectors``, asked for
    when they are needed, read what a run under way has printed; without them nothing is read of it.
    """

    def __init__(
        self,
        store: Store,
        sources: SourceControl,
        logs: LogFiles,
        url: str,
        clock: Clock,
        github: str = "",
        collectors: Callable[[], Collectors] | None = None,
    ) -> None:
        self._store = store
        self._sources = sources
        self._logs = logs
        self._url = url.rstrip("/")
        self._clock = clock
        self._github = github
        self._collectors = collectors

    def build(
        self,
        run: Run,
        trigger: Trigger | None = None,
        releasing: Deployment | None = None,
        pictured: bool = False,
    ) -> Report:
        """The report of a run as it is now.

        ``trigger`` is what asks for it: of a start, the report says that the run has begun, of progress that
        it is under way, and else what came of it. ``releasing`` is the deployment whose release the
        report goes into: whoever reads it there reads it on that server. ``pictured`` reads what charts
        need, too.
        """
        pipeline = self._store.runs.definition(run.id)
        if trigger is Trigger.PROGRESS and not run.state.final:
            return self._under_way(run, pipeline, pictured)
        started = trigger is Trigger.START
        tries = self._store.attempts.of_run(run.id)
        attempts = latest_tries(tries)
        checks = run.verdict.checks if run.verdict else ()
        baseline = self._baseline(run, checks)
        tail = self._tail(attempts) if run.state in (RunState.FAILED, RunState.ERRORED) else ()
        chosen = representative(attempts)
        artifacts = self._store.attempts.artifacts(chosen.id) if chosen else ()
        findings = self._store.findings
        series = tuple(findings.series_facts(chosen.id) if chosen else ())
        deployments = self._deployments(run, releasing)
        previous = self._store.runs.previous_state(run)
        source = pipeline.source_named(run.change.revision.source)
        return Report(
            run=run,
            word=Word.STARTED if started else word_for(run.state, previous),
            trend=None if started else trend_for(run.state, previous),
            headline=_headline(run, started),
            key_metric="" if started else key_metric(checks),
            outcome="" if started else _outcome(run, pipeline, deployments),
            checks=checks,
            metrics=self._metrics(run, pipeline, baseline, checks),
            baseline_title=baseline.title if baseline else "",
            what_changed=self._what_changed(run, baseline),
            commits=self._commits(run, source, baseline),
            data_changes=self._data_changes(run, pipeline, baseline),
            deployments=deployments,
            artifacts=tuple(ArtifactRow(a.path, a.size, a.removed) for a in artifacts),
            warnings=self._warnings(run, attempts, checks),
            likely_cause=likely_cause(run.reason, [*run.message.splitlines(), *tail]),
            failure=_failure(run, attempts),
            log_tail=tail,
            duration=_duration(run),
            host=_hosts(attempts),
            url=self._page_of(run),
            approved_by=self._approved_by(run),
            series=series,
            params=tuple(findings.params(chosen.id) if chosen else ()),
            plots=tuple(findings.plots(chosen.id) if chosen else ()),
            charts=self._charts(run, pipeline, checks, chosen, series) if pictured else (),
            commit_url=self._commit_page(source, run.change.revision.commit),
            compare_url=self._compare_url(run, source, baseline),
            resources=resources_of(run, tries),
            actions=self._actions(run),
        )

    def _under_way(self, run: Run, pipeline: Pipeline, pictured: bool) -> Report:
        now = self._clock.now()
        attempts = latest_tries(self._store.attempts.of_run(run.id))
        metrics: Sequence[Metric] = ()
        curves: Sequence[Series] = ()
        if self._collectors is not None:
            metrics, curves = printed_so_far(self._logs, self._collectors(), attempts, pipeline)
        taken = (now - run.started_at).total_seconds() if run.started_at is not None else 0.0
        source = pipeline.source_named(run.change.revision.source)
        return Report(
            run=run,
            word=Word.UNDER_WAY,
            headline=f"training on {run.change.revision.branch} for {format_duration(max(0.0, taken))}",
            key_metric=so_far(metrics, pipeline),
            outcome="",
            metrics=tuple(
                MetricRow(each.name, format_value(each.value), "", "", pipeline.unit_of(each.name))
                for each in metrics
            ),
            standing=tuple(doing(self._store, self._logs, now, run)),
            host=_hosts(attempts),
            url=self._page_of(run),
            approved_by=self._approved_by(run),
            charts=curves_so_far(curves, pipeline) if pictured else (),
            commit_url=self._commit_page(source, run.change.revision.commit),
        )

    def _page_of(self, run: Run) -> str:
        return f"{self._url}/runs/{run.id}" if self._url else ""

    def _commit_page(self, source: SourceSpec | None, commit: str) -> str:
        return commit_page(source, commit, self._github) if source else ""

    def _compare_url(self, run: Run, source: SourceSpec | None, baseline: Run | None) -> str:
        old, new = _commit_from(source, baseline), run.change.revision.commit
        return compare_page(source, old, new, self._github) if source and old and old != new else ""

    def _actions(self, run: Run) -> tuple[ActionRow, ...]:
        """What was done but for telling people and deploying, which are told of elsewhere."""
        return tuple(
            ActionRow(
                action.spec.rule.name or f"{action.spec.kind} {place_of(action.spec)}".strip(),
                action.state.value,
                action.waits or action.message,
            )
            for action in self._store.actions.of_run(run.id)
            if not isinstance(action.spec, _TOLD_ELSEWHERE) or action.state is ActionState.FAILED
        )

    def _charts(
        self,
        run: Run,
        pipeline: Pipeline,
        checks: Sequence[CheckResult],
        chosen: Attempt | None,
        series: Sequence[SeriesFacts],
    ) -> tuple[Chart, ...]:
        judged = [check.metric for check in checks]
        curves = curve_charts(self._store, chosen, series, pipeline, judged) if chosen is not None else ()
        return trend_charts(self._store, run, pipeline, checks) + curves

    def _approved_by(self, run: Run) -> str:
        decisions = self._store.approvals.decisions(run.id)
        return next((each.who for each in decisions if each.ruling is Ruling.APPROVED), "")

    def _baseline(self, run: Run, checks: Sequence[CheckResult]) -> Run | None:
        """What the tables compare this run with: its first check's baseline, else the pass before it."""
        for check in checks:
            if check.baseline_run is not None:
                try:
                    return self._store.runs.get(check.baseline_run)
                except NotFound:
                    # Removed since: the checks still say what it was compared with.
                    return None
        return self._store.runs.passed_before(run)

    def _metrics(
        self, run: Run, pipeline: Pipeline, baseline: Run | None, checks: Sequence[CheckResult]
    ) -> tuple[MetricRow, ...]:
        mine = measured(run, self._store.runs.metrics(run.id))
        theirs = measured(baseline, self._store.runs.metrics(baseline.id)) if baseline else None
        judged = [c.metric for c in checks]
        rows = []
        for name in sorted(mine.values, key=lambda n: (n not in judged, n)):
            value = mine.mean(name)
            other = theirs.mean(name) if theirs else None
            if value is None:
                continue
            direction = pipeline.direction_of(name)
            better = None
            if other is not None and direction is not None and value != other:
                better = direction.sign * (value - other) > 0
            rows.append(
                MetricRow(
                    name,
                    format_value(value) if other is None else format_compared(value, other)[0],
                    "" if other is None else format_compared(value, other)[1],
                    "" if other is None else format_difference(value - other),
                    pipeline.unit_of(name),
                    better,
                )
            )
        return tuple(rows)

    def _what_changed(self, run: Run, baseline: Run | None) -> str:
        notes = [run.change.note] if run.change.note else []
        if baseline is not None:
            notes.insert(0, f"{what_changed(run.change, baseline.change)} since {baseline.title}")
        return "; ".join(notes)

    def _commits(self, run: Run, source: SourceSpec | None, baseline: Run | None) -> tuple[CommitRow, ...]:
        old, new = _commit_from(source, baseline), run.change.revision.commit
        if baseline is None or source is None or not old:
            return ()
        try:
            return tuple(
                CommitRow(c.commit[:8], c.subject, c.author, self._commit_page(source, c.commit))
                for c in self._sources.logged(source, old, new, _COMMITS)
            )
        except (SourceError, NotFound) as error:
            log.info("%s: the commits since %s could not be listed: %s", run.title, baseline.title, error)
            return ()

    def _data_changes(self, run: Run, pipeline: Pipeline, baseline: Run | None) -> tuple[str, ...]:
        if baseline is None:
            return ()
        # A dataset may have been elsewhere then: versions belong to the place where they were seen.
        then = self._store.runs.definition(baseline.id)
        return tuple(_data_changes(self._store, run.change, pipeline, baseline.change, then))

    def _deployments(self, run: Run, releasing: Deployment | None) -> tuple[DeploymentRow, ...]:
        return tuple(
            DeploymentRow(d.server, DeploymentState.ACTIVE.value, d.release)
            if releasing is not None and d.id == releasing.id
            else DeploymentRow(d.server, d.state.value, d.release, d.message)
            for d in self._store.deployments.of_run(run.id)
        )

    def _warnings(
        self, run: Run, attempts: Sequence[Attempt], checks: Sequence[CheckResult]
    ) -> tuple[str, ...]:
        found = [w for a in attempts for w in a.warnings]
        found += run.verdict.warnings if run.verdict else ()
        found += [f"{c.metric}: {w}" for c in checks for w in c.warnings]
        for attempt in attempts:
            found += [f"not kept: {entry}" for entry in self._store.attempts.left_out(attempt.id)]
        return tuple(dict.fromkeys(found))

    def _tail(self, attempts: Sequence[Attempt]) -> tuple[str, ...]:
        bad = [a for a in attempts if a.reason is not None and a.state.final and a.state.value != "succeeded"]
        chosen = bad or list(attempts)
        if not chosen:
            return ()
        if chosen[0].log_removed:
            return (f"The log was {chosen[0].log_removed}.",)
        # What failed before the container ran, a build or setup, left its output in the message.
        output = chosen[0].message.splitlines()[1:]
        return tuple(self._logs.tail(chosen[0].id, _LOG_LINES) or output[-_LOG_LINES:])


def _data_changes(
    store: Store, current: Change, pipeline: Pipeline, reference: Change, then: Pipeline
) -> list[str]:
    lines = []
    for version in current.datasets:
        before = reference.version_of(version.dataset)
        spec, former = pipeline.dataset_named(version.dataset), then.dataset_named(version.dataset)
        if before is None or spec is None or former is None or before.fingerprint == version.fingerprint:
            continue
        diff = diff_manifests(
            store.detection.manifest(former, before.fingerprint),
            store.detection.manifest(spec, version.fingerprint),
        )
        moved = "" if former.key == spec.key else ", taken from elsewhere"
        lines.append(f"{version.label}: {diff.summary} since {before.label}{moved}")
        tables = table_changes(
            store.detection.tables(former, before.fingerprint),
            store.detection.tables(spec, version.fingerprint),
        )
        lines += [f"{version.dataset}/{told}" for told in tables[:SHOWN]]
        if len(tables) > SHOWN:
            lines.append(f"{version.dataset}: {len(tables) - SHOWN} more tables changed")
    return lines


def _headline(run: Run, started: bool) -> str:
    if started:
        return f"{run.change.cause.value.replace('_', ' ')} on {run.change.revision.branch}"
    if run.verdict is not None:
        return run.verdict.sentence + _unless_compared(run.verdict)
    told = run.message.splitlines()[0] if run.message else run.state.value
    if run.state is RunState.CANCELLED and run.cancel_requested_by:
        superseded = run.reason is Reason.SUPERSEDED
        return f"{told}: {'superseded by' if superseded else 'asked for by'} {run.cancel_requested_by}"
    return told


def _unless_compared(verdict: Verdict) -> str:
    """What a first pass has to say beside its limits: that nothing was there to compare it with."""
    outcomes = [check.outcome for check in verdict.checks]
    compared = any(check.baseline_run is not None for check in verdict.checks)
    if verdict.outcome is Outcome.PASS and Outcome.PASS in outcomes and Outcome.SKIPPED in outcomes:
        return "" if compared else "; there is nothing to compare with yet"
    return ""


def _failure(run: Run, attempts: Sequence[Attempt]) -> str:
    """How a run ended badly by itself, for beside the cause that its log tells."""
    if run.reason is Reason.EXIT_CODE:
        codes = [a.exit.code for a in attempts if a.reason is run.reason and a.exit is not None]
        return f"exit code {codes[0]}" if codes else ""
    return run.reason.value.replace("_", " ") if run.reason in _TOLD_BY_LOGS else ""


def _outcome(run: Run, pipeline: Pipeline, deployments: Sequence[DeploymentRow]) -> str:
    live = [d.server for d in deployments if d.state in ("active", "retired")]
    if live:
        return f"deployed to {', '.join(live)}"
    if any(spec.kind == "deploy" for _, spec in pipeline.actions):
        return "not deployed"
    return ""


def _commit_from(source: SourceSpec | None, baseline: Run | None) -> str:
    """The baseline's commit, where it is of that source; else nothing."""
    if source is None or baseline is None or baseline.change.revision.source != source.name:
        return ""
    return baseline.change.revision.commit


def _hosts(attempts: Sequence[Attempt]) -> str:
    return ", ".join(sorted({a.host for a in attempts if a.host}))


def _duration(run: Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return format_duration((run.finished_at - run.started_at).total_seconds())
