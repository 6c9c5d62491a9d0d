"""Collecting: what a stopped container left, read member by member with limits.

Everything in the output folder is kept, and what the pipeline declares in the working folder. Nothing is
executed or unpickled here: metrics are numbers in text files, all else is opaque bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.globs import fixed_folder, matches
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Limits, Pipeline
from orchestrator.domain.run import Reason
from orchestrator.ports.engine import Engine
from orchestrator.ports.records import StoredArtifact
from orchestrator.ports.world import BlobStore, Collector, TooLarge
from orchestrator.services import naming
from orchestrator.services.archive import CHECKOUT_TIME, LeftOut, Member, read_members

_METRICS_FILE_LIMIT = 16 << 20
_LISTED = 1000
"""So many entries that were left out are named; a container can make any number of them."""
AUTODETECTED = ("metrics.json",)
"""Files of metrics that count without being declared."""


@dataclass(slots=True)
class Collected:
    """What was found. ``problem`` is why the metrics are not usable, as a reason with a message."""

    metrics: list[Metric] = field(default_factory=list)
    artifacts: list[StoredArtifact] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problem: tuple[Reason, str] | None = None
    seen: list[str] = field(default_factory=list)
    """All paths in the output folder, for messages."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files of metrics that were there and were not read, with why."""
    unlisted: int = 0
    """How many entries were left out beyond those in ``left_out``."""

    def leave_out(self, path: str, why: str) -> None:
        """List an entry that is not kept, or count it when the list is long enough."""
        if len(self.left_out) < _LISTED:
            self.left_out.append(f"{path}: {why}")
        else:
            self.unlisted += 1


