"""All pipelines at a glance: how the last run ended, what goes on, what waits and why, what is not well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.report import format_ago, label_for
from orchestrator.domain.run import Purpose, Run, RunState
from orchestrator.ports.records import Watched
from orchestrator.ports.store import Store
from orchestrator.services.occasions import schedule_key, schedule_watch, upstream_watch
from orchestrator.services.pinning import waits_until
from orchestrator.services.watches import dataset_watch, source_watch

_FORGOTTEN: Final = timedelta(days=1)
"""Trouble of what nobody has looked at for so long is not told any more: it is watched no longer."""
_WAITING: Final = (RunState.QUEUED, RunState.AWAITING_APPROVAL)


@dataclass(frozen=True, slots=True)
class PipelineView:
    """Where a pipeline stands."""

    name: str
    project: str
    last: Run | None
    """The newest train run that has ended."""
    label: str
    """Its outcome and what that means beside the one before; empty without one."""
    running: tuple[Run, ...]
    waiting: tuple[Run, ...]
    why: str
    """Why the first of them waits."""
    troubles: tuple[Watched, ...]
    next_time: datetime | None
    """When its schedules come next."""
    waits: tuple[str, ...] = ()
    """What its next runs wait for: a sentence for each dataset that is being written."""
    schedules: tuple[str, ...] = ()
    """Each as it is written, with its zone."""

    @property
    def state(self) -> str:
        """In a word or two: ``running``, ``waiting``, how its last run ended, or ``no run yet``."""
        if self.running:
            return "running"
        if self.waiting:
            return "waiting"
        return self.label or "no run yet"

    @property
    def well(self) -> bool:
        """Whether nothing needs a person: all can be watched, and the last run passed."""
        return not self.troubles and (self.last is None or self.last.state is RunState.PASSED)


@dataclass(frozen=True, slots=True)
class Overview:
    """All pipelines, and what is not well besides."""

    pipelines: tuple[PipelineView, ...]
    others: tuple[Watched, ...]
    """Trouble that belongs to none of them."""


def overview(
    store: Store,
    pipelines: Iterable[Pipeline],
    why_waits: Callable[[Run], Sequence[str]],
    next_time: Callable[[Pipeline], datetime | None],
    now: datetime,
    project: str | None = None,
    repositories: Collection[str] = (),
) -> Overview:
    """Where all pipelines stand, or those of a project. ``why_waits`` is asked once for each that waits.

    ``repositories`` are those whose pipelines, ``NAME.PIPELINE``, are known by their runs as well.
    """
    known = {pipeline.name: pipeline for pipeline in pipelines}
    last, watches = store.runs.newest_ended(), store.watches.all()
    being_written = store.watches.being_written()
    going: dict[str, list[Run]] = {}
    for run in store.runs.unfinished():
        if run.purpose is Purpose.TRAIN or run.state not in _WAITING:
            going.setdefault(run.pipeline, []).append(run)
    for name in sorted((last.keys() | going.keys()) - known.keys()):
        if name.partition(".")[0] in repositories:
            known[name] = store.runs.definition((last[name] if name in last else going[name][0]).id)
    views = [
        replace(
            _view(store, pipeline, last.get(name), going.get(name, ()), watches, why_waits, next_time),
            waits=tuple(_waits(pipeline, being_written, now)),
        )
        for name, pipeline in sorted(known.items(), key=lambda each: (each[1].project, each[0]))
        if project in (None, pipeline.project)
    ]
    told = {seen.name for view in views for seen in view.troubles}
    others = (
        () if project is not None else _troubles(seen for seen in watches.values() if seen.name not in told)
    )
    return Overview(
        tuple(views), tuple(s for s in others if s.checked_at and now - s.checked_at < _FORGOTTEN)
    )


def _view(
    store: Store,
    pipeline: Pipeline,
    last: Run | None,
    going: Sequence[Run],
    watches: Mapping[str, Watched],
    why_waits: Callable[[Run], Sequence[str]],
    next_time: Callable[[Pipeline], datetime | None],
) -> PipelineView:
    waiting = tuple(run for run in going if run.state in _WAITING)
    reasons = why_waits(waiting[0]) if waiting else ()
    return PipelineView(
        name=pipeline.name,
        project=pipeline.project,
        last=last,
        label="" if last is None else label_for(last.state, store.runs.previous_state(last)),
        running=tuple(run for run in going if run.state not in _WAITING),
        waiting=waiting,
        why=reasons[0] if reasons else "",
        troubles=_troubles(watches[name] for name in watch_names(pipeline) if name in watches),
        next_time=next_time(pipeline) if pipeline.schedules else None,
        schedules=tuple(schedule_key(schedule) for schedule in pipeline.schedules),
    )


def _waits(pipeline: Pipeline, being_written: Mapping[str, datetime], now: datetime) -> Iterator[str]:
    for dataset in pipeline.datasets:
        if (since := being_written.get(dataset.key)) is not None:
            changed = format_ago((now - since).total_seconds())
            yield f"dataset {dataset.name}: {waits_until(dataset)}; it last changed {changed}"


def watch_names(pipeline: Pipeline) -> list[str]:
    """What is looked at for a pipeline."""
    return [
        *(source_watch(pipeline.name, source.name) for source in pipeline.sources),
        *(dataset_watch(pipeline.name, dataset.name) for dataset in pipeline.datasets),
        schedule_watch(pipeline.name),
        upstream_watch(pipeline.name),
    ]


def _troubles(watches: Iterable[Watched]) -> tuple[Watched, ...]:
    return tuple(sorted((seen for seen in watches if seen.trouble), key=lambda seen: seen.name))
