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
from orchestrator.services.archive import CHECKOUT_TIME, EMPTY_SINCE, LeftOut, Member, read_members

_METRICS_FILE_LIMIT = 4 << 20
_METRICS_LIMIT = 50_000
"""So many values one attempt may leave, over all files."""
_LISTED = 1000
"""So many entries that were left out are named; a container can make any number of them."""
_FETCHED_ALONE = 4
"""So many files of a folder are fetched one by one; more, with all that lies beside them."""
_NAMED = 10
"""So many names are listed in a message."""
_MOST_READ = 100_000
"""So many files of a folder are looked at, unless more may be kept: the reader remembers their names."""
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
    """The first paths in the output folder, for messages."""
    seen_more: int = 0
    """How many paths there are beyond those in ``seen``."""
    read: set[str] = field(default_factory=set)
    """Files of metrics that were there and were looked into, for good or ill."""
    invalid: dict[str, str] = field(default_factory=dict)
    """Those that hold no metrics, with why."""
    stale: set[str] = field(default_factory=set)
    """Declared files that are the repository's own."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files of metrics that were there and were not read, with why."""
    not_kept: dict[str, str] = field(default_factory=dict)
    """What is in ``left_out``, by path."""
    unlisted: int = 0
    """How many entries were left out beyond those in ``left_out``."""

    def see(self, path: str) -> None:
        """Note a path of the output folder."""
        if len(self.seen) < _NAMED:
            self.seen.append(path)
        else:
            self.seen_more += 1

    def leave_unread(self, path: str, why: str) -> None:
        """Note a file of metrics that is not read."""
        if len(self.unread) < _LISTED:
            self.unread[path] = why

    def leave_out(self, path: str, why: str) -> None:
        """List an entry that is not kept, or count it when the list is long enough."""
        if len(self.left_out) < _LISTED:
            self.left_out.append(f"{path}: {why}")
            self.not_kept[path] = why
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
        budget = pipeline.limits
        # To look is far cheaper than to fetch, and most runs leave nothing there.
        if engine.modified(container, naming.OUTPUT) != EMPTY_SINCE:
            budget = self._folder(engine, container, naming.OUTPUT, ("**",), pipeline, budget, found)
        patterns = (*pipeline.collect, *(AUTODETECTED if not pipeline.collect else ()), *pipeline.artifacts)
        for path, wanted in _by_path(patterns).items():
            where = f"{naming.WORKSPACE}/{path}".rstrip("/")
            budget = self._folder(engine, container, where, wanted, pipeline, budget, found)
        if found.unlisted:
            found.left_out.append(f"{found.unlisted} more entries were left out")
        found.warnings += [
            f"{name} is declared under artifacts and was not kept: {why}"
            for name, why in found.not_kept.items()
            if matches(name, pipeline.artifacts)
        ]
        _judge_metrics(pipeline, found)
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
    ) -> Limits:
        """Read one folder, or one file when that is all that is wanted; what is left of the limits."""
        output = path == naming.OUTPUT
        prefix = "" if output else _before(path.removeprefix(naming.WORKSPACE).strip("/"), patterns)
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
                            found.leave_unread(name, item.why)
                    continue
                if output:
                    found.see(name)
                if not matches(name, patterns) or name in kept:
                    continue
                unchanged = not output and item.mtime == CHECKOUT_TIME
                if unchanged and (self._is_metrics(name, pipeline) or matches(name, pipeline.collect)):
                    found.stale.add(name)
                    continue
                if (
                    count >= limits.files
                    or size + item.size > limits.total_size
                    or item.size > limits.file_size
                ):
                    why = _which_limit(pipeline.limits, limits, count, size, item.size)
                    found.leave_out(name, why)
                    if name in pipeline.collect:
                        found.leave_unread(name, why)
                    continue
                self._keep(item, name, pipeline, limits, found)
                count, size = count + 1, size + item.size
        return replace(limits, files=limits.files - count, total_size=limits.total_size - size)

    def _keep(
        self,
        item: Member,
        name: str,
        pipeline: Pipeline,
        limits: Limits,
        found: Collected,
    ) -> None:
        metrics = self._is_metrics(name, pipeline)
        try:
            if metrics and item.size <= _METRICS_FILE_LIMIT:
                text = item.stream.read()
                blob = self._blobs.put(io.BytesIO(text), limits.file_size)
                self._read(name, text, found)
            else:
                if metrics:
                    found.leave_unread(
                        name,
                        f"{item.size} bytes are more than a file of metrics may have ({_METRICS_FILE_LIMIT})",
                    )
                blob = self._blobs.put(item.stream, limits.file_size)
        except TooLarge:
            found.leave_out(name, f"larger than {limits.file_size} bytes")
            return
        kind = "metrics" if metrics else "artifact"
        found.artifacts.append(StoredArtifact(name, blob.size, blob.sha256, kind))

    def _is_metrics(self, name: str, pipeline: Pipeline) -> bool:
        return matches(name, pipeline.collect or AUTODETECTED)

    def _read(self, name: str, text: bytes, found: Collected) -> None:
        """Read a file's metrics as it arrives, so that no more than one file is held."""
        found.read.add(name)
        reader = next((c for c in self._collectors if c.reads(name)), None)
        if reader is None:
            if len(found.warnings) < _LISTED:
                found.warnings.append(f"{name}: no reader knows this format; it is kept as a file")
            return
        try:
            metrics = reader.read(name, text)
        except InvalidInput as error:
            found.invalid[name] = str(error)
            return
        if len(found.metrics) + len(metrics) > _METRICS_LIMIT:
            found.invalid[name] = f"{name}: with it, a run would have more than {_METRICS_LIMIT} metrics"
        else:
            found.metrics += metrics