class OutputCollector:
    """Fetches and reads what attempts left."""

    def __init__(self, blobs: BlobStore, collectors: Sequence[Collector]) -> None:
        self._blobs = blobs
        self._collectors = collectors

    def collect(self, engine: Engine, container: str, pipeline: Pipeline) -> Collected:
        """Keep the outputs of a stopped container and read its metrics. Raises EngineError.

        The limits hold over all folders together. What exceeds them, and whatever is no regular file, is
        listed.
        """
        found = Collected()
        texts: dict[str, bytes] = {}
        stale: set[str] = set()
        budget = pipeline.limits
        budget = self._folder(
            engine, container, naming.OUTPUT, ("**",), pipeline, budget, found, texts, stale
        )
        patterns = (*pipeline.collect, *(AUTODETECTED if not pipeline.collect else ()), *pipeline.artifacts)
        for folder, wanted in _by_folder(patterns).items():
            path = f"{naming.WORKSPACE}/{folder}".rstrip("/")
            budget = self._folder(engine, container, path, wanted, pipeline, budget, found, texts, stale)
        if found.unlisted:
            found.left_out.append(f"{found.unlisted} more entries were left out")
        self._read_metrics(pipeline, texts, stale, found)
        return found

    def _folder(
        self,
        engine: Engine,
        container: str,
        path: str,
        patterns: Sequence[str],
        pipeline: Pipeline,
        limits: Limits,
        found: Collected,
        texts: dict[str, bytes],
        stale: set[str],
    ) -> Limits:
        """Read one folder; what is left of the limits."""
        output = path == naming.OUTPUT
        prefix = "" if output else path.removeprefix(naming.WORKSPACE).strip("/")
        opened = engine.get(container, path)
        if opened is None:
            return limits
        count, size = 0, 0
        kept = {artifact.path for artifact in found.artifacts}
        with opened as stream:
            root = path.rsplit("/", 1)[-1]
            for item in read_members(stream, _wide(limits), root):
                name = f"{prefix}/{item.path}" if prefix else item.path
                if isinstance(item, LeftOut):
                    if not item.path:
                        # It speaks of many entries, and so stands there however long the list is.
                        found.left_out.append(f"{path}: {item.why}")
                    elif output or matches(name, patterns):
                        found.leave_out(name, item.why)
                        if name in pipeline.collect:
                            found.unread[name] = item.why
                    continue
                if output:
                    found.seen.append(name)
                if not matches(name, patterns) or name in kept:
                    continue
                unchanged = not output and item.mtime == CHECKOUT_TIME
                if unchanged and (self._is_metrics(name, pipeline) or matches(name, pipeline.collect)):
                    stale.add(name)
                    continue
                if (
                    count >= limits.files
                    or size + item.size > limits.total_size
                    or item.size > limits.file_size
                ):
                    why = _which_limit(limits, count, size, item.size)
                    found.leave_out(name, why)
                    if name in pipeline.collect:
                        found.unread[name] = why
                    continue
                self._keep(item, name, pipeline, limits, found, texts)
                count, size = count + 1, size + item.size
        return replace(limits, files=limits.files - count, total_size=limits.total_size - size)

    def _keep(
        self,
        item: Member,
        name: str,
        pipeline: Pipeline,
        limits: Limits,
        found: Collected,
        texts: dict[str, bytes],
    ) -> None:
        metrics = self._is_metrics(name, pipeline)
        try:
            if metrics and item.size <= _METRICS_FILE_LIMIT:
                texts[name] = item.stream.read()
                blob = self._blobs.put(io.BytesIO(texts[name]), limits.file_size)
            else:
                if metrics:
                    found.unread[name] = (
                        f"{item.size} bytes are more than a file of metrics may have ({_METRICS_FILE_LIMIT})"
                    )
                blob = self._blobs.put(item.stream, limits.file_size)
        except TooLarge:
            found.leave_out(name, f"larger than {limits.file_size} bytes")
            return
        kind = "metrics" if metrics else "artifact"
        found.artifacts.append(StoredArtifact(name, blob.size, blob.sha256, kind))

    def _is_metrics(self, name: str, pipeline: Pipeline) -> bool:
        return matches(name, pipeline.collect or AUTODETECTED)

    def _read_metrics(
        self, pipeline: Pipeline, texts: dict[str, bytes], stale: set[str], found: Collected
    ) -> None:
        for pattern in pipeline.collect:
            if any(matches(name, (pattern,)) for name in texts):
                continue
            unread = next((name for name in sorted(found.unread) if matches(name, (pattern,))), None)
            if unread is not None:
                why = f"{unread} was not read: {found.unread[unread]}"
                found.problem = found.problem or (Reason.INVALID_METRICS, why)
                continue
            if any(matches(name, (pattern,)) for name in stale):
                message = (
                    f"{pattern} was declared, but the file is the repository's own: this run did not write it"
                )
            else:
                message = (
                    f"{pattern} was declared and is not there; the output folder holds: {_few(found.seen)}"
                )
            found.problem = found.problem or (Reason.MISSING_METRICS, message)
        for name in sorted(texts):
            reader = next((c for c in self._collectors if c.reads(name)), None)
            if reader is None:
                found.warnings.append(f"{name}: no reader knows this format; it is kept as a file")
                continue
            try:
                found.metrics += reader.read(name, texts[name])
            except InvalidInput as error:
                if pipeline.collect:
                    found.problem = found.problem or (Reason.INVALID_METRICS, str(error))
                else:
                    found.warnings.append(str(error))
        names = {metric.name for metric in found.metrics}
        needed = required_metrics(pipeline)
        missing = [name for name in needed if name not in names]
        if missing and found.problem is None:
            have = f"; the metrics are: {_few(sorted(names))}" if names else "; no metrics were found"
            found.problem = (
                Reason.MISSING_METRICS,
                f"metric {', '.join(missing)} was declared and is not there{have}",
            )


def required_metrics(pipeline: Pipeline) -> list[str]:
    """The metrics that a run must leave: those declared and those that a check judges, in that order."""
    judged = [check.metric for check in pipeline.gate.checks]
    return list(dict.fromkeys([*(metric.name for metric in pipeline.metrics), *judged]))


def _by_folder(patterns: Iterable[str]) -> dict[str, list[str]]:
    """Patterns by the folder that must be read for them; a folder inside another one is read with it."""
    folders: dict[str, list[str]] = {}
    for pattern in patterns:
        folders.setdefault(fixed_folder(pattern), []).append(pattern)
    roots = [f for f in folders if not any(_inside(f, other) for other in folders if other != f)]
    return {
        root: [p for f, ps in folders.items() if f == root or _inside(f, root) for p in ps] for root in roots
    }


def _inside(folder: str, other: str) -> bool:
    return other == "" or folder.startswith(other + "/")


def _wide(limits: Limits) -> Limits:
    """The caps for reading, which skip what no pattern wants; what is kept is counted separately."""
    return replace(
        limits, files=max(limits.files, 0) * 100 + 10_000, total_size=max(limits.total_size, 1 << 30) * 4
    )


def _which_limit(limits: Limits, count: int, size: int, item: int) -> str:
    if item > limits.file_size:
        return f"{item} bytes are more than one file may have ({limits.file_size})"
    if count >= limits.files:
        return "too many files"
    return f"{size + item} bytes are more than all files together may have"


def _few(names: Sequence[str], count: int = 10) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
