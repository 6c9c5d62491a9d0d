"""A Report cut to size: every text on one line, without control characters, no longer than a reader needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.domain.gate import CheckResult, Outcome
from orchestrator.domain.gate.details import details_of
from orchestrator.domain.report import ActionRow, ArtifactRow, Report, Word, format_size
from orchestrator.domain.text import clean

_LOG_LINES = 30
_MARKS = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?", Outcome.SKIPPED: "-"}
_TONES = {Outcome.PASS: "good", Outcome.FAIL: "bad", Outcome.INCONCLUSIVE: "unsure", Outcome.SKIPPED: "quiet"}
_WORD_TONES = {
    Word.STARTED: "running",
    Word.UNDER_WAY: "running",
    Word.PASSED: "good",
    Word.FIXED: "good",
    Word.REJECTED: "bad",
    Word.BROKEN: "bad",
    Word.STILL_FAILING: "bad",
    Word.FAILED: "bad",
    Word.INCONCLUSIVE: "unsure",
    Word.ERRORED: "trouble",
    Word.CANCELLED: "quiet",
}
_DEPLOYMENT_TONES = {
    "active": "good",
    "failed": "bad",
    "rejected": "bad",
    "putting_back": "bad",
    "rolled_back": "bad",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a report is shown: rows of a section, characters of a text."""

    rows: int
    characters: int


LEVELS = tuple(Limits(*level) for level in ((100, 1000), (50, 500), (25, 300), (12, 200), (6, 120), (2, 60)))
"""From what anybody wants to see down to what always fits, whatever a report holds."""


@dataclass(frozen=True, slots=True)
class Check:
    mark: str
    tone: str
    outcome: str
    text: str
    sentence: str
    warnings: tuple[str, ...]
    details: str
    """The figures behind the sentence; empty where plain values decided."""


@dataclass(frozen=True, slots=True)
class MetricLine:
    name: str
    value: str
    baseline: str
    difference: str
    tone: str
    direction: str
    """``▲ better``, ``▼ worse``, or nothing where the metric has no direction or did not move."""


@dataclass(frozen=True, slots=True)
class DeploymentLine:
    server: str
    state: str
    tone: str
    release: str
    message: str


