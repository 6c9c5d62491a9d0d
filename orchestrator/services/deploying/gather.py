"""What a release holds: gathered from what the run left, and told in its manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

from orchestrator.domain.action_spec import DeployAction
from orchestrator.domain.codec import to_plain
from orchestrator.domain.deployment import Deployment, ReleaseFile
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.globs import matches
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Attempt, Run, representative
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import StoredArtifact
from orchestrator.ports.store import Store
from orchestrator.ports.templates import Value
from orchestrator.ports.world import DatasetSource, Renderer
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.repository import Repository
from orchestrator.services.report import ReportBuilder

MANIFEST = "release.json"
REPORT = "report.html"
METRICS = "metrics.json"


class Gatherer:
    """Puts together what an action takes from a run."""

    def __init__(
        self,
        store: Store,
        datasets: DatasetSource,
        reports: ReportBuilder,
        renderer: Renderer,
        progress: ProgressSink,
        repository: Repository | None = None,
    ) -> None:
        """Without a ``repository``, actions that ask for its files are refused."""
        self._store = store
        self._datasets = datasets
        self._reports = reports
        self._renderer = renderer
        self._progress = progress
        self._repository = repository

    def gather(
        self, contents: Contents, run: Run, pipeline: Pipeline, spec: DeployAction, deployment: Deployment
    ) -> None:
        """Everything that the release holds.

        Raises NotFound when something asked for is not there, InvalidInput when an artifact lies where
        something else goes or a template cannot be filled in, ActionUnavailable when the repository does not
        answer.
        """
        places = [f"data/{name}/" for name in spec.data] + ["code/"] * spec.code
        attempt = representative(self._store.attempts.of_run(run.id))
        artifacts = self._store.attempts.artifacts(attempt.id) if attempt else ()
        wanted = spec.files or ("**",)
        for pattern in spec.files:
            if not any(matches(artifact.path, (pattern,)) for artifact in artifacts):
                raise self._not_there(pattern, attempt, artifacts)
        for artifact in artifacts:
            if matches(artifact.path, wanted):
                if artifact.path.startswith(tuple(places)):
                    raise InvalidInput(
                        f"the artifact {artifact.path} lies where the release holds a dataset or the code",
                        "let the training write it elsewhere",
                    )
                contents.add_blob(artifact.path, artifact.size, artifact.sha256)
        for name in spec.data:
            self._gather_data(contents, run, pipeline, name)
        if spec.report:
            report = self._reports.build(run, releasing=deployment, pictured=True)
            html = self._renderer.render(report).whole
            contents.add_bytes(REPORT, html.encode())
        if spec.metrics:
            values = {m.name: _number(m.value) for m in self._metrics(run, attempt)}
            contents.add_bytes(METRICS, json.dumps(values, indent=2, sort_keys=True).encode() + b"\n")
        left_out = self._gather_repository(contents, run, pipeline, spec, deployment)
        contents.add_bytes(MANIFEST, self._manifest(run, deployment, contents.files, left_out))

    def _not_there(
        self, pattern: str, attempt: Attempt | None, artifacts: Sequence[StoredArtifact]
    ) -> NotFound:
        left_out = self._store.attempts.left_out(attempt.id) if attempt else ()
        for entry in left_out:
            if matches(entry.partition(": ")[0], (pattern,)):
                return NotFound(
                    f"'{pattern}' was not kept: {entry}", "raise the limit, or let the run write less"
                )
        have = ", ".join(artifact.path for artifact in artifacts[:10]) or "nothing"
        return NotFound(f"no artifact matches '{pattern}'", f"the run left: {have}")

    def _gather_data(self, contents: Contents, run: Run, pipeline: Pipeline, name: str) -> None:
        version = run.change.version_of(name)
        dataset = pipeline.dataset_named(name)
        if version is None or dataset is None:
            raise NotFound(f"the run has no dataset {name}")
        entries = self._store.detection.manifest(dataset, version.fingerprint)
        files = self._datasets.materialise(dataset, entries, self._progress)
        contents.add_archive(
            f"data/{name}", files, partial(self._datasets.archive, dataset, files, self._progress)
        )

    def _gather_repository(
        self, contents: Contents, run: Run, pipeline: Pipeline, spec: DeployAction, deployment: Deployment
    ) -> Sequence[str]:
        """The code and the templates; what of the code is left out."""
        if not spec.code and not spec.templates:
            return ()
        if self._repository is None:
            raise InvalidInput("files of the repository cannot be had here")
        attempt = representative(self._store.attempts.of_run(run.id))
        facts: dict[str, Value] = {
            "release": deployment.release,
            "server": deployment.server,
            "environment": deployment.environment,
            "pipeline": run.pipeline,
            "run": {
                "id": run.id,
                "number": run.number,
                "commit": run.change.revision.commit,
                "branch": run.change.revision.branch,
            },
            "data": {v.dataset: v.number for v in run.change.datasets},
            "metrics": {m.name: m.value for m in self._metrics(run, attempt)},
            "image": attempt.image_digest if attempt else "",
        }
        revision = run.change.revision
        source = pipeline.source_named(revision.source)
        if source is None:
            raise NotFound(f"the pipeline has no source {revision.source} any more")
        for place in spec.templates:
            if any(file.path == place for file in contents.files):
                raise InvalidInput(f"the template {place} lies where the release holds an artifact")
            contents.add_bytes(place, self._repository.filled(source, revision.commit, place, facts))
        if not spec.code:
            return ()
        return contents.add_folder("code", self._repository.code(source, revision.commit))

    def _metrics(self, run: Run, attempt: Attempt | None) -> Sequence[Metric]:
        return self._store.runs.metrics(run.id).get(attempt.replicate, ()) if attempt else ()

    def _manifest(
        self,
        run: Run,
        deployment: Deployment,
        files: tuple[ReleaseFile, ...],
        left_out: Sequence[str],
    ) -> bytes:
        attempt = representative(self._store.attempts.of_run(run.id))
        document = {
            "release": deployment.release,
            "pipeline": run.pipeline,
            "run": run.id,
            "number": run.number,
            "commit": run.change.revision.commit,
            "branch": run.change.revision.branch,
            "data": {
                v.dataset: {"version": v.number, "fingerprint": v.fingerprint} for v in run.change.datasets
            },
            "verdict": to_plain(run.verdict),
            "metrics": {m.name: _number(m.value) for m in self._metrics(run, attempt)},
            "image": attempt.image_digest if attempt else "",
            "files": {f.path: {"size": f.size, "sha256": f.sha256} for f in files},
        }
        if left_out:
            document["links_left_out"] = list(left_out)
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _number(value: float) -> object:
    """A metric for JSON: whole numbers as such, NaN and the infinities as text."""
    return int(value) if value.is_integer() else to_plain(value)
