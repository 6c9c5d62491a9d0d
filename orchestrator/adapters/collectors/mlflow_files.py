"""MLflow's folder ``mlruns/<experiment>/<run>/{meta.yaml,params/K,tags/K,metrics/K}``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.adapters.collectors.common import Findings, lines_of, number, read_text, seconds
from orchestrator.adapters.collectors.mlflow_runs import TrackedRun, prefixes
from orchestrator.adapters.collectors.plain import load
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.collecting import LeftFile

NAME: Final = "mlflow"
_PARENT: Final = "mlflow.parentRunId"
_RUN_NAME: Final = "mlflow.runName"


@dataclass(slots=True)
class _Files:
    meta: LeftFile | None = None
    metrics: dict[str, LeftFile] = field(default_factory=dict)
    params: dict[str, LeftFile] = field(default_factory=dict)
    tags: dict[str, LeftFile] = field(default_factory=dict)


def wanted(inside: str) -> bool:
    """Whether a path below ``mlruns`` is read."""
    parts = inside.split("/")
    if len(parts) == 3:
        return parts[2] == "meta.yaml"
    return len(parts) > 3 and (
        parts[2] in ("metrics", "params") or (parts[2] == "tags" and parts[3] in (_PARENT, _RUN_NAME))
    )


def read_folder(root: str, files: Sequence[LeftFile]) -> Reading:
    """All runs that are not deleted. A file that cannot be read is a warning; InvalidInput if none can."""
    found = Findings(NAME, root)
    runs: dict[str, _Files] = {}
    for file in files:
        parts = file.path.removeprefix(root).lstrip("/").split("/")
        run = runs.setdefault("/".join(parts[:2]), _Files())
        if parts[2] == "meta.yaml":
            run.meta = file
        else:
            {"metrics": run.metrics, "params": run.params, "tags": run.tags}[parts[2]][
                "/".join(parts[3:])
            ] = file
    tracked = [each for key, run in sorted(runs.items()) if (each := _facts(found, key, run)) is not None]
    for key, prefix in prefixes(tracked).items():
        run = next(run for place, run in runs.items() if place.endswith(f"/{key}"))
        _note(found, run, prefix)
    return found.reading()


def _facts(found: Findings, key: str, run: _Files) -> TrackedRun | None:
    """What a run says of itself; None for one that was deleted."""
    name = parent = ""
    try:
        if run.meta is not None:
            meta = load(run.meta)
            if isinstance(meta, dict):
                if meta.get("lifecycle_stage") == "deleted":
                    return None
                name = str(meta.get("run_name") or "")
        if _PARENT in run.tags:
            parent = read_text(run.tags[_PARENT], "").strip()
        if not name and _RUN_NAME in run.tags:
            name = read_text(run.tags[_RUN_NAME], "").strip()
    except InvalidInput as error:
        found.warn(str(error))
    return TrackedRun(key.rpartition("/")[2], name, parent)


def _note(found: Findings, run: _Files, prefix: str) -> None:
    for name, file in sorted(run.params.items()):
        try:
            text = read_text(file, "") if file.size else ""
            found.param(prefix + name, text, file.path)
        except InvalidInput as error:
            found.warn(str(error))
    for name, file in sorted(run.metrics.items()):
        try:
            _note_metric(found, prefix + name, file)
        except InvalidInput as error:
            found.warn(str(error))


def _note_metric(found: Findings, name: str, file: LeftFile) -> None:
    """Lines of ``moment value step``, the moment in milliseconds; in order of their steps."""
    points = []
    for at, line in lines_of(file):
        words = line.split()
        numbers = [number(word) for word in words[:3]]
        if not words:
            continue
        if len(numbers) < 2 or any(each is None for each in numbers):
            found.warn(f"{file.path}:{at}: this is no line of MLflow's: moment, value, step")
            continue
        moment, value, step = [*(each for each in numbers if each is not None), 0.0][:3]
        points.append((step, seconds(moment), at, value))
    for step, moment, _, value in sorted(points, key=lambda point: point[:3]):
        found.point(name, step, value, moment, file.path)
