"""The user's own benchmark: a command that computes metrics from a run's artifacts, in its own container.

It gets the code at the commit, the data and the artifacts as they are kept, and neither a network nor
secrets. What it leaves is collected like a training's; where both give a metric, the benchmark's counts.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from orchestrator.domain.errors import ContainerGone
from orchestrator.domain.pipeline import Benchmark, MetricSpec, Pipeline
from orchestrator.domain.run import Attempt, Exit, Reason, Run
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine, Interrupt, LogLine
from orchestrator.ports.gpus import GpuAccess
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.records import StoredArtifact
from orchestrator.ports.world import BlobStore, Clock
from orchestrator.services import naming
from orchestrator.services.archive import EMPTY_SINCE
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.collect import Collected, OutputCollector
from orchestrator.services.gpus import Gpus
from orchestrator.services.prepare import Preparer, environment

FOLDER = "benchmark"
"""What stands before the paths of the files that it leaves."""
_SOON = 0.05
_POLL = 1.0
_LAST_LINES = 5


def for_training(pipeline: Pipeline) -> Pipeline:
    """The pipeline as the training's own outputs are held against: without what the benchmark will leave."""
    if pipeline.benchmark is None:
        return pipeline
    theirs = set(pipeline.benchmark.metrics)
    checks = tuple(check for check in pipeline.gate.checks if check.metric not in theirs)
    metrics = tuple(spec for spec in pipeline.metrics if spec.name not in theirs)
    return replace(pipeline, metrics=metrics, gate=replace(pipeline.gate, checks=checks))


