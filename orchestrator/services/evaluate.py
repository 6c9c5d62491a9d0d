"""Judging: what a run's attempts mean for it, its verdict against baselines, and the actions it then owes."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.action import Trigger
from orchestrator.domain.baseline import Candidate, Chosen, Measured, SelectorKind, choose
from orchestrator.domain.change import Cause, Change, DatasetRole, DatasetVersion, same_evaluation_data
from orchestrator.domain.check import Comparison
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import LeaseLost, StoreUnavailable
from orchestrator.domain.gate import Gate, Outcome, Reference, Verdict, judge
from orchestrator.domain.metrics import Direction, Metric
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.report import is_broken, is_fixed
from orchestrator.domain.run import Progress, Purpose, Reason, Run, RunState, progress
from orchestrator.ports.records import NewAction, NewRun, Standing
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

_VERDICTS = {
    Outcome.PASS: RunState.PASSED,
    Outcome.FAIL: RunState.REJECTED,
    Outcome.INCONCLUSIVE: RunState.INCONCLUSIVE,
}
_TRIGGERS = {
    RunState.PASSED: Trigger.PASS,
    RunState.REJECTED: Trigger.FAIL,
    RunState.INCONCLUSIVE: Trigger.INCONCLUSIVE,
    RunState.FAILED: Trigger.FAILED,
    RunState.ERRORED: Trigger.ERROR,
    RunState.CANCELLED: Trigger.CANCELLED,
}


def actions_for(
    pipeline: Pipeline, purpose: Purpose, state: RunState, previous: RunState | None
) -> tuple[NewAction, ...]:
    """The actions that a final state owes, in the order written.

    A run that only measures a baseline owes none.
    """
    if purpose is Purpose.BASELINE:
        return ()
    triggers = {_TRIGGERS[state]}
    if is_fixed(state, previous):
        triggers.add(Trigger.FIXED)
    if is_broken(state, previous):
        triggers.add(Trigger.BROKEN)
    return tuple(
        NewAction(trigger, position, spec)
        for position, (trigger, spec) in enumerate(pipeline.actions)
        if trigger in triggers
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """The verdict waits for a baseline that is being measured on the new evaluation data."""

    run_id: int


class Evaluator:
    """Moves unfinished runs on. One thread."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[int, int] = {}
        self._seen: dict[int, Standing] = {}

    def tick(self, moving: Sequence[Standing] | None = None) -> list[Run]:
        """Look at every run that may be due to move on; those that ended now.

        ``moving`` is what does, where the caller has just looked.
        """
        ended = []
        if moving is None:
            moving = self._store.runs.moving()
        self._seen = {s.run_id: self._seen[s.run_id] for s in moving if s.run_id in self._seen}
        for standing in moving:
            # A run whose attempts are under way, all of them or as at the last look, has nothing due.
            idle = standing.ended == 0 and not standing.cancelling
            if standing.state is RunState.RUNNING and (idle or self._seen.get(standing.run_id) == standing):
                continue
            run = self._store.runs.get(standing.run_id)
            try:
                after = self.advance(run)
                self._seen[run.id] = standing
            except LeaseLost as error:
                log.info("%s: %s", run.title, error)
                continue
            except StoreUnavailable:
                raise
            except Exception:
                # One run that cannot be judged must not hold up those behind it.
                log.exception("%s: defect", run.title)
                continue
            if after.state.final:
                ended.append(after)
        return ended

    def advance(self, run: Run) -> Run:
        """Do what is due for one run; the run as it is then.

        Raises LeaseLost when somebody else was faster.
        """
        not_begun = run.state in (RunState.QUEUED, RunState.AWAITING_APPROVAL)
        if not_begun and run.cancel_requested_by:
            return self._end(run, RunState.CANCELLED, self._cancel_reason(run), "cancelled before it started")
        if run.state is RunState.RUNNING:
            return self._advance_running(run)
        if run.state is RunState.EVALUATING:
            return self._evaluate(run)
        return run

    def _advance_running(self, run: Run) -> Run:
        attempts = self._store.attempts.of_run(run.id)
        retries = self._store.runs.definition(run.id).execution.infrastructure_retries
        step: Progress = progress(attempts, retries, cancelling=run.cancel_requested_by is not None)
        now = self._clock.now()
        for new in step.new_tries:
            self._store.runs.add_try(run.id, new.replicate, new.number, now + new.after, now)
        if step.state is RunState.EVALUATING:
            return self._evaluate(run)
        if step.state is not None:
            reason = step.reason
            if step.state is RunState.CANCELLED and reason is None:
                reason = self._cancel_reason(run)
            return self._end(run, step.state, reason, step.message)
        return run

    def _cancel_reason(self, run: Run) -> Reason:
        return self._store.runs.cancel_reason(run.id) or Reason.CANCELLED_BY_PERSON

    def _end(
        self, run: Run, state: RunState, reason: Reason | None, message: str, verdict: Verdict | None = None
    ) -> Run:
        pipeline = self._store.runs.definition(run.id)
        previous = self._store.runs.previous_state(run)
        actions = actions_for(pipeline, run.purpose, state, previous)
        judged = run.state is RunState.RUNNING and verdict is not None
        ended = self._store.runs.move(
            run.id,
            run.state,
            state,
            self._clock.now(),
            reason,
            message,
            verdict=verdict,
            actions=actions,
            through=RunState.EVALUATING if judged else None,
        )
        self._waiting.pop(run.id, None)
        log.info("%s %s: %s", run.title, state.value, message)
        return ended

    def _evaluate(self, run: Run) -> Run:
        if run.cancel_requested_by:
            return self._end(
                run, RunState.CANCELLED, self._cancel_reason(run), "cancelled before the verdict"
            )
        if run.id in self._waiting and not self._store.runs.get(self._waiting[run.id]).state.final:
            return run
        pipeline = self._store.runs.definition(run.id)
        candidate = self._measured(run)
        if run.purpose is Purpose.BASELINE:
            verdict = Verdict(Outcome.PASS, "measured again for comparison, not judged")
            return self._end(run, RunState.PASSED, None, verdict.sentence, verdict)
        verdict_or_wait = self._judge(run, pipeline, candidate)
        if isinstance(verdict_or_wait, Waiting):
            self._waiting[run.id] = verdict_or_wait.run_id
            if run.state is RunState.EVALUATING:
                return run
            return self._store.runs.move(run.id, run.state, RunState.EVALUATING, self._clock.now())
        state = _VERDICTS[verdict_or_wait.outcome]
        return self._end(run, state, None, verdict_or_wait.sentence, verdict_or_wait)

    def _measured(self, run: Run) -> Measured:
        return measured(run, self._store.runs.metrics(run.id))

    def _judge(self, run: Run, pipeline: Pipeline, candidate: Measured) -> Verdict | Waiting:
        references: dict[Comparison, Reference] = {}
        directions: dict[str, Direction] = {}
        for check in pipeline.gate.checks:
            direction = pipeline.direction_of(check.metric)
            if direction is not None:
                directions[check.metric] = direction
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        history = self._history(run, pipeline) if comparisons else []
        pins = self._store.runs.pins(run.pipeline) if comparisons else {}
        for check in comparisons:
            reference = self._reference(run, check, history, pins, directions[check.metric], pipeline)
            if isinstance(reference, Waiting):
                return reference
            references[check] = reference
        return judge(
            Gate(pipeline.gate.checks, pipeline.gate.on_inconclusive), candidate, references, directions
        )

    def _history(self, run: Run, pipeline: Pipeline) -> list[tuple[Run, Candidate]]:
        deployed = set(self._store.runs.deployed_ids(run.pipeline))
        found = []
        for past in self._store.runs.measured_runs(run.pipeline):
            newer = past.change.rank > run.change.rank and past.purpose is Purpose.TRAIN
            if past.id == run.id or newer:
                continue
            if why_not_trusted(past, pipeline) is None:
                found.append(
                    (
                        past,
                        Candidate(
                            self._measured(past), past.id, evaluation_digest(past.change), past.id in deployed
                        ),
                    )
                )
        return found

    def _reference(
        self,
        run: Run,
        check: Comparison,
        history: Sequence[tuple[Run, Candidate]],
        pins: Mapping[str, int],
        direction: Direction,
        pipeline: Pipeline,
    ) -> Reference | Waiting:
        mine = evaluation_digest(run.change)
        # A run that was made to measure an old commit again stands in for it; only `best` may choose it by
        # itself.
        pool = [
            c
            for past, c in history
            if past.purpose is Purpose.TRAIN or check.baseline.kind is SelectorKind.BEST
        ]
        chosen: Chosen = choose(check.baseline, pool, check.metric, direction, pins, mine)
        if chosen.candidate is None:
            return Reference(None, chosen.why_none)
        if chosen.candidate.evaluation_digest == mine:
            return Reference(chosen.candidate.measured)
        return self._measured_again(run, chosen.candidate, pipeline)

    def _measured_again(self, run: Run, old: Candidate, pipeline: Pipeline) -> Reference | Waiting:
        """The baseline's commit on this run's evaluation data: there already, being measured, or enqueued
        now.
        """
        baseline = self._store.runs.get(old.measured.run_id)
        for again in self._store.runs.listing(run.pipeline, limit=500):
            if (
                again.purpose is Purpose.BASELINE
                and again.change.revision.commit == baseline.change.revision.commit
                and same_evaluation_data(again.change, run.change)
            ):
                if again.state is RunState.PASSED:
                    return Reference(self._measured(again))
                if not again.state.final:
                    return Waiting(again.id)
                # What failed by its own fault will again; what was our fault gets a try from each run.
                if again.state is RunState.FAILED or again.id > run.id:
                    why = f"{baseline.title}'s commit could not be measured on the new data: {again.message}"
                    return Reference(old.measured, why, comparable=False)
        enqueued = self._store.runs.enqueue(
            NewRun(
                pipeline,
                Cause.BASELINE,
                baseline.change.revision,
                run.change.datasets,
                purpose=Purpose.BASELINE,
                rerun_of=baseline.id,
                note=f"{baseline.title} measured on the evaluation data of {run.title}",
            ),
            (),
            run.pipeline,
            self._clock.now(),
        )
        if enqueued is None:
            return Reference(old.measured, "the baseline could not be measured again", comparable=False)
        log.info("%s waits for %s: %s", run.title, enqueued.title, enqueued.change.note)
        return Waiting(enqueued.id)


