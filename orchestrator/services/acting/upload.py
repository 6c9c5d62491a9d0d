"""Uploading: what a run left becomes objects of a bucket, the manifest last."""

from __future__ import annotations

from functools import partial

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import UploadAction
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.placeholders import filled
from orchestrator.domain.run import Run
from orchestrator.ports.outlets import ObjectStores
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.results import Results
from orchestrator.services.deploying.gather import MANIFEST

PREFIX = "{pipeline}/{run}"
"""What the names of objects begin with where an action does not say."""


class Uploader:
    """Carries out upload actions: an Act."""

    def __init__(self, store: Store, results: Results, stores: ObjectStores, progress: ProgressSink) -> None:
        self._store = store
        self._results = results
        self._stores = stores
        self._progress = progress

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted:
        """Have all objects. What an earlier try has put there is not sent again."""
        spec = action.spec
        if not isinstance(spec, UploadAction):
            raise TypeError(f"{action.key} is no upload")
        refusal = why_not_trusted(run, self._store.runs.definition(run.id))
        if refusal is not None:
            return Acted(ActionState.SKIPPED, refusal)
        prefix = filled(spec.prefix or PREFIX, run)
        with self._results.of(run, action, spec.contents) as contents:
            # Whoever finds the manifest finds all that it names.
            files = sorted(contents.files, key=lambda file: (file.path == MANIFEST, file.path))
            sent = [
                file
                for file in files
                if self._stores.put(
                    spec.store, f"{prefix}/{file.path}", file, partial(contents.open, file), self._progress
                )
            ]
        where = self._stores.shown(spec.store, prefix)
        there = f", {len(files) - len(sent)} of them there already" if len(sent) < len(files) else ""
        return Acted(ActionState.DONE, f"{len(files)} objects below {where}{there}")

    def give_up(self, lease: Lease, error: str) -> None:
        """Nothing was begun that has to be told as failed."""