class Benchmarks:
    """Runs benchmarks. Thread-safe. What a kill interrupts is done again from its beginning."""

    def __init__(
        self,
        preparer: Preparer,
        outputs: OutputCollector,
        blobs: BlobStore,
        gpus: Gpus,
        clock: Clock,
        scratch: Path,
    ) -> None:
        self._preparer = preparer
        self._outputs = outputs
        self._blobs = blobs
        self._gpus = gpus
        self._clock = clock
        self._scratch = scratch

    def score(
        self,
        engine: Engine,
        run: Run,
        pipeline: Pipeline,
        attempt: Attempt,
        benchmark: Benchmark,
        collected: Collected,
        tell: Callable[[LogLine], None],
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> Collected:
        """What training and benchmark left together. ``tell`` gets the lines that the benchmark prints.

        A benchmark that fails, takes too long or lacks a metric is the ``problem`` of what is returned.
        Raises what the engine raises, and what ``interrupt`` does.
        """
        progress(ProgressEvent("running the benchmark"))
        name = naming.benchmark_name(attempt.container)
        engine.remove(name)
        with cleaned_up(partial(engine.remove, name)):
            access = self._gpus.access(engine, attempt.host or "", attempt, pipeline.runner.resources)
            self._prepare(
                engine, name, run, pipeline, attempt, benchmark, collected, access, interrupt, progress
            )
            engine.start(name)
            ended = self._until_ended(engine, name, benchmark.timeout, interrupt)
            last = _heard(engine, name, tell)
            if ended is None:
                why = f"the benchmark was stopped after {benchmark.timeout:.0f} s, its timeout"
                return _failed(collected, why)
            if ended.code != 0 or ended.error:
                how = ended.error or f"ended with exit code {ended.code}"
                return _failed(collected, "\n".join((f"the benchmark {how}", *last)))
            scored = self._outputs.collect(engine, name, _for_benchmark(pipeline, benchmark))
        return _together(collected, scored)

    def _prepare(
        self,
        engine: Engine,
        name: str,
        run: Run,
        pipeline: Pipeline,
        attempt: Attempt,
        benchmark: Benchmark,
        collected: Collected,
        access: GpuAccess | None,
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> None:
        folders, volumes = self._preparer.data(engine, attempt.host or "", run, pipeline, interrupt, progress)
        runner = pipeline.runner
        spec = ContainerSpec(
            name=name,
            image=attempt.image_digest,
            command=benchmark.command,
            labels=naming.labels_of(attempt, naming.BENCHMARK),
            env={
                **environment(run, pipeline, attempt),
                "MLCI_ARTIFACTS": naming.ARTIFACTS,
            },
            user=f"{runner.uid}:{runner.gid}",
            workdir=naming.WORKSPACE,
            resources=runner.resources,
            network=None,
            mounts=volumes,
            folders=folders,
            gpus=access,
        )
        engine.create(spec)
        with self._preparer.code(run, pipeline) as tar:
            engine.put(name, "/", tar)
        with self._packed(collected.artifacts, runner.uid, runner.gid) as tar:
            engine.put(name, "/", tar)

    def _packed(self, artifacts: Sequence[StoredArtifact], uid: int, gid: int) -> BinaryIO:
        """A tar with the artifacts that were kept, to be unpacked at the root."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        spool = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - the caller closes it
        with tarfile.open(fileobj=spool, mode="w:", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(_entry(naming.ARTIFACTS, uid, gid, tarfile.DIRTYPE, 0o755))
            for artifact in artifacts:
                entry = _entry(f"{naming.ARTIFACTS}/{artifact.path}", uid, gid, tarfile.REGTYPE, 0o444)
                entry.size = artifact.size
                with closing(self._blobs.open(artifact.sha256)) as content:
                    tar.addfile(entry, content)
        spool.seek(0)
        return spool

    def _until_ended(self, engine: Engine, name: str, timeout: float, interrupt: Interrupt) -> Exit | None:
        """How it ended; None when it had to be stopped because its time was over."""
        pause, deadline = _SOON, self._clock.monotonic() + timeout
        while True:
            found = engine.find(name)
            if found is None:
                raise ContainerGone(f"{name} was removed while it ran")
            if found.state is ContainerState.EXITED and found.exit is not None:
                return found.exit
            interrupt()
            if self._clock.monotonic() > deadline:
                engine.stop(name, 0)
                return None
            self._clock.sleep(pause)
            pause = min(pause * 1.5, _POLL)


def _for_benchmark(pipeline: Pipeline, benchmark: Benchmark) -> Pipeline:
    declared = tuple(MetricSpec(name) for name in benchmark.metrics)
    bare = replace(pipeline.gate, checks=())
    return replace(
        pipeline, collect=(), readings=(), metrics=declared, artifacts=(), gate=bare, benchmark=None
    )


def _entry(path: str, uid: int, gid: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type, entry.mode, entry.uid, entry.gid = kind, mode, uid, gid
    entry.mtime = int(EMPTY_SINCE.timestamp())
    return entry


def _heard(engine: Engine, name: str, tell: Callable[[LogLine], None]) -> list[str]:
    """Pass on what it printed; its last lines."""
    last: list[str] = []
    with closing(engine.logs(name, None)) as stream:
        for line in stream:
            tell(line)
            last = [*last, line.text.decode(errors="replace")][-_LAST_LINES:]
    return last


def _failed(collected: Collected, why: str) -> Collected:
    collected.problem = collected.problem or (Reason.BENCHMARK, why)
    return collected


def _together(collected: Collected, scored: Collected) -> Collected:
    """The training's with the benchmark's. A metric that both give is the benchmark's."""
    if scored.problem is not None:
        return _failed(collected, f"the benchmark: {scored.problem[1]}")
    names = {metric.name for metric in scored.metrics}
    hidden = sorted({metric.name for metric in collected.metrics} & names)
    if hidden:
        collected.warnings.append(f"the benchmark's {', '.join(hidden)} counts, not what the training says")
    collected.metrics = [m for m in collected.metrics if m.name not in names]
    collected.metrics += [replace(m, source=f"{FOLDER}/{m.source}") for m in scored.metrics]
    curves = {each.facts.name for each in scored.series}
    collected.series = [each for each in collected.series if each.facts.name not in curves]
    collected.series += [
        replace(each, facts=replace(each.facts, source=f"{FOLDER}/{each.facts.source}"))
        for each in scored.series
    ]
    told = {param.name for param in scored.params}
    collected.params = [param for param in collected.params if param.name not in told]
    collected.params += [replace(p, source=f"{FOLDER}/{p.source}") for p in scored.params]
    collected.plots += [replace(p, path=f"{FOLDER}/{p.path}") for p in scored.plots]
    theirs = {f"{FOLDER}/{artifact.path}" for artifact in scored.artifacts}
    for path in sorted({artifact.path for artifact in collected.artifacts} & theirs):
        collected.leave_out(path, "the benchmark left a file of that name")
    collected.artifacts = [artifact for artifact in collected.artifacts if artifact.path not in theirs]
    collected.artifacts += [replace(a, path=f"{FOLDER}/{a.path}") for a in scored.artifacts]
    collected.warnings += [f"benchmark: {warning}" for warning in scored.warnings]
    collected.left_out += [f"{FOLDER}/{entry}" for entry in scored.left_out]
    return collected
