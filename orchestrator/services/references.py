"""What a run is compared with: the baseline of each comparing check, with the values of all runs that
measured the same, and the runs that tell how much metrics vary.

Where a baseline was measured on other evaluation data, its commit is measured again on the run's own; where
`best` is to be confirmed, fresh runs measure it. The verdict waits for either. What was found is written down
once, so that each look of a run, on whichever server, compares with the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.domain.baseline import (
    BaselineSpec,
    Candidate,
    Measured,
    Place,
    SelectorKind,
    choose,
    pooled,
    together,
)
from orchestrator.domain.change import Cause, DatasetVersion, Revision
from orchestrator.domain.check import Comparison
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import NotFound
from orchestrator.domain.gate import CheckResult, Reference, Verdict
from orchestrator.domain.metrics import Direction
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.domain.statistics.noise import MAX_LEDGER_RUNS
from orchestrator.ports.baselines import ComparedWith, Frozen, PastRun
from orchestrator.ports.records import NewRun
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, SourceControl
from orchestrator.services.candidates import as_trained, before, candidates, eligible_runs, note_keys
from orchestrator.services.measuring import evaluation_digest, measured, recipe_of
from orchestrator.services.mergebases import MergeBases
from orchestrator.services.topping_up import is_topping_up

log = logging.getLogger(__name__)

_LOOKED_THROUGH = 500
"""So many of a pipeline's last runs are looked through for one that measures a baseline again."""

_FOR_STRANGERS = 2
"""So many baselines are measured on new data while a stranger's run waits for them."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The verdict waits: for a run that measures a baseline, or (None) for what is being found out."""

    run_id: int | None


