"""One Report model, rendered for mail, file, web and terminal with the same sentences and numbers."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.chart import Chart, Drawn
from orchestrator.domain.collected import Param, Plot
from orchestrator.domain.curves import SeriesFacts
from orchestrator.domain.gate import CheckResult
from orchestrator.domain.metrics import format_compared, format_difference, format_value
from orchestrator.domain.run import Run, RunState

SUBJECT_LENGTH = 120
"""Characters that a mail's subject has at most, unless the names in it alone are longer."""
_SHORTEST_NEWS = 40


class Word(StrEnum):
    """The one word that says what happened; a mail's subject begins with it."""

    STARTED = "started"
    UNDER_WAY = "under way"
    PASSED = "passed"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    FAILED = "failed"
    ERRORED = "errored"
    CANCELLED = "cancelled"
    FIXED = "fixed"
    BROKEN = "broken"
    STILL_FAILING = "still failing"


class Trend(StrEnum):
    """What an outcome means beside the last judged one of its branch."""

    FIXED = "fixed"
    BROKEN = "broken"
    STILL_FAILING = "still failing"
    STILL_BROKEN = "still broken"
    """Not passed before either, but in another way: a crash after a rejection, or the reverse."""


_PLAIN = {
    RunState.PASSED: Word.PASSED,
    RunState.REJECTED: Word.REJECTED,
    RunState.INCONCLUSIVE: Word.INCONCLUSIVE,
    RunState.FAILED: Word.FAILED,
    RunState.ERRORED: Word.ERRORED,
    RunState.CANCELLED: Word.CANCELLED,
}
_NO_RESULT = frozenset({Word.STARTED, Word.UNDER_WAY})
_BAD = frozenset({RunState.REJECTED, RunState.FAILED})


def is_fixed(state: RunState, previous: RunState | None) -> bool:
    """Whether a pass follows a rejection or failure on the same branch."""
    return state is RunState.PASSED and previous in _BAD


def is_broken(state: RunState, previous: RunState | None) -> bool:
    """Whether a rejection or failure follows a pass on the same branch."""
    return state in _BAD and previous is RunState.PASSED


def trend_for(state: RunState, previous: RunState | None) -> Trend | None:
    """What a run's state means after ``previous``, the last judged state on its branch; None: no news."""
    if is_fixed(state, previous):
        return Trend.FIXED
    if is_broken(state, previous):
        return Trend.BROKEN
    if state in _BAD and previous in _BAD:
        return Trend.STILL_FAILING if state is previous else Trend.STILL_BROKEN
    return None


def word_for(state: RunState, previous: RunState | None) -> Word:
    """The word for a run's state.

    ``previous`` is the last judged state on its branch: passed, rejected, failed, or None. A trend is the
    word where it hides nothing: a training that crashes has failed, unless the one before crashed, too.
    """
    trend = trend_for(state, previous)
    if trend is Trend.BROKEN and state is RunState.REJECTED:
        return Word.BROKEN
    if trend in (Trend.FIXED, Trend.STILL_FAILING):
        return Word(trend.value)
    return _PLAIN.get(state, Word.STARTED)


def tells_result(word: Word) -> bool:
    """Whether a word says how a run ended, and not that it has begun or goes on."""
    return word not in _NO_RESULT


def label_for(state: RunState, previous: RunState | None) -> str:
    """State and trend: ``rejected (broken)``, ``failed (still failing)``; the state alone without a trend."""
    return _label(state, trend_for(state, previous))