def measured(run: Run, metrics: Mapping[int, Sequence[Metric]]) -> Measured:
    """A run's values by metric, one per replicate.

    A name that several files hold counts once, the first file's. A replicate that lacks what another one has
    counts as NaN there: it is never dropped.
    """
    revision = run.change.revision
    return measured_as(run.id, run.title, revision.commit, revision.branch, metrics)


def measured_as(
    run_id: int, title: str, commit: str, branch: str, metrics: Mapping[int, Sequence[Metric]]
) -> Measured:
    """As :func:`measured`, of a run of which only this is known."""
    found: list[dict[str, float]] = []
    for replicate in sorted(metrics):
        values: dict[str, float] = {}
        for metric in metrics[replicate]:
            values.setdefault(metric.name, metric.value)
        found.append(values)
    names = dict.fromkeys(name for values in found for name in values)
    return Measured(
        run_id,
        title,
        commit,
        branch,
        {name: tuple(values.get(name, math.nan) for values in found) for name in names},
    )


def evaluation_digest(change: Change) -> str:
    """Names the evaluation data of a change: equal digests mean that metrics can be compared."""
    return digest_of(change.datasets)


def digest_of(datasets: Iterable[DatasetVersion]) -> str:
    """Names the evaluation data among dataset versions."""
    digest = hashlib.sha256()
    for version in sorted(datasets, key=lambda v: v.dataset):
        if version.role is DatasetRole.EVALUATION:
            digest.update(f"{version.dataset}={version.fingerprint}\n".encode())
    return digest.hexdigest()
