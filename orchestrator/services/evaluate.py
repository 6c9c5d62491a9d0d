"""Judging: what a run's attempts mean for it, its verdict against baselines, and the actions it then owes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.domain.action import Trigger
from orchestrator.domain.errors import LeaseLost, StoreUnavailable
from orchestrator.domain.gate import Outcome, Verdict, drifts, judge
from orchestrator.domain.looks import look_reached, looks_of, step_after
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import Looks, Pipeline
from orchestrator.domain.report import is_broken, is_fixed
from orchestrator.domain.run import (
    Attempt,
    AttemptState,
    Progress,
    Purpose,
    Reason,
    Run,
    RunState,
    latest_tries,
    progress,
)
from orchestrator.ports.baselines import NewUse
from orchestrator.ports.records import NewAction, Standing
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, SourceControl
from orchestrator.services.judging import context_of, histories, uses_made
from orchestrator.services.measuring import measured
from orchestrator.services.predictions import RowReader
from orchestrator.services.references import References, Waiting
from orchestrator.services.reproduce import Reproducer

log = logging.getLogger(__name__)

_PATIENCE = 5
"""So often a run is judged in vain before it is given up."""

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

    A run that measures a baseline, or repeats another one, owes none.
    """
    if purpose is not Purpose.TRAIN:
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


class Evaluator:
    """Moves unfinished runs on. One thread."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        sources: SourceControl | None = None,
        rows: RowReader | None = None,
    ) -> None:
        """``sources`` tell where branches left the default branch, ``rows`` brings predictions together."""
        self._store = store
        self._clock = clock
        self._references = References(store, clock, sources)
        self._reproducer = Reproducer(store, clock)
        self._rows = rows
        self._waiting: dict[int, int] = {}
        self._seen: dict[int, Standing] = {}
        self._defects: Counter[int] = Counter()

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
                # One run that cannot be judged must not hold up those behind it, nor be judged for ever.
                log.exception("%s: defect", run.title)
                self._defects[run.id] += 1
                if self._defects[run.id] < _PATIENCE:
                    continue
                try:
                    after = self._give_up(run)
                except LeaseLost:
                    continue
            if after.state.final:
                ended.append(after)
        return ended

    def _give_up(self, run: Run) -> Run:
        """End a run that a defect of ours keeps from being judged."""
        del self._defects[run.id]
        why = f"it could not be judged {_PATIENCE} times, by a defect that the server's log tells of"
        return self._end(run, RunState.ERRORED, Reason.INTERNAL, why)

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
        pipeline = self._store.runs.definition(run.id)
        step: Progress = progress(
            attempts,
            pipeline.execution.infrastructure_retries,
            cancelling=run.cancel_requested_by is not None,
            max_failed=pipeline.looks.max_failed,
        )
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
        self,
        run: Run,
        state: RunState,
        reason: Reason | None,
        message: str,
        verdict: Verdict | None = None,
        uses: Sequence[NewUse] = (),
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
            uses=uses,
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
        self._waiting.pop(run.id, None)
        pipeline = self._store.runs.definition(run.id)
        if run.purpose is Purpose.BASELINE:
            self._references.note(run)
            verdict = Verdict(Outcome.PASS, "measured again for comparison, not judged")
            return self._end(run, RunState.PASSED, None, verdict.sentence, verdict)
        if run.purpose is Purpose.REPRODUCE:
            verdict = self._reproducer.judge(run, pipeline)
            return self._end(run, _VERDICTS[verdict.outcome], None, verdict.sentence, verdict)
        verdict_or_wait = self._judge(run, pipeline)
        if isinstance(verdict_or_wait, Waiting):
            if verdict_or_wait.run_id is not None:
                self._waiting[run.id] = verdict_or_wait.run_id
            if run.state is RunState.EVALUATING:
                return run
            return self._store.runs.move(run.id, run.state, RunState.EVALUATING, self._clock.now())
        return self._after_look(run, pipeline, *verdict_or_wait)

    def _after_look(self, run: Run, pipeline: Pipeline, verdict: Verdict, used: int) -> Run:
        """Take the verdict, or train more replicates for it."""
        looks = looks_of(pipeline, run.purpose, run.replicates)
        if pipeline.looks != Looks():
            attempts = self._store.attempts.of_run(run.id)
            step = step_after(looks, attempts, verdict.settled, pipeline.looks.budget)
            if step.replicates is not None:
                log.info("%s: look: %s", run.title, verdict.sentence)
                open_ones = ", ".join(c.check for c in verdict.checks if not c.settled)
                why = f"not decided yet: {open_ones}"
                uses = uses_made(run, pipeline, None, used)
                self._references.keep(run, verdict)
                return self._store.runs.begin_look(
                    run.id, run.state, step.replicates, self._clock.now(), why, uses
                )
            told = [each for each in (step.why, _failed_ones(attempts)) if each]
            verdict = replace(verdict, warnings=(*verdict.warnings, *told))
        if pipeline.gate.checks:
            tried = _tried(*self._store.baselines.tries(run.id))
            verdict = replace(verdict, warnings=(*verdict.warnings, *tried))
        # Drift is told once, with the verdict: to find it takes long.
        drifted = drifts(pipeline.gate.drift, _directions(pipeline), histories(self._store, run, pipeline))
        verdict = replace(verdict, warnings=(*verdict.warnings, *drifted))
        uses = uses_made(run, pipeline, verdict.outcome, used)
        return self._end(run, _VERDICTS[verdict.outcome], None, verdict.sentence, verdict, uses)

    def _judge(self, run: Run, pipeline: Pipeline) -> tuple[Verdict, int] | Waiting:
        """The verdict, and how often the sealed data were used before it; or what it waits for."""
        against = self._references.of(run, pipeline)
        if isinstance(against, Waiting):
            return against
        candidate = measured(run, self._store.runs.metrics(run.id))
        looks = looks_of(pipeline, run.purpose, run.replicates)
        look = look_reached(looks, self._store.attempts.of_run(run.id)) if len(looks) > 1 else 0
        context = context_of(self._store, run, pipeline, against, looks, look)
        if self._rows is not None:
            context = replace(context, rows=self._rows.rows_of(run.id, pipeline, against.references))
        verdict = judge(pipeline.gate, candidate, against.references, _directions(pipeline), context)
        return verdict, context.holdout_uses


def _tried(count: int, not_passed: int) -> Iterator[str]:
    """That the same was tried before: no error rate of one verdict allows for that."""
    if count:
        times = "once" if count == 1 else f"{count} times"
        failed = f", and did not pass {'then' if count == 1 else f'in {not_passed}'}" if not_passed else ""
        luck = ": each try may pass by chance" if not_passed else ""
        yield f"the same commit and data were judged {times} before{failed}{luck}"


def _directions(pipeline: Pipeline) -> dict[str, Direction]:
    drift = pipeline.gate.drift
    metrics = {*(check.metric for check in pipeline.gate.checks), *(drift.metrics if drift else ())}
    found = {metric: pipeline.direction_of(metric) for metric in sorted(metrics)}
    return {metric: direction for metric, direction in found.items() if direction is not None}


def _failed_ones(attempts: Sequence[Attempt]) -> str:
    """What a person should know of the replicates that the comparison goes without; empty: there are none."""
    latest = latest_tries(attempts)
    bad = [attempt for attempt in latest if attempt.state is not AttemptState.SUCCEEDED]
    if not bad:
        return ""
    return f"{len(bad)} of {len(latest)} replicates failed and are left out, as max_failed allows"
