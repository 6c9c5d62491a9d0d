"""Reproducing a run: the same commit, data versions, image and seeds, and whether the numbers agree."""

from __future__ import annotations

from orchestrator.domain.change import Cause
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.gate import Verdict
from orchestrator.domain.metrics import values_of
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.reproduction import Repeated, circumstances, compare_repeated
from orchestrator.domain.run import Attempt, AttemptState, Purpose, Run, latest_tries
from orchestrator.ports.records import NewRun
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.collect import required_metrics


class Reproducer:
    """Enqueues reproductions and judges them. Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def enqueue(self, original: Run, who: str, host: str | None = None) -> Run:
        """A run that does again what this one did, as it was defined then.

        Without a wish it goes where its pipeline's runs go. Raises InvalidInput when there is nothing to
        compare with.
        """
        done = [a for a in self._latest(original) if a.state is AttemptState.SUCCEEDED]
        if not original.state.final or not done:
            raise InvalidInput(
                f"{original.title} is {original.state.value}: it left no numbers to come to again",
                "name a run whose training has ended well",
            )
        pipeline = self._store.runs.definition(original.id)
        made = self._store.runs.enqueue(
            NewRun(
                pipeline,
                Cause.RERUN,
                original.change.revision,
                original.change.datasets,
                purpose=Purpose.REPRODUCE,
                rerun_of=original.id,
                note=f"{original.title} done again with its seeds",
                requested_by=who,
                host_wish=host,
                replicates=max(attempt.replicate for attempt in done) + 1,
            ),
            (),
            pipeline.name,
            self._clock.now(),
        )
        if made is None:
            raise NotFound(f"{original.title} could not be enqueued again", "try again")
        return made

    def judge(self, run: Run, pipeline: Pipeline) -> Verdict:
        """Whether a reproduction whose attempts have ended came to the numbers of its original."""
        original = self._store.runs.get(run.rerun_of or 0)
        return compare_repeated(
            self._repeated(original),
            self._repeated(run),
            required_metrics(pipeline),
            circumstances(self._store.attempts.of_run(original.id), self._store.attempts.of_run(run.id)),
        )

    def _latest(self, run: Run) -> tuple[Attempt, ...]:
        return latest_tries(self._store.attempts.of_run(run.id))

    def _repeated(self, run: Run) -> Repeated:
        return Repeated(run.id, run.title, values_of(self._store.runs.metrics(run.id)))


def image_to_repeat(store: Store, run: Run, attempt: Attempt) -> str:
    """The digest of the image that a reproduction's attempt is to have; empty: whatever its runner says."""
    if run.purpose is not Purpose.REPRODUCE or run.rerun_of is None:
        return ""
    originals = latest_tries(store.attempts.of_run(run.rerun_of))
    return next((a.image_digest for a in originals if a.replicate == attempt.replicate), "")
