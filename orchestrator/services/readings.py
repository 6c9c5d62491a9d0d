"""Reading what was kept of an attempt: files of known formats, declared ones, and the program's output."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from orchestrator.domain.collected import Plot, Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.globs import matcher, matches
from orchestrator.domain.pipeline import CollectSpec, Limits, Pipeline
from orchestrator.domain.run import Reason
from orchestrator.ports.collecting import Collectors, LeftFile
from orchestrator.ports.records import StoredArtifact
from orchestrator.ports.world import BlobStore, TooLarge
from orchestrator.services.collected import Collected, few
from orchestrator.services.findings import Found, put_together

Printed = Callable[[], Iterable[bytes]]
"""The lines of a program's output, anew at each call."""
PRINTED = "output"
"""What stands for the program's output where a file is named."""
_LOG_READ = 512 << 20
"""Bytes of the output that are searched for numbers."""


class Reader:
    """Finds out what kept files say."""

    def __init__(self, blobs: BlobStore, collectors: Collectors) -> None:
        self._blobs = blobs
        self._collectors = collectors

    def read(self, pipeline: Pipeline, found: Collected, printed: Printed, left: Limits) -> None:
        """Read all that is in ``found.artifacts``, and add what it says, or what is wrong with it.

        ``printed`` is read where the pipeline declares it, or a metric that it needs is in no file. ``left``
        is what else may be kept.
        """
        files = self.files_of(found)
        readings = [*self._as_declared(pipeline, files, found), *self._by_format(pipeline, files, found)]
        needed = required_metrics(pipeline)
        there = {metric.name for each in readings for metric in each.reading.metrics}
        missing = [name for name in needed if name not in there]
        readings += self._of_output(pipeline, missing, printed, found)
        findings = put_together(readings, needed, pipeline.limits)
        found.metrics, found.series, found.params = findings.metrics, findings.series, findings.params
        found.plots = self._kept_plots(findings.plots, left, found)
        for warning in findings.warnings:
            found.warn(warning)
        for what, why in findings.left_out:
            found.leave_out(what, why)
        sources = {metric.source for metric in found.metrics} | {param.source for param in found.params}
        sources |= {each.facts.source for each in found.series}
        declared = matcher(pipeline.collect)
        found.artifacts = [
            replace(artifact, kind="metrics")
            if artifact.kind == "artifact" and (artifact.path in sources or declared(artifact.path))
            else artifact
            for artifact in found.artifacts
        ]
        _judge(pipeline, found, findings.conflict)

    def files_of(self, found: Collected) -> dict[str, LeftFile]:
        """What may be read."""
        return {
            artifact.path: LeftFile(artifact.path, artifact.size, partial(self._blobs.open, artifact.sha256))
            for artifact in found.artifacts
            if artifact.path not in found.stale
        }

    def _as_declared(
        self, pipeline: Pipeline, files: Mapping[str, LeftFile], found: Collected
    ) -> Iterator[Found]:
        """What is in files of which the pipeline says how they are read."""
        for spec in pipeline.readings:
            for path in sorted(files) if spec.file else ():
                if not matches(path, (spec.file,)):
                    continue
                if spec.expression:
                    read = partial(self._collectors.search, files[path], spec.expression)
                else:
                    read = partial(self._collectors.read_as, files[path], spec.format)
                found.read.add(path)
                yield from _tried(read, True, found)

    def _by_format(
        self, pipeline: Pipeline, files: Mapping[str, LeftFile], found: Collected
    ) -> Iterator[Found]:
        """What is in files that are of a known format by their name and place."""
        otherwise = matcher([spec.file for spec in pipeline.readings if spec.file])
        declared = matcher(pipeline.collect)
        named = set(self.named(files.values()))
        paths = [path for path in sorted(files) if not otherwise(path)]
        claimed: set[str] = set()
        for claim in self._collectors.claims(paths, lambda path: path in named or declared(path)):
            claimed.update(claim.paths)
            yield from _tried(
                partial(self._collectors.read, claim, files), any(map(declared, claim.paths)), found
            )
        found.read |= claimed
        for path in paths:
            if declared(path) and path not in claimed:
                found.read.add(path)
                found.warn(f"{path}: no reader knows this format; it is kept as a file")

    def named(self, files: Iterable[LeftFile]) -> Iterator[str]:
        """The files of metrics that files themselves declare. One that cannot be read declares none."""
        for file in files:
            try:
                yield from self._collectors.named_by(file)
            except InvalidInput:
                continue

    def _of_output(
        self, pipeline: Pipeline, missing: Collection[str], printed: Printed, found: Collected
    ) -> Iterator[Found]:
        declared = [spec for spec in pipeline.readings if not spec.file]
        for spec in declared:
            read = partial(self._collectors.printed, _bounded(printed(), found), missing, spec.expression)
            for each in _tried(read, True, found):
                if not each.reading.metrics:
                    found.problem = found.problem or (Reason.MISSING_METRICS, _nothing_printed(spec))
                yield Found(True, _named(each.reading))
        if missing and not declared:
            read = partial(self._collectors.printed, _bounded(printed(), found), missing)
            for each in _tried(read, False, found):
                yield Found(False, _named(_only(each.reading, missing)))

    def _kept_plots(self, plots: Iterable[Plot], left: Limits, found: Collected) -> list[Plot]:
        """Plots whose picture is kept, that which was embedded in another file as one of its own."""
        kept: list[Plot] = []
        there = {artifact.path for artifact in found.artifacts}
        size = 0
        for plot in plots:
            if plot.content:
                if size + len(plot.content) > left.total_size or plot.path in there:
                    found.leave_out(plot.path, "it does not fit into what all files together may have")
                    continue
                try:
                    blob = self._blobs.put(io.BytesIO(plot.content), left.file_size)
                except TooLarge:
                    found.leave_out(plot.path, f"larger than {left.file_size} bytes")
                    continue
                size += blob.size
                found.artifacts.append(StoredArtifact(plot.path, blob.size, blob.sha256, "plot"))
            elif plot.path not in there:
                continue
            kept.append(replace(plot, content=b""))
        return kept