@dataclass(frozen=True, slots=True)
class Linked:
    """A text, and the address behind it where there is one."""

    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What both renderings show. ``more`` maps a section to the number of its rows that were left out."""

    title: str
    word: str
    tone: str
    headline: str
    news: str
    subject: str
    url: str
    standing: tuple[str, ...]
    checks: tuple[Check, ...]
    what_changed: str
    commits: tuple[Linked, ...]
    compare_url: str
    data_changes: tuple[str, ...]
    metrics: tuple[MetricLine, ...]
    baseline_title: str
    deployments: tuple[DeploymentLine, ...]
    warnings: tuple[str, ...]
    likely_cause: str
    log: tuple[str, ...]
    artifacts: tuple[tuple[str, str], ...]
    actions: tuple[ActionRow, ...]
    facts: tuple[tuple[str, Linked], ...]
    more: dict[str, int]


class _Cutter:
    def __init__(self, limits: Limits, mask: Callable[[str], str]) -> None:
        self._limits = limits
        self._mask = mask
        self.more: dict[str, int] = {}

    def text(self, text: str) -> str:
        # Whatever lies far beyond the limit need not be cleaned.
        text = clean(self._masked(text)).strip()
        return (
            text
            if len(text) <= self._limits.characters
            else text[: self._limits.characters - 1].rstrip() + "…"
        )

    def line(self, text: str) -> str:
        """As ``text``, but indentation stays."""
        text = clean(self._masked(text).expandtabs(4)).rstrip()
        return text if len(text) <= self._limits.characters else text[: self._limits.characters - 1] + "…"

    def _masked(self, text: str) -> str:
        # Masked before it is cut: half a secret is not known any more.
        return self._mask(text[: 4 * self._limits.characters])[: 2 * self._limits.characters]

    def texts(self, section: str, rows: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.text(row) for row in rows[: self.rows(section, len(rows))])

    def rows(self, section: str, count: int) -> int:
        if count > self._limits.rows:
            self.more[section] = count - self._limits.rows
        return min(count, self._limits.rows)


def view_of(report: Report, limits: Limits, mask: Callable[[str], str] = str) -> View:
    """Cut a report down to the limits, without what ``mask`` blanks out."""
    cut = _Cutter(limits, mask)
    log = report.log_tail[-_LOG_LINES:]
    log = log[-cut.rows("log", len(log)) :] if log else ()
    metrics = report.metrics[: cut.rows("metrics", len(report.metrics))]
    deployments = report.deployments[: cut.rows("deployments", len(report.deployments))]
    artifacts = report.artifacts[: cut.rows("artifacts", len(report.artifacts))]
    return View(
        title=cut.text(report.run.title),
        word=report.label,
        tone=_WORD_TONES[report.word],
        headline=cut.text(report.headline),
        news=", ".join(cut.text(part) for part in (report.key_metric, report.outcome) if part),
        subject=cut.text(report.subject),
        url=_web_address(report.url),
        standing=cut.texts("standing", report.standing),
        checks=tuple(
            _check(check, cut, report.warnings)
            for check in report.checks[: cut.rows("checks", len(report.checks))]
        ),
        what_changed=cut.text(report.what_changed),
        commits=tuple(
            Linked(cut.text(row.line), _web_address(row.url))
            for row in report.commits[: cut.rows("commits", len(report.commits))]
        ),
        compare_url=_web_address(report.compare_url),
        data_changes=cut.texts("data_changes", report.data_changes),
        metrics=tuple(
            MetricLine(
                cut.text(row.name),
                cut.text(f"{row.value} {row.unit}"),
                cut.text(row.baseline),
                cut.text(row.difference),
                *_direction(row.better),
            )
            for row in metrics
        ),
        baseline_title=cut.text(report.baseline_title),
        deployments=tuple(
            DeploymentLine(
                cut.text(row.server),
                cut.text(row.state.replace("_", " ")),
                _DEPLOYMENT_TONES.get(row.state, "quiet"),
                cut.text(row.release),
                cut.text(row.message),
            )
            for row in deployments
        ),
        warnings=cut.texts("warnings", report.warnings),
        likely_cause=cut.text(report.likely_cause),
        log=tuple(cut.line(line) for line in log),
        artifacts=tuple((cut.text(row.path), _kept(row, cut)) for row in artifacts),
        actions=tuple(
            ActionRow(cut.text(row.what), row.state.replace("_", " "), cut.text(row.message))
            for row in report.actions[: cut.rows("actions", len(report.actions))]
        ),
        facts=tuple(
            (name, Linked(cut.text(value), _web_address(report.commit_url) if name == "Commit" else ""))
            for name, value in (*_facts(report), *report.resources)
            if value
        ),
        more=cut.more,
    )


def _kept(row: ArtifactRow, cut: _Cutter) -> str:
    size = format_size(row.size)
    return f"{size}, {cut.text(row.removed)}" if row.removed else size


def _check(check: CheckResult, cut: _Cutter, told: Iterable[str]) -> Check:
    told = set(told)
    return Check(
        _MARKS[check.outcome],
        _TONES[check.outcome],
        check.outcome.value,
        cut.text(check.check),
        cut.text(check.sentence),
        tuple(cut.text(warning) for warning in check.warnings if warning not in told),
        cut.text(details_of(check)),
    )


def _direction(better: bool | None) -> tuple[str, str]:
    if better is None:
        return "quiet", ""
    return ("good", "▲ better") if better else ("bad", "▼ worse")


def _facts(report: Report) -> list[tuple[str, str]]:
    run, revision = report.run, report.run.change.revision
    data = ", ".join(f"{version.label} ({version.fingerprint[:8]})" for version in run.change.datasets)
    finished = f"{run.finished_at:%Y-%m-%d %H:%M:%S %Z}" if run.finished_at else ""
    return [
        ("Run", run.title),
        ("Commit", f"{revision.short} {revision.subject}"),
        ("Branch", revision.branch),
        ("Author", revision.author),
        ("Cause", run.change.cause.value.replace("_", " ")),
        ("Asked for by", run.change.requested_by),
        ("Approved by", report.approved_by),
        ("Data", data),
        ("Replicates", str(run.replicates) if run.replicates > 1 else ""),
        ("Host", report.host),
        ("Duration", report.duration),
        ("Finished", finished),
    ]


def _web_address(url: str) -> str:
    """The address when it is one that a browser opens as a page, else nothing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    plain = parts.scheme in ("http", "https") and parts.hostname and clean(url) == url and len(url) < 2000
    return url if plain else ""
