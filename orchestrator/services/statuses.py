"""Marks on commits: what a forge is told of each run, until it knows.

A run owes one mark, whose row is written with the run. What the row says was told last is compared with the
state that the run is in: states in between may be skipped, the last one never is. Telling is repeated until
the forge has answered, so that it may be told the same twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.errors import NotFound, RevisionGone, SourceRefused, SourceUnavailable
from orchestrator.domain.markdown import plain, shortened
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.report import Report, Written
from orchestrator.domain.run import Run, RunState, backoff
from orchestrator.ports.forge import CommitStatus, Forge, Mark
from orchestrator.ports.records import OwedStatus
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.report import ReportBuilder

log = logging.getLogger(__name__)

TEXT_LENGTH = 140
"""Characters that the shortest forges show of a mark's sentence."""
CONFIGURATION = "mlci/configuration"
"""The context of marks about a repository's own configuration."""
_CLAIM = timedelta(minutes=3)
_REFUSED = timedelta(minutes=5)
"""How long a forge that refuses is left alone: a person has to act first."""
_GIVEN_UP_AFTER = timedelta(days=2)
_PROBLEMS_SHOWN = 20
_REMEMBERED = 1000

_MARKS = {
    RunState.AWAITING_APPROVAL: Mark.PENDING,
    RunState.QUEUED: Mark.PENDING,
    RunState.RUNNING: Mark.RUNNING,
    RunState.EVALUATING: Mark.RUNNING,
    RunState.PASSED: Mark.SUCCESS,
    RunState.REJECTED: Mark.FAILURE,
    RunState.FAILED: Mark.FAILURE,
    RunState.ERRORED: Mark.ERROR,
    RunState.INCONCLUSIVE: Mark.NEUTRAL,
    RunState.CANCELLED: Mark.NEUTRAL,
}


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A repository whose forge could not be told anything."""

    told: str
    tries: int
    until: datetime


class StatusTeller:
    """Tells the forge where runs stand. One thread; any thread may tell of configurations.

    Without a forge nothing is told, and what is owed stays owed. ``written`` puts a report into Markdown.
    """

    def __init__(
        self,
        store: Store,
        forge: Forge | None,
        reports: ReportBuilder,
        clock: Clock,
        url: str,
        written: Callable[[Report], Written],
    ) -> None:
        self._store = store
        self._forge = forge
        self._reports = reports
        self._clock = clock
        self._url = url.rstrip("/")
        self._written = written
        self._troubles: dict[str, _Trouble] = {}
        self._lock = threading.Lock()
        self._noted: dict[tuple[str, str], tuple[SourceSpec, tuple[str, ...]]] = {}
        self._configurations: dict[tuple[str, str], tuple[str, ...]] = {}
        self._repositories: dict[int, str] = {}
        """Of the runs that owe marks to commits of repositories that are left alone."""

    def tick(self, stopping: threading.Event) -> int:
        """Tell what is due now, until it is to stop; how much that was."""
        if self._forge is None:
            return 0
        done = self._tell_configurations(self._forge)
        due = self._store.statuses.due(self._clock.now())
        runs = {owed.run_id for owed in due}
        self._repositories = {run: name for run, name in self._repositories.items() if run in runs}
        # What failed before comes last, so that one commit which a forge does not take holds up no other.
        for owed in sorted(due, key=lambda each: each.tries):
            if stopping.is_set():
                break
            done += self._tell(self._forge, owed)
        return done

    def tell_configuration(self, source: SourceSpec, commit: str, problems: Sequence[str]) -> None:
        """Show on a commit what is wrong with the configuration in it, or that nothing is wrong any more.

        May be called at each look: what was told already is not told again. It is told at the next turn,
        and for as long as this process lives until the forge takes it. Thread-safe.
        """
        if self._forge is None or not source.github:
            return
        key, now = (source.github, commit), tuple(problems)
        with self._lock:
            if self._configurations.get(key, ()) == now:
                self._noted.pop(key, None)
            else:
                self._noted[key] = (source, now)

    @property
    def has_noted(self) -> bool:
        """Whether some configuration is still to be told of."""
        return bool(self._noted)

    def _tell_configurations(self, forge: Forge) -> int:
        with self._lock:
            noted = dict(self._noted)
        done = 0
        for (repository, commit), (source, problems) in noted.items():
            if self._is_left_alone(source):
                continue
            done += 1
            try:
                forge.set_status(source, _of_configuration(commit, problems))
            except (RevisionGone, NotFound) as error:
                log.info("%s: the configuration's status on %s is given up: %s", repository, commit, error)
            except SourceUnavailable as error:
                self._trouble(source, error)
                continue
            with self._lock:
                self._configurations[repository, commit] = problems
                while len(self._configurations) > _REMEMBERED:
                    self._configurations.pop(next(iter(self._configurations)))
                if self._noted.get((repository, commit)) == (source, problems):
                    del self._noted[repository, commit]
        return done

    def _tell(self, forge: Forge, owed: OwedStatus) -> int:
        # A forge may be left alone for long, with hundreds of runs that owe it something.
        if self._leaves_alone(self._repositories.get(owed.run_id, "")):
            return 0
        run = self._store.runs.get(owed.run_id)
        source = self._store.runs.definition(run.id).source_named(run.change.revision.source)
        now = self._clock.now()
        if source is not None and self._is_left_alone(source):
            self._repositories[run.id] = source.github
            return 0
        claimed = self._store.statuses.claim(owed, now, now + _CLAIM)
        if claimed is None:
            return 0
        state = RunState.RUNNING if run.state is RunState.EVALUATING else run.state
        if source is None or not self._store.statuses.newest(run):
            # A later run speaks for that commit, and has taken the mark over.
            self._store.statuses.told(claimed, state.value, owed.external_id)
            return 0
        try:
            external_id = forge.set_status(source, self._status(run, claimed))
        except (RevisionGone, NotFound) as error:
            self._give_up(claimed, run, state, str(error))
        except SourceUnavailable as error:
            self._put_off(claimed, run, state, source, error)
        else:
            self._store.statuses.told(claimed, state.value, external_id)
            if self._troubles.pop(source.github, None) is not None:
                self._note(source, "statuses are taken again")
        return 1

    def _put_off(
        self, claimed: OwedStatus, run: Run, state: RunState, source: SourceSpec, error: SourceUnavailable
    ) -> None:
        until = self._trouble(source, error)
        if run.finished_at is not None and self._clock.now() - run.finished_at > _GIVEN_UP_AFTER:
            self._give_up(claimed, run, state, str(error))
        else:
            self._store.statuses.postpone(claimed, until, str(error))

    def _is_left_alone(self, source: SourceSpec) -> bool:
        return self._leaves_alone(source.github)

    def _leaves_alone(self, repository: str) -> bool:
        trouble = self._troubles.get(repository)
        return trouble is not None and self._clock.now() < trouble.until

    def _trouble(self, source: SourceSpec, error: SourceUnavailable) -> datetime:
        """Leave a repository's forge alone for a while, until the time that comes back."""
        before = self._troubles.get(source.github)
        tries = before.tries + 1 if before else 1
        pause = max(backoff(tries), timedelta(seconds=error.retry_after or 0))
        if isinstance(error, SourceRefused):
            pause = max(pause, _REFUSED)
        told = f"statuses cannot be set: {error}"
        until = self._clock.now() + pause
        self._troubles[source.github] = _Trouble(told, tries, until)
        if before is None or before.told != told:
            self._note(source, told)
        return until

    def _give_up(self, claimed: OwedStatus, run: Run, state: RunState, error: str) -> None:
        self._store.statuses.give_up(claimed, state.value, error)
        told = f"the commit's status {claimed.context} is given up: {error}"
        log.error("%s: %s", run.title, told)
        self._store.journal.note("", f"run {run.id}", told, self._clock.now())

    def _note(self, source: SourceSpec, told: str) -> None:
        log.warning("%s: %s", source.github, told)
        self._store.journal.note("", f"repository {source.github}", told, self._clock.now())

    def _status(self, run: Run, claimed: OwedStatus) -> CommitStatus:
        text, details = self._words(run)
        return CommitStatus(
            run.change.revision.commit,
            claimed.context,
            _MARKS[run.state],
            shortened(text, TEXT_LENGTH),
            f"{self._url}/runs/{run.id}" if self._url else "",
            details,
            claimed.external_id,
        )

    def _words(self, run: Run) -> tuple[str, str]:
        match run.state:
            case RunState.AWAITING_APPROVAL:
                # All of it: two commits with one beginning are soon made.
                commit = run.change.revision.commit
                return f"waits for approval: /mlci approve {commit}", APPROVING.format(commit=commit)
            case RunState.QUEUED:
                return f"{run.title} waits for its turn", ""
            case RunState.RUNNING | RunState.EVALUATING:
                return f"{run.title} runs", ""
            case _:
                report = self._reports.build(run)
                return f"{report.label}: {report.key_metric or report.headline}", self._written(report).text


def _of_configuration(commit: str, problems: Sequence[str]) -> CommitStatus:
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    shown = [f"- {plain(problem)}" for problem in problems[:_PROBLEMS_SHOWN]]
    if len(problems) > len(shown):
        shown.append(f"- and {len(problems) - len(shown)} more")
    return CommitStatus(
        commit,
        CONFIGURATION,
        Mark.FAILURE if problems else Mark.SUCCESS,
        shortened(f"{count}: {problems[0]}" if problems else "the mistakes are gone", TEXT_LENGTH),
        details="\n".join(shown),
    )


APPROVING = (
    "The commits come from somebody who may not write to this repository, so nothing is done for them before "
    "somebody who may has looked at them. Then a comment with `/mlci approve {commit}` lets this commit run, "
    "without secrets and without deploying."
)