def required_metrics(pipeline: Pipeline) -> list[str]:
    """The metrics that a run must leave: those declared and those that a check judges, in that order."""
    judged = [check.metric for check in pipeline.gate.checks]
    return list(dict.fromkeys([*(metric.name for metric in pipeline.metrics), *judged]))


def _tried(read: Callable[[], Reading], declared: bool, found: Collected) -> Iterator[Found]:
    """What a reader finds; what is wrong with a declared file is noted, and with another one is a warning."""
    try:
        yield Found(declared, read())
    except InvalidInput as error:
        if declared:
            found.invalid.append(str(error))
        else:
            found.warn(str(error))


def _bounded(lines: Iterable[bytes], found: Collected) -> Iterator[bytes]:
    left = _LOG_READ
    for line in lines:
        left -= len(line)
        if left < 0:
            found.warn(f"of the output only the first {_LOG_READ >> 20} MiB were searched for metrics")
            return
        yield line


def _named(reading: Reading) -> Reading:
    """With the output as the source of all, where its reader names none."""
    return replace(
        reading,
        metrics=tuple(replace(m, source=m.source or PRINTED) for m in reading.metrics),
        series=tuple(replace(s, source=s.source or PRINTED) for s in reading.series),
        params=tuple(replace(p, source=p.source or PRINTED) for p in reading.params),
        warnings=tuple(f"{PRINTED}: {warning}" for warning in reading.warnings),
    )


def _only(reading: Reading, names: Collection[str]) -> Reading:
    """What is said of these metrics: a log is full of other numbers."""
    return Reading(
        tuple(metric for metric in reading.metrics if metric.name in names),
        tuple(series for series in reading.series if series.name in names),
    )


def _nothing_printed(spec: CollectSpec) -> str:
    if spec.expression:
        return f"no line of the output fits the declared pattern {spec.expression}"
    return "the output was declared to hold metrics, and no line of it is a JSON object with numbers"


def _judge(pipeline: Pipeline, found: Collected, conflict: str) -> None:
    """Say what is wrong with the metrics that were read, and which lack."""
    found.metrics.sort(key=lambda metric: metric.source)
    unread_names = sorted(found.unread.keys() - found.read)
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
            there = few(found.seen, found.seen_more)
            message = (
                f"{pattern} was declared and is neither in the working folder nor in $MLCI_OUTPUT_DIR,"
                f" which holds: {there}"
            )
        found.problem = found.problem or (Reason.MISSING_METRICS, message)
    for wrong in (*found.invalid, *([conflict] if conflict else [])):
        found.problem = found.problem or (Reason.INVALID_METRICS, wrong)
    names = {metric.name for metric in found.metrics}
    missing = [name for name in required_metrics(pipeline) if name not in names]
    if missing and found.problem is None:
        have = f"; the metrics are: {few(sorted(names))}" if names else "; no metrics were found"
        found.problem = (
            Reason.MISSING_METRICS,
            f"metric {', '.join(missing)} was declared and is not there{have}",
        )
