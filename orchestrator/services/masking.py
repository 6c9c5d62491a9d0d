"""An attempt's secrets, which must show neither in its log nor in any other text that it leaves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.domain.collected import Plot
from orchestrator.domain.curves import KeptSeries
from orchestrator.domain.errors import SecretMissing
from orchestrator.domain.metrics import Metric
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Exit
from orchestrator.observe import LogMask, Masker
from orchestrator.ports.records import AttemptResult, StoredArtifact
from orchestrator.ports.world import Secrets
from orchestrator.services.collect import Collected, required_metrics

log = logging.getLogger(__name__)

Mask = Callable[[bytes], bytes]
"""Blanks secret values in a text."""

_HIDDEN = "***"


class AttemptMask:
    """The mask of one attempt's secrets; there is none while the value of one of them cannot be read.

    Any thread may ask. Values once read count for as long as the worker lives, whatever becomes of them
    where they are kept: the container has these. So do those that the container asks to mask by its log.
    """

    def __init__(self, secrets: Secrets, names: tuple[str, ...]) -> None:
        self._secrets = secrets
        self._names = names
        self._lock = threading.Lock()
        self._masker: Masker | None = None
        self._log: LogMask | None = None
        self.missing = ""
        """Why there is no mask; empty once there is one."""

    def learn(self, values: Mapping[str, str]) -> None:
        """Mask the values that the container is given."""
        with self._lock:
            self._set(values)

    def find(self) -> Mask | None:
        """The mask, or None: then nothing that the attempt says may be kept."""
        found = self._find()
        return None if found is None else found[0].mask_bytes

    def find_for_log(self) -> LogMask | None:
        """The mask of the attempt's log, or None: then none of it may be kept. For one thread at a time."""
        found = self._find()
        return None if found is None else found[1]

    def _find(self) -> tuple[Masker, LogMask] | None:
        with self._lock:
            if self._masker is None or self._log is None:
                try:
                    return self._set(self._secrets.resolve(self._names))
                except SecretMissing as error:
                    if self.missing != str(error):
                        log.warning("an attempt's words cannot be masked: %s", error)
                    self.missing = str(error)
                    return None
            return self._masker, self._log

    def _set(self, values: Mapping[str, str]) -> tuple[Masker, LogMask]:
        if self._masker is None or self._log is None:
            self._masker = Masker()
            self._log = LogMask(self._masker)
        self._masker.add(*values.values())
        self.missing = ""
        return self._masker, self._log


def masked(result: AttemptResult, mask: Mask) -> AttemptResult:
    """The result without secrets in its texts. The name of a metric in which there is one is hidden whole."""

    def text(value: str) -> str:
        return mask(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    metrics: list[Metric] = []
    hidden = False
    for metric in result.metrics:
        if text(metric.name) == metric.name:
            metrics.append(replace(metric, source=text(metric.source)))
        elif not hidden:
            hidden = True
            metrics.append(replace(metric, name=_HIDDEN, source=text(metric.source)))
    artifacts: dict[tuple[str, str], StoredArtifact] = {}
    left_out = list(result.left_out)
    for artifact in result.artifacts:
        path = text(artifact.path)
        if (artifact.kind, path) in artifacts:
            left_out.append(f"{path}: without its secrets its name is another file's")
        else:
            artifacts[artifact.kind, path] = replace(artifact, path=path)
    series: dict[str, KeptSeries] = {}
    for each in result.series:
        name, source = text(each.facts.name), text(each.facts.source)
        if name == each.facts.name:
            facts = replace(each.facts, source=source)
            series[name] = KeptSeries(facts, replace(each.series, source=source))
    params = {
        text(p.name): replace(p, name=text(p.name), text=text(p.text), source=text(p.source))
        for p in result.params
    }
    return replace(
        result,
        message=text(result.message),
        exit=None if result.exit is None else replace(result.exit, error=text(result.exit.error)),
        metrics=tuple(metrics),
        artifacts=tuple(artifacts.values()),
        warnings=tuple(map(text, result.warnings)),
        left_out=tuple(map(text, left_out)),
        series=tuple(series.values()),
        params=tuple(params.values()),
        plots=tuple(_masked_plot(plot, text) for plot in result.plots),
    )


def _masked_plot(plot: Plot, text: Callable[[str], str]) -> Plot:
    hints = {text(name): text(value) for name, value in plot.hints.items()}
    return replace(plot, path=text(plot.path), title=text(plot.title), hints=hints, source=text(plot.source))


def withheld(ended: Exit, collected: Collected, pipeline: Pipeline, why: str) -> tuple[Exit, Collected]:
    """What may be kept of a container's end and outputs when nothing can be masked.

    That is what the pipeline itself named: every other name is one that the training chose.
    """
    names = set(required_metrics(pipeline))
    files = {"metrics.json", *pipeline.collect, *pipeline.artifacts}
    artifacts = [artifact for artifact in collected.artifacts if artifact.path in files]
    dropped = len(collected.artifacts) - len(artifacts) + len(collected.left_out)
    kept = Collected(
        metrics=[m for m in collected.metrics if m.name in names and m.source in files],
        series=[s for s in collected.series if s.facts.name in names and s.facts.source in files],
        artifacts=artifacts,
        warnings=[f"only what the pipeline itself names was kept, for nothing else can be masked: {why}"],
        left_out=[f"{dropped} files: their names cannot be masked"] if dropped else [],
    )
    if collected.problem is not None:
        kept.problem = (collected.problem[0], "the metrics are not usable; why cannot be masked")
    return replace(ended, error="cannot be masked" if ended.error else ""), kept
