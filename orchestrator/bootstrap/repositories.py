"""Repositories with a file of their own, wired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.bootstrap.configured import pipeline_of, source_of
from orchestrator.bootstrap.forge import forge_url
from orchestrator.config.grants import granted_to
from orchestrator.config.repository import read_repository_file
from orchestrator.domain.change import Revision
from orchestrator.domain.errors import NotFound
from orchestrator.domain.pipeline import Pipeline
from orchestrator.services.repository import Defined, RepositoryLooks, RepositoryPipelines
from orchestrator.services.watches import REPOSITORY, Sight, Watch, server_of

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application
    from orchestrator.scheduler import Watcher


class Pipelines(Mapping[str, Pipeline]):
    """Those that the administrator wrote, and those of repositories as they were seen last.

    Who asks for one of a repository by name gets it also before anybody looked; SourceError when the
    repository cannot be asked.
    """

    def __init__(
        self, written: Mapping[str, Pipeline], repositories: Callable[[], Mapping[str, RepositoryPipelines]]
    ) -> None:
        self._written = written
        self._repositories = repositories

    def __getitem__(self, name: str) -> Pipeline:
        if name in self._written:
            return self._written[name]
        repository = self._repositories().get(name.partition(".")[0])
        if repository is None:
            raise KeyError(name)
        return repository.now[name] if name in repository.now else repository.look()[0][name]

    def __iter__(self) -> Iterator[str]:
        yield from self._written
        for repository in self._repositories().values():
            yield from repository.now

    def __len__(self) -> int:
        return sum(1 for _ in self)


def known_pipelines(app: Application) -> Mapping[str, Pipeline]:
    """All pipelines for people to see: those that are written, and those of repositories as anybody saw them
    last, so that nobody needs to be asked.
    """
    found = {name: app.pipelines[name] for name in app.config.pipelines}
    for name, repository in app.repositories.items():
        found |= repository.now or app.store.watches.defined_by(name)
    return found


def defined(app: Application, pipeline: Pipeline, revision: Revision) -> Pipeline | str:
    """A pipeline as it is to run a revision, or why it does not."""
    repository = app.repositories.get(pipeline.name.partition(".")[0])
    if repository is None or pipeline.name in app.config.pipelines:
        return pipeline
    return repository.define(pipeline.name, revision)


def repositories_of(app: Application) -> Mapping[str, RepositoryPipelines]:
    """The repositories of the configuration by name."""
    return {name: _repository(app, name) for name in app.config.orchestrator.repositories}


def _repository(app: Application, name: str) -> RepositoryPipelines:
    main = app.config.orchestrator
    granted = granted_to(main, name, app.config.pipelines)

    def read(raw: bytes) -> Defined:
        file = read_repository_file(raw, granted)
        pipelines = {key: pipeline_of(app.config, model) for key, model in file.pipelines.items()}
        return Defined(pipelines, tuple(str(problem) for problem in file.errors))

    repository = main.repositories[name]
    source = source_of(repository, forge_url(app.config))
    return RepositoryPipelines(
        name,
        source,
        repository.file,
        app.sources,
        read,
        app.statuses.tell_configuration,
        repository.trusted_branches,
    )


def repository_watches(
    app: Application, changed: Callable[[str, Mapping[str, Pipeline]], None] = lambda name, pipelines: None
) -> list[Watch]:
    """The looks at repositories. ``changed`` is given each one's name and the pipelines that it has now."""
    written: dict[str, Mapping[str, Pipeline]] = {}

    def looked(name: str, pipelines: Mapping[str, Pipeline]) -> None:
        if name not in written:
            written[name] = app.store.watches.defined_by(name)
        if written[name] != pipelines:
            app.store.watches.define(name, pipelines)
            written[name] = pipelines
        changed(name, pipelines)

    return [
        Watch(
            f"{REPOSITORY}{name}",
            RepositoryLooks(repository, app.detector, partial(looked, name)).look,
            repository.source.poll,
            server_of(repository.source.location),
            source=repository.source,
        )
        for name, repository in app.repositories.items()
    ]


def watches_besides(app: Application, watches_for: Callable[[Pipeline], list[Watch]]) -> list[Watch]:
    """What a server looks at besides for the pipelines that repositories define, as they were seen last.

    Their definitions are looked up anew before anything is looked at by them.
    """
    return [
        replace(watch, look=partial(_look_anew, app, watches_for, name, watch.name))
        for name, pipeline in known_pipelines(app).items()
        if name not in app.config.pipelines
        for watch in watches_for(pipeline)
        if watch.source is None
    ]


def _look_anew(
    app: Application, watches_for: Callable[[Pipeline], list[Watch]], pipeline: str, name: str
) -> Sight:
    watches = watches_for(app.pipelines[pipeline]) if pipeline in app.pipelines else []
    for watch in watches:
        if watch.name == name:
            return watch.look()
    raise NotFound(f"{name} is not watched any more", "`orchestrator sources list` shows what is")


def watch_repositories(
    app: Application, watcher: Watcher, watches_for: Callable[[Pipeline], list[Watch]]
) -> None:
    """Look at repositories, and at what their pipelines watch besides."""
    watched: defaultdict[str, dict[str, tuple[Pipeline, list[str]]]] = defaultdict(dict)

    def changed(name: str, pipelines: Mapping[str, Pipeline]) -> None:
        _watch_besides(watcher, watches_for, watched[name], pipelines)

    for watch in repository_watches(app, changed):
        watcher.add(watch)


def _watch_besides(
    watcher: Watcher,
    watches_for: Callable[[Pipeline], list[Watch]],
    watched: dict[str, tuple[Pipeline, list[str]]],
    pipelines: Mapping[str, Pipeline],
) -> None:
    """Watch the data, schedules and upstreams of the pipelines that there are now, and of no others."""
    for name in sorted(watched.keys() - pipelines.keys()):
        for before in watched.pop(name)[1]:
            watcher.remove(before)
    for name, pipeline in pipelines.items():
        if name in watched and watched[name][0] == pipeline:
            continue
        for before in watched[name][1] if name in watched else ():
            watcher.remove(before)
        added = [watch for watch in watches_for(pipeline) if watch.source is None]
        for watch in added:
            watcher.add(watch)
        watched[name] = pipeline, [watch.name for watch in added]
