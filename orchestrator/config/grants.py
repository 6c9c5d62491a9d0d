"""What the administrator says of repositories with a file of their own, and of what they may use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from orchestrator.config.deploy_places import deploys_of, holder_of, servers_of
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.models.repository import Grant, Repository
from orchestrator.config.problems import Problem, any_of, closest
from orchestrator.config.references import Stored, keys_at
from orchestrator.config.repository import Granted
from orchestrator.config.yaml_loader import Document

NOTHING = Grant()


def granted_to(main: OrchestratorFile, name: str, pipelines: Mapping[str, PipelineFile]) -> Granted:
    """What the repository of that name may use."""
    repository = main.repositories[name]
    grants = [main.grants[key] for key in _keys_of(name, repository) if key in main.grants]
    servers = {
        server
        for pipeline in pipelines.values()
        for _, _, deploy in deploys_of(pipeline)
        for server in servers_of(deploy, main.environments)
    }
    return Granted(
        name,
        repository,
        grants[0] if grants else NOTHING,
        main.datasets,
        main.email is not None,
        frozenset(servers),
        main.environments,
    )


def check_grants(
    main: OrchestratorFile,
    document: Document,
    runners: Collection[str],
    pipelines: Collection[str],
    stored: Callable[[], Stored],
) -> Iterator[Problem]:
    """Grants to nobody or of what is not there, and names that two things would share."""
    known = {
        key: name for name, repository in main.repositories.items() for key in _keys_of(name, repository)
    }
    first: dict[str, str] = {}
    for key, grant in main.grants.items():
        place = ("grants", key)
        if key not in known:
            position = document.key_position(place)
            message = f'no repository under repositories: is "{key}"'
            expected = any_of(sorted(known)) if known else "repositories: {NAME: {github: OWNER/NAME}}"
            yield Problem(document.file, position, message, expected, closest(key, known))
        elif known[key] in first:
            position = document.key_position(place)
            message = f'"{key}" and "{first[known[key]]}" are grants to the same repository'
            yield Problem(document.file, position, message, "one grant each")
        else:
            first[known[key]] = key
        things: tuple[tuple[str, Collection[str], Collection[str]], ...] = (
            ("runner", grant.runners, runners),
            ("dataset", grant.datasets, main.datasets),
            ("server", grant.servers, main.servers),
            ("environment", grant.environments, keys_at(document.data, "environments")),
        )
        for what, names, there in things:
            for index, name in enumerate(names):
                if name not in there:
                    yield _unknown(document, (*place, f"{what}s", index), what, name, there)
        yield from _round_environments(main, document, key)
        for index, name in enumerate(grant.secrets):
            if name in main.secrets:
                continue
            names_stored = stored()
            if names_stored.names is None:
                yield from names_stored.unchecked(document, (*place, "secrets", index), name)
            elif name not in names_stored.names:
                every = sorted({*main.secrets, *names_stored.names})
                yield _unknown(document, (*place, "secrets", index), "secret", name, every)
    yield from _clashes(main, document, pipelines)


def _round_environments(main: OrchestratorFile, document: Document, key: str) -> Iterator[Problem]:
    """Servers that are granted alone although an environment has them."""
    for index, name in enumerate(main.grants[key].servers):
        if holder := holder_of(name, main.environments):
            message = f'"{name}" is a server of the environment "{holder}", whose rules would not hold'
            path = ("grants", key, "servers", index)
            yield document.problem(path, message, f"environments: [{holder}]")


def _clashes(main: OrchestratorFile, document: Document, pipelines: Collection[str]) -> Iterator[Problem]:
    """Pipelines of a repository are called NAME.PIPELINE, and nothing else may be called so."""
    for name in main.repositories:
        place = ("repositories", name)
        if "." in name:
            message = "a dot in it would make it look like a pipeline of another repository"
            yield Problem(document.file, document.key_position(place), message, "a name without a dot")
        for pipeline in sorted(pipelines):
            if pipeline.startswith(f"{name}."):
                message = f'the pipeline "{pipeline}" is called as one of this repository would be'
                yield Problem(
                    document.file, document.key_position(place), message, "another name for one of them"
                )


def _keys_of(name: str, repository: Repository) -> tuple[str, ...]:
    return tuple(key for key in (name, repository.github, repository.git) if key)


def _unknown(
    document: Document, path: tuple[str | int, ...], what: str, name: str, known: Collection[str]
) -> Problem:
    expected = any_of(sorted(known)) if known else f"a {what} that there is"
    return document.problem(path, f'there is no {what} "{name}"', expected, closest(name, known))
