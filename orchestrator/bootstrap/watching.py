"""What is watched, and by whom, wired."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.services.occasions import OccasionServer
from orchestrator.services.watches import Looks, Watch, watches_of

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.scheduler import Watcher


def looks_of(app: Application) -> Looks:
    """Carries out looks, with backoff that is spread by chance."""
    return Looks(app.store, app.clock, random.Random().random)  # noqa: S311 - spreads looks, guards nothing


def occasions_of(app: Application) -> OccasionServer:
    """Serves schedules and upstream runs."""
    from orchestrator.adapters.timetable import CronTimetable

    return OccasionServer(app.store, CronTimetable(), app.detector, app.clock)


def watches_for(app: Application, pipeline: Pipeline) -> list[Watch]:
    """All that is looked at for a pipeline."""
    return [*watches_of(pipeline, app.detector, _note), *app.occasions.watches_of(pipeline)]


def watcher_of(app: Application, woken: Callable[[], None]) -> Watcher:
    """Looks at everything that the pipelines of the configuration watch; not started yet."""
    from orchestrator.scheduler import Watcher

    watcher = Watcher(app.looks, woken)
    for pipeline in app.pipelines.values():
        for watch in watches_for(app, pipeline):
            watcher.add(watch)
    return watcher


def _note(source: SourceSpec) -> str:
    return ""