def _label(state: RunState, trend: Trend | None) -> str:
    shown = state.value.replace("_", " ")
    return f"{shown} ({trend.value})" if trend else shown


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric in the table. ``better`` is None where no direction or no baseline says it."""

    name: str
    value: str
    baseline: str
    difference: str
    unit: str = ""
    better: bool | None = None


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """What became of one deployment."""

    server: str
    state: str
    release: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """One file that a run left; ``size`` in bytes. ``removed`` says that and why it is no longer kept."""

    path: str
    size: int
    removed: str = ""


@dataclass(frozen=True, slots=True)
class CommitRow:
    """One commit since the last good run; ``url`` is empty where the forge is not known."""

    short: str
    subject: str
    author: str = ""
    url: str = ""

    @property
    def line(self) -> str:
        """All of it but the address."""
        return f"{self.short} {self.subject}" + (f" ({self.author})" if self.author else "")


@dataclass(frozen=True, slots=True)
class ActionRow:
    """What was done for a run, or is to be: in which state that is, and what came of it."""

    what: str
    state: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one rendering tells.

    ``log_tail`` is masked already; ``url`` is empty when there is no web page.
    """

    run: Run
    word: Word
    headline: str
    """The verdict in one sentence, or why there is none."""
    key_metric: str
    """Such as ``accuracy 0.931 (+0.012)``; empty when no metric was judged."""
    outcome: str
    """Such as ``deployed to prod`` or ``not deployed``; empty when the pipeline deploys nowhere."""
    checks: tuple[CheckResult, ...] = ()
    metrics: tuple[MetricRow, ...] = ()
    baseline_title: str = ""
    what_changed: str = ""
    commits: tuple[CommitRow, ...] = ()
    """Those since the baseline, newest first."""
    data_changes: tuple[str, ...] = ()
    deployments: tuple[DeploymentRow, ...] = ()
    artifacts: tuple[ArtifactRow, ...] = ()
    warnings: tuple[str, ...] = ()
    likely_cause: str = ""
    failure: str = ""
    """How it failed, in two words beside the likely cause: ``exit code 1``, ``setup``; else empty."""
    log_tail: tuple[str, ...] = ()
    duration: str = ""
    host: str = ""
    url: str = ""
    standing: tuple[str, ...] = ()
    """Of a run that has not ended: what is being done now, and why it waits."""
    trend: Trend | None = None
    approved_by: str = ""
    """Who let it go, when it waited for somebody."""
    series: tuple[SeriesFacts, ...] = ()
    """What its metrics came to on the way, of the replicate whose artifacts are listed."""
    params: tuple[Param, ...] = ()
    plots: tuple[Plot, ...] = ()
    charts: tuple[Chart, ...] = ()
    """What is worth a picture, most telling first."""
    commit_url: str = ""
    """Where the forge shows the run's own commit."""
    compare_url: str = ""
    """Where the forge shows all that changed in code."""
    resources: tuple[tuple[str, str], ...] = ()
    """What was used, such as ``("Computed", "4 m 2 s")``."""
    actions: tuple[ActionRow, ...] = ()

    @property
    def label(self) -> str:
        """State and trend, such as ``rejected (broken)``; the word alone of a report without a result."""
        return _label(self.run.state, self.trend) if tells_result(self.word) else self.word.value

    @property
    def subject(self) -> str:
        """What carries the news in a mail: ``[wine] fixed: accuracy 0.931 (+0.012), deployed to prod``."""
        word = self.word.value
        if self.trend is Trend.STILL_BROKEN:
            word += f", {self.trend.value}"
        start = f"[{self.run.pipeline}] {word}: "
        end = f" ({self.failure})" if self.likely_cause and self.failure else ""
        end += f", {self.outcome}" if self.outcome else ""
        news = self.key_metric or (self.likely_cause if self.failure else "") or self.headline
        return start + _shortened(news, max(SUBJECT_LENGTH - len(start) - len(end), _SHORTEST_NEWS)) + end


@dataclass(frozen=True, slots=True)
class Rendered:
    """A Report for people: the subject, a plain text and an HTML page under 80 KB."""

    subject: str
    text: str
    html: str
    images: tuple[Drawn, ...] = ()
    """What the HTML shows by ``cid:`` and their names."""
    trouble: str = ""
    """What was wrong with a template, so that the standard form took its place."""

    @property
    def whole(self) -> str:
        """The HTML with its pictures inside it, for a file that needs nothing beside it."""
        html = self.html
        for image in self.images:
            data = b64encode(image.png).decode()
            html = html.replace(f'src="cid:{image.name}"', f'src="data:image/png;base64,{data}"')
        return html


@dataclass(frozen=True, slots=True)
class Written:
    """A text that was made, and what was wrong with its template; that is empty when nothing was."""

    text: str
    trouble: str = ""


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def key_metric(checks: tuple[CheckResult, ...]) -> str:
    """The metric that tells the news: of the first failing check, else the first compared, else the first."""
    measured = [c for c in checks if c.estimate is not None]
    if not measured:
        return ""
    failing = [c for c in measured if c.outcome.value == "fail"]
    compared = [c for c in measured if c.baseline_run is not None]
    check = (failing or compared or measured)[0]
    versus = next((c for c in measured if c.metric == check.metric and c.baseline_run is not None), None)
    value = check.estimate or 0.0
    if versus is None or versus.difference is None:
        shown = format_value(value) if check.baseline is None else format_compared(value, check.baseline)[0]
        return f"{check.metric} {shown}"
    shown, _ = format_compared(value, value - versus.difference)
    return f"{check.metric} {shown} ({format_difference(versus.difference)})"


def format_duration(seconds: float) -> str:
    """``4 m 12 s``, ``2 h 5 m``, ``0.8 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"


def format_ago(seconds: float) -> str:
    """How long ago, at a glance: ``5 s ago``, ``3 m ago``, ``2 h ago``, ``4 d ago``."""
    whole = max(0, round(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size} {unit} ago"
    return f"{whole} s ago"


def format_size(count: int) -> str:
    """Bytes in binary units: ``512 B``, ``1.5 KiB``, ``20 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
