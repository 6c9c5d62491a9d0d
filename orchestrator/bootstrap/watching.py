"""What is watched, and by whom, wired."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.bootstrap.repositories import repository_watches, watch_repositories, watches_besides
from orchestrator.domain.pipeline import Pipeline, SourceSpec
from orchestrator.services.occasions import OccasionServer
from orchestrator.services.watches import Looks, Watch, watches_of

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.scheduler import Watcher


def looks_of(app: Application) -> Looks:
    """Carries out looks, with backoff that is spread by chance."""
    chance = random.Random().random  # noqa: S311 - spreads looks, guards nothing
    return Looks(app.store, app.clock, chance, app.masker.mask_text)


def occasions_of(app: Application) -> OccasionServer:
    """Serves schedules and upstream runs."""
    from orchestrator.adapters.timetable import CronTimetable

    return OccasionServer(app.store, CronTimetable(), app.detector, app.clock)


def watches_for(app: Application, pipeline: Pipeline) -> list[Watch]:
    """All that is looked at for a pipeline."""
    looks = watches_of(pipeline, app.detector, lambda source: _quota(app, source))
    return [*looks, *app.occasions.watches_of(pipeline)]


def watches_of_all(app: Application) -> list[Watch]:
    """All that is looked at, as people see it."""
    besides = watches_besides(app, partial(watches_for, app))
    return [*_written(app), *repository_watches(app), *besides]


def _written(app: Application) -> list[Watch]:
    """What is looked at for the pipelines that the administrator wrote."""
    return [watch for name in app.config.pipelines for watch in watches_for(app, app.pipelines[name])]


def watcher_of(app: Application, woken: Callable[[], None]) -> Watcher:
    """Looks at everything that the pipelines of the configuration watch; not started yet."""
    from orchestrator.scheduler import Watcher

    watcher = Watcher(app.looks, woken)
    for watch in _written(app):
        watcher.add(watch)
    watch_repositories(app, watcher, partial(watches_for, app))
    return watcher


def _quota(app: Application, source: SourceSpec) -> str:
    quota = app.forge.quota(source) if app.forge is not None and source.github else None
    if quota is None:
        return ""
    return f"{quota.remaining:,} of {quota.limit:,} requests left until {quota.resets_at:%H:%M} UTC"