def _judge_metrics(pipeline: Pipeline, found: Collected) -> None:
    """Say what is wrong with the metrics that were read, and which lack."""
    found.metrics.sort(key=lambda metric: metric.source)
    unread_names = sorted(found.unread.keys() - found.read)
    if not pipeline.collect:
        found.warnings += [f"{name} was not read: {found.unread[name]}" for name in unread_names]
    for pattern in pipeline.collect:
        unread = next((name for name in unread_names if matches(name, (pattern,))), None)
        if unread is not None:
            why = f"{unread} was not read: {found.unread[unread]}"
            found.problem = found.problem or (Reason.INVALID_METRICS, why)
            continue
        if any(matches(name, (pattern,)) for name in found.read):
            continue
        if any(matches(name, (pattern,)) for name in found.stale):
            message = (
                f"{pattern} was declared, but the file is the repository's own: this run did not write it"
            )
        else:
            there = _few(found.seen, found.seen_more)
            message = (
                f"{pattern} was declared and is neither in the working folder nor in $MLCI_OUTPUT_DIR,"
                f" which holds: {there}"
            )
        found.problem = found.problem or (Reason.MISSING_METRICS, message)
    for name in sorted(found.invalid):
        if pipeline.collect:
            found.problem = found.problem or (Reason.INVALID_METRICS, found.invalid[name])
        else:
            found.warnings.append(found.invalid[name])
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


def _by_path(patterns: Iterable[str]) -> dict[str, list[str]]:
    """Patterns by what must be read for them: a few files by their names, else the folders they are in."""
    found: dict[str, list[str]] = {}
    for folder, wanted in _by_folder(patterns).items():
        names = [_plain(pattern) for pattern in dict.fromkeys(wanted)]
        if len(names) <= _FETCHED_ALONE and all(names):
            found |= {name: [name] for name in names}
        else:
            found[folder] = wanted
    return found


def _before(path: str, patterns: Iterable[str]) -> str:
    """What stands before the names in the archive of a path: the folder itself, or that of the one file."""
    return path.rpartition("/")[0] if path and path in map(_plain, patterns) else path


def _plain(pattern: str) -> str:
    """The one file that a pattern names; empty when it may be several."""
    return "" if any(c in pattern for c in "*?[") else pattern.removeprefix("./")


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
    files = max(min(max(limits.files, 0) * 100 + 10_000, _MOST_READ), limits.files)
    return replace(limits, files=files, total_size=max(limits.total_size, 1 << 30) * 4)


def _which_limit(limits: Limits, left: Limits, count: int, size: int, item: int) -> str:
    """Which of the limits an entry of ``item`` bytes exceeds; ``left`` is what other folders left of them."""
    if item > limits.file_size:
        return f"{item} bytes are more than one file may have ({limits.file_size}, storage.limits.file_size)"
    if count >= left.files:
        return f"there are more than {limits.files} files, storage.limits.files"
    kept = limits.total_size - left.total_size + size
    return (
        f"with its {item} bytes the {kept} kept would be more than all files together may have"
        f" ({limits.total_size}, storage.limits.total_size)"
    )


def _few(names: Sequence[str], uncounted: int = 0) -> str:
    if not names:
        return "nothing"
    rest = len(names[_NAMED:]) + uncounted
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest else "")
