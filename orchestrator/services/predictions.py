"""The predictions of both sides of a check that goes by rows, from the files that their runs left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.domain.check import Comparison, Test
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.gate import Reference
from orchestrator.domain.gate.context import Rows
from orchestrator.domain.pipeline import MetricSpec, Pipeline
from orchestrator.domain.predictions import Predictions, columns_needed, rows_together
from orchestrator.domain.run import AttemptState, latest_tries
from orchestrator.ports.collecting import Collectors, LeftFile
from orchestrator.ports.store import Store
from orchestrator.ports.world import BlobStore

_MOST_FILES = 16
"""Of a baseline with more replicates only the newest are read: each is a file as large as the test set."""
_MOST_READ = 4 << 30
"""Bytes of all files together that are read for one judgement."""
_MOST_HELD = 512 << 20
"""Bytes that their columns may take in memory, together."""


@dataclass(slots=True)
class _Left:
    """What one judgement may still read, and hold."""

    to_read: int
    to_hold: int


class RowReader:
    """Brings rows together. Thread-safe."""

    def __init__(self, store: Store, blobs: BlobStore, collectors: Collectors) -> None:
        self._store = store
        self._blobs = blobs
        self._collectors = collectors

    def rows_of(
        self, run_id: int, pipeline: Pipeline, references: Mapping[Comparison, Reference]
    ) -> dict[Comparison, Rows | str]:
        """For each check that goes by rows those of both sides, or why they cannot be compared.

        Files that are too large together, for all checks, are a reason.
        """
        left = _Left(_MOST_READ, _MOST_HELD)
        return {
            check: self._rows(run_id, pipeline, check, reference, left)
            for check, reference in references.items()
            if check.test is Test.PAIRED_ROWS and reference.measured is not None and reference.comparable
        }

    def _rows(
        self, run_id: int, pipeline: Pipeline, check: Comparison, reference: Reference, left: _Left
    ) -> Rows | str:
        spec = next((s for s in pipeline.metrics if s.name == check.metric and s.predictions), None)
        if spec is None or reference.measured is None:
            return f"the pipeline declares no predictions of {check.metric}"
        try:
            mine, lacking = self._read(run_id, spec, check.slices, left)
            if lacking or not mine:
                return f"this run did not keep its {spec.predictions}{lacking}"
            theirs: list[Predictions] = []
            for other in reversed(reference.runs or (reference.measured.run_id,)):
                if len(theirs) < _MOST_FILES:
                    theirs += self._read(other, spec, "", left)[0]
        except InvalidInput as error:
            return error.message
        if not theirs:
            return f"{reference.measured.title} has no {spec.predictions} any more, or never had"
        return rows_together(
            mine[:_MOST_FILES], theirs[:_MOST_FILES], check.metric, spec.row_id, check.slices
        )

    def _read(
        self, run_id: int, spec: MetricSpec, slices: str, left: _Left
    ) -> tuple[Sequence[Predictions], str]:
        """What there is of a run, one for each replicate that succeeded, and of which there is none."""
        found: list[Predictions] = []
        wanted = partial(columns_needed, metric=spec.name, row_id=spec.row_id, slices=slices)
        lacking: list[str] = []
        for attempt in latest_tries(self._store.attempts.of_run(run_id)):
            if attempt.state is not AttemptState.SUCCEEDED:
                continue
            kept = [a for a in self._store.attempts.artifacts(attempt.id) if a.path == spec.predictions]
            if not kept or kept[0].removed:
                lacking.append(str(attempt.replicate))
                continue
            opened = partial(self._blobs.open, kept[0].sha256)
            try:
                file = LeftFile(kept[0].path, kept[0].size, opened)
                if file.size > left.to_read:
                    raise InvalidInput(
                        f"{file.path}: predictions of all runs together have more than {_MOST_READ} bytes",
                        "fewer rows or columns, or a baseline of fewer runs",
                    )
                left.to_read -= file.size
                read = self._collectors.predictions(file, wanted, left.to_hold)
            except NotFound:
                lacking.append(str(attempt.replicate))
            else:
                left.to_hold -= read.held
                found.append(read)
            if len(found) == _MOST_FILES:
                break
        return found, f" of replicate {', '.join(lacking)}" if lacking else ""