@dataclass(frozen=True, slots=True)
class Against:
    """What a run is judged against: an entry for each comparing check of its gate, and the replicated runs
    that tell the noise, newest first; and the results of the look before, if there was one. ``notes`` are
    what could not be known of the past.
    """

    references: Mapping[Comparison, Reference] = field(default_factory=dict)
    ledger: tuple[Measured, ...] = ()
    looked: tuple[CheckResult, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """A run that is to be judged, with all that its checks choose from."""

    run: Run
    pipeline: Pipeline
    history: Sequence[Candidate]
    pins: Mapping[str, int]
    place: Place
    since: int
    until: datetime | None = None
    """The moment of the past as of which it is judged, so that nothing more is measured for it."""


class References:
    """Finds what runs are compared with, and has it measured where it is not. Thread-safe."""

    def __init__(self, store: Store, clock: Clock, sources: SourceControl | None = None) -> None:
        self._store = store
        self._clock = clock
        self._merge_bases = MergeBases(store, sources, clock)
        self._surprises: set[tuple[int, int]] = set()
        """By judged run, what measured a baseline and was not in the history: it may just have ended."""

    def note(self, run: Run) -> None:
        """Write down what a measured run was measured with, for those that are compared with it."""
        note_keys(self._store, run)

    def of(self, run: Run, pipeline: Pipeline) -> Against | Waiting:
        """What a measured run is to be judged against."""
        self.note(run)
        frozen = self._store.baselines.frozen(run.id)
        if frozen is not None and (known := self._thawed(frozen, pipeline)) is not None:
            return known
        comparisons = [check for check in pipeline.gate.checks if isinstance(check, Comparison)]
        references: dict[Comparison, Reference] = {}
        if comparisons:
            case = self._case(run, pipeline, comparisons)
            if isinstance(case, Waiting):
                return case
            for check in comparisons:
                reference = self._reference(case, check)
                if isinstance(reference, Waiting):
                    return reference
                references[check] = reference
        ledger = self._ledger(run, pipeline, references) if pipeline.gate.checks else []
        compared = [
            ComparedWith(
                str(check),
                r.measured.run_id if r.measured else None,
                r.why_none,
                r.comparable,
                r.runs,
                r.unconfirmed,
            )
            for check, r in references.items()
        ]
        looked = frozen.looked if frozen else ()
        ids = tuple(past.run_id for past in ledger)
        self._store.baselines.freeze(run.id, Frozen(tuple(compared), ids, looked))
        return Against(references, tuple(ledger), looked)

    def keep(self, run: Run, verdict: Verdict) -> None:
        """Write down what a look came to that asks for more replicates: what it settled stays so."""
        frozen = self._store.baselines.frozen(run.id) or Frozen()
        self._store.baselines.freeze(run.id, replace(frozen, looked=verdict.checks))

    def as_of(self, run: Run, pipeline: Pipeline, eligible: Sequence[PastRun]) -> Against:
        """What a run that was judged before would be judged against by another gate, by what was known when
        it ended; where the gates agree it is what it was compared with. Measures nothing and writes nothing.

        ``eligible`` are all runs of the pipeline that may be baselines now.
        """
        then, frozen = self._store.runs.definition(run.id), self._store.baselines.frozen(run.id)
        until = run.finished_at or self._clock.now()
        known = self._store.baselines.known(pipeline.name, until)
        past = before([past for past in eligible if past.id in known.passed], run)
        case = _Case(
            run,
            pipeline,
            [
                replace(c, deployed=c.measured.run_id in known.deployed)
                for c in candidates(self._store, pipeline, past)
            ],
            self._store.runs.pins(pipeline.name),
            Place(evaluation_digest(run.change)),
            known.since,
            until,
        )
        references: dict[Comparison, Reference] = {}
        notes: tuple[str, ...] = ()
        for check in pipeline.gate.checks:
            if isinstance(check, Comparison):
                old = _told_of(check, pipeline, frozen, then) if frozen else None
                references[check] = self._remembered(case, check, old)
                if old is None and pipeline.baseline_of(check.baseline).select.kind is SelectorKind.PINNED:
                    notes = ("pins count as they are now",)
        if frozen and (pipeline.gate.checks, pipeline.baselines) == (then.gate.checks, then.baselines):
            with suppress(NotFound):
                return Against(
                    references, tuple(self._measured(run_id) for run_id in frozen.ledger), notes=notes
                )
        return Against(references, tuple(self._ledger(run, pipeline, references, until)), notes=notes)

    def _remembered(self, case: _Case, check: Comparison, told: ComparedWith | None) -> Reference:
        spec = case.pipeline.baseline_of(check.baseline)
        if told is not None:
            try:
                return self._reference_of(told)
            except NotFound:
                return Reference(None, "a run that it was compared with was removed since", comparable=False)
        if spec.select.kind is SelectorKind.MERGE_BASE:
            return Reference(None, "where its branch left was not looked up then", comparable=False)
        pinned = case.pins.get(spec.select.argument) if spec.select.kind is SelectorKind.PINNED else None
        if pinned is not None and all(c.measured.run_id != pinned for c in case.history):
            why = f"run {pinned}, which is pinned now, was no baseline yet, and what was then is not known"
            return Reference(None, why, comparable=False)
        found = self._reference(case, check)
        if isinstance(found, Waiting):
            raise AssertionError(f"{case.run.title}: nothing is measured for the past")
        return found

    def _thawed(self, frozen: Frozen, pipeline: Pipeline) -> Against | None:
        """What was written down, with its values; None where a run of it is gone."""
        by_check = {each.check: each for each in frozen.checks}
        references: dict[Comparison, Reference] = {}
        try:
            for check in pipeline.gate.checks:
                if isinstance(check, Comparison):
                    references[check] = self._reference_of(by_check[str(check)])
            ledger = tuple(self._measured(run_id) for run_id in frozen.ledger)
            return Against(references, ledger, frozen.looked)
        except (NotFound, KeyError):
            return None

    def _reference_of(self, told: ComparedWith) -> Reference:
        if told.chosen is None:
            return Reference(None, told.why_none, told.comparable)
        chosen = self._measured(told.chosen)
        members = [Candidate(self._measured(run_id), run_id, "") for run_id in told.runs]
        values = pooled(members, chosen) if members else chosen
        return Reference(values, told.why_none, told.comparable, told.runs, told.unconfirmed)

    def _measured(self, run_id: int) -> Measured:
        return measured(self._store.runs.get(run_id), self._store.runs.metrics(run_id))

    def _case(self, run: Run, pipeline: Pipeline, comparisons: Sequence[Comparison]) -> _Case | Waiting:
        place = Place(evaluation_digest(run.change))
        selected = {pipeline.baseline_of(check.baseline).select.kind for check in comparisons}
        if SelectorKind.MERGE_BASE in selected:
            left = self._merge_bases.of(run, pipeline)
            if left is None:
                return Waiting(None)
            place = replace(place, merge_base=left.commit, default_branch=left.branch)
        runs = eligible_runs(self._store, pipeline, {check.metric for check in comparisons})
        rebased = self._store.baselines.rebased(pipeline.name)
        return _Case(
            run,
            pipeline,
            candidates(self._store, pipeline, before(runs, run, place.merge_base), remember=True),
            self._store.runs.pins(pipeline.name),
            place,
            rebased.run_id if rebased else 0,
        )

    def _ledger(
        self,
        run: Run,
        pipeline: Pipeline,
        references: Mapping[Comparison, Reference],
        until: datetime | None = None,
    ) -> list[Measured]:
        """The replicated runs whose noise counts: as many as do, beside those that are compared."""
        compared = {run_id for reference in references.values() for run_id in reference.runs}
        compared |= {reference.measured.run_id for reference in references.values() if reference.measured}
        wanted = MAX_LEDGER_RUNS + len(compared)
        found: list[Measured] = []
        for run_id in self._store.baselines.replicated(run.id, 4 * wanted, compared, until):
            past = self._store.runs.get(run_id)
            own = self._store.runs.definition(run_id)
            # Whoever proposes a change could else make the noise so loud that nothing shows.
            if not own.untrusted and why_not_trusted(past, replace(pipeline, untrusted=False)) is None:
                found.append(self._measured(run_id))
            if len(found) == wanted:
                break
        return found

    def _reference(self, case: _Case, check: Comparison) -> Reference | Waiting:
        direction = case.pipeline.direction_of(check.metric)
        if direction is None:
            return Reference(None, f"the direction of {check.metric} is not known")
        spec = case.pipeline.baseline_of(check.baseline)
        chosen = self._choose(case, spec, check.metric, direction)
        if isinstance(chosen, Waiting | Reference):
            return chosen
        if chosen.evaluation_digest != case.place.evaluation_digest:
            return self._on_new_data(case, spec, chosen)
        # Where all have the same seeds, further runs with them tell nothing new.
        paired = case.pipeline.looks.pair_seeds and not spec.confirm
        members = (chosen,) if paired else together(chosen, case.history, spec)
        if spec.select.kind is SelectorKind.BEST and spec.confirm:
            return self._confirmed(case, spec, chosen, members, check.metric)
        return _reference(members, chosen.measured)

    def _choose(
        self, case: _Case, spec: BaselineSpec, metric: str, direction: Direction
    ) -> Candidate | Reference | Waiting:
        found = choose(spec, case.history, metric, direction, case.pins, case.place, case.since)
        if found.candidate is not None:
            return found.candidate
        measurable = case.place.merge_base and not case.since and not case.pipeline.untrusted
        if spec.select.kind is SelectorKind.MERGE_BASE and measurable:
            revision = Revision(
                case.run.change.revision.source, case.place.default_branch, case.place.merge_base
            )
            recipe = recipe_of(revision.commit, case.run.change.datasets, case.pipeline)
            again = self._under_way(case, recipe, enough=True)
            if again is None:
                note = f"where the branch of {case.run.title} left {revision.branch}"
                return self._enqueue(case, recipe, case.pipeline, revision, None, spec.replicates, note)
            return again
        return Reference(None, found.why_none, comparable=not found.lost)

    def _on_new_data(self, case: _Case, spec: BaselineSpec, old: Candidate) -> Reference | Waiting:
        """The baseline's commit on this run's evaluation data: there already, being measured, or enqueued
        now.
        """
        baseline = self._store.runs.get(old.measured.run_id)
        pipeline = as_trained(self._store, case.pipeline, baseline)
        if not case.pipeline.untrusted:
            pipeline = replace(pipeline, datasets=case.pipeline.datasets)
        recipe = recipe_of(old.measured.commit, case.run.change.datasets, pipeline)
        there = [c for c in case.history if c.again and c.recipe == recipe]
        if there:
            return _reference(together(there[-1], case.history, replace(spec, confirm=0)), there[-1].measured)
        again = self._under_way(case, recipe, enough=True)
        if again is None:
            note = f"{baseline.title} measured on the evaluation data of {case.run.title}"
            revision, count = baseline.change.revision, max(spec.confirm, spec.replicates)
            again = self._enqueue(case, recipe, pipeline, revision, baseline.id, count, note)
        if isinstance(again, Reference):
            why = f"{baseline.title}'s commit could not be measured on the new data: {again.why_none}"
            return Reference(old.measured, why, comparable=False)
        return again

    def _confirmed(
        self, case: _Case, spec: BaselineSpec, best: Candidate, fresh: Sequence[Candidate], metric: str
    ) -> Reference | Waiting:
        """The value of `best` by runs that had no part in its choice: these are enqueued where they lack."""
        values = pooled(fresh, best.measured)
        if len(values.values.get(metric, ())) >= spec.confirm:
            return _reference(fresh, best.measured)
        again = self._under_way(case, best.recipe, enough=False)
        if again is None:
            original = self._store.runs.get(best.measured.run_id)
            missing = spec.confirm - len(values.values.get(metric, ()))
            note = f"{original.title} measured again to confirm it as the best"
            pipeline = as_trained(self._store, case.pipeline, original)
            revision, data = original.change.revision, original.change.datasets
            again = self._enqueue(
                case, best.recipe, pipeline, revision, original.id, missing, note, data, "confirm"
            )
        if isinstance(again, Waiting):
            return again
        if values.values.get(metric):
            return _reference(fresh, best.measured)
        why = f"it could not be confirmed as the best: {again.why_none}"
        return Reference(best.measured, why, comparable=False, unconfirmed=True)

    def _under_way(self, case: _Case, recipe: str, *, enough: bool) -> Reference | Waiting | None:
        """What measures a recipe again: a run that is waited for, or the reason why it came to nothing; None
        when there is none.

        ``enough`` says that one run that passed would do: where there is one, it cannot be compared with.
        """
        if case.until is not None:
            return None
        for again in self._store.runs.listing(case.pipeline.name, limit=_LOOKED_THROUGH):
            if (
                again.purpose is Purpose.BASELINE
                and not is_topping_up(again)
                and recipe == self._recipe(again)
            ):
                if not again.state.final:
                    return Waiting(again.id)
                # What failed by its own fault will again; what was our fault gets a try from each run.
                if again.state is RunState.FAILED or (
                    again.id > case.run.id and again.state is not RunState.PASSED
                ):
                    return Reference(None, again.message, comparable=False)
                if enough and again.state is RunState.PASSED:
                    return self._of_no_use(case, again)
        return None

    def _of_no_use(self, case: _Case, again: Run) -> Reference | Waiting:
        """What to do about a run that measured a baseline and was not found in the history, which was read
        before: look there once more, and then go without it.
        """
        if again.state is RunState.PASSED and (case.run.id, again.id) not in self._surprises:
            self._surprises.add((case.run.id, again.id))
            return Waiting(None)
        self._surprises.discard((case.run.id, again.id))
        if again.state is not RunState.PASSED:
            return Reference(None, again.message, comparable=False)
        why = f"{again.title} measured it again, which cannot be compared with"
        return Reference(None, why, comparable=False)

    def _recipe(self, run: Run) -> str:
        definition = self._store.runs.definition(run.id)
        return recipe_of(run.change.revision.commit, run.change.datasets, definition)

    def _enqueue(
        self,
        case: _Case,
        recipe: str,
        pipeline: Pipeline,
        revision: Revision,
        rerun_of: int | None,
        replicates: int,
        note: str,
        data: tuple[DatasetVersion, ...] | None = None,
        purpose: str = "measure",
    ) -> Reference | Waiting:
        """Have a commit measured on the judged run's data, unless others are given: once for each run that is
        judged, by whichever server, so that no run can have its baseline measured without end.
        """
        if case.until is not None:
            return Reference(None, "it would have been measured first", comparable=False)
        if case.pipeline.untrusted and (purpose == "confirm" or self._measured_since(case) >= _FOR_STRANGERS):
            # Else whoever proposes a change would say how long our hosts train for it, with our secrets.
            return Reference(None, "for a change of strangers no more is measured", comparable=False)
        once = f"baseline of run {case.run.id}: {purpose} {recipe}"
        enqueued = self._store.runs.enqueue(
            NewRun(
                pipeline,
                Cause.BASELINE,
                revision,
                case.run.change.datasets if data is None else data,
                purpose=Purpose.BASELINE,
                rerun_of=rerun_of,
                note=note,
                replicates=replicates or None,
                once=once,
            ),
            (),
            pipeline.name,
            self._clock.now(),
        )
        if enqueued is None:
            return self._enqueued_before(case, recipe)
        log.info("%s: %s", enqueued.title, note)
        return Waiting(enqueued.id)

    def _measured_since(self, case: _Case) -> int:
        """How many runs measured baselines on the data of a run since it was made."""
        later = self._store.runs.listing(case.pipeline.name, limit=_LOOKED_THROUGH)
        return sum(
            again.id > case.run.id
            and again.purpose is Purpose.BASELINE
            and again.change.datasets == case.run.change.datasets
            for again in later
        )

    def _enqueued_before(self, case: _Case, recipe: str) -> Reference | Waiting:
        """The run that was enqueued for the same before, by this server or another."""
        for again in self._store.runs.listing(case.pipeline.name, limit=_LOOKED_THROUGH):
            if (
                again.id > case.run.id
                and again.purpose is Purpose.BASELINE
                and recipe == self._recipe(again)
                and not is_topping_up(again)
            ):
                return self._of_no_use(case, again) if again.state.final else Waiting(again.id)
        return Reference(None, "the baseline could not be measured again", comparable=False)


def _told_of(check: Comparison, pipeline: Pipeline, frozen: Frozen, then: Pipeline) -> ComparedWith | None:
    """What a run was compared with by a check that chose its other side in the same way, or None."""
    wanted = pipeline.baseline_of(check.baseline)
    if pipeline.looks.pair_seeds != then.looks.pair_seeds:
        return None
    told = {each.check: each for each in frozen.checks}
    for old in then.gate.checks:
        if not isinstance(old, Comparison) or str(old) not in told:
            continue
        spec = then.baseline_of(old.baseline)
        same = (spec.select, spec.confirm) == (wanted.select, wanted.confirm)
        if same and (old.metric == check.metric or spec.select.kind is SelectorKind.MERGE_BASE):
            return told[str(old)]
    return None


def _reference(members: Sequence[Candidate], chosen: Measured) -> Reference:
    return Reference(pooled(members, chosen), runs=tuple(c.measured.run_id for c in members))
