"""Read a configuration folder: everything in it as frozen models, or everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Final, Generic, TypeVar

from orchestrator.config.data_places import check_data_places
from orchestrator.config.database import holds_password
from orchestrator.config.deploy_places import check_order, check_shared
from orchestrator.config.grants import check_grants
from orchestrator.config.interpolation import Reference, Text
from orchestrator.config.models.actions import EmailAction
from orchestrator.config.models.common import Context, Model, is_loopback
from orchestrator.config.models.dataset import Dataset
from orchestrator.config.models.email import Email
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.models.runner import RunnerFile
from orchestrator.config.private_keys import has_passphrase, passphrase_remedy, passphrase_told
from orchestrator.config.problems import Position, Problem, any_of, closest, in_reading_order
from orchestrator.config.references import PLACES, Known, Stored, at, check_pipeline, check_runner, keys_at
from orchestrator.config.secret_sources import check_literals, check_secrets, check_sources
from orchestrator.config.upstreams import check_upstreams
from orchestrator.config.validation import validate
from orchestrator.config.yaml_loader import MAX_BYTES, Document, read

MAIN_FILE: Final = "orchestrator.yaml"
FOLDERS: Final = ("runners", "pipelines")
DATABASE_VARIABLE: Final = "ORCHESTRATOR_DATABASE"
"""Names a database in place of `storage.database`."""
_SUFFIXES: Final = (".yaml", ".yml")

M = TypeVar("M", bound=Model)
StoredSecrets = Callable[[OrchestratorFile, Path], Stored]
"""Tells which secrets the encrypted store of a configuration holds; the path is the configuration folder."""


@dataclass(frozen=True)
class Configuration:
    """A valid configuration. `base` is its folder, absolute; `files` tells where each pipeline is written."""

    base: Path
    orchestrator: OrchestratorFile
    runners: Mapping[str, RunnerFile]
    pipelines: Mapping[str, PipelineFile]
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadResult:
    """`configuration` is None if and only if there are errors. Warnings may stand beside a configuration."""

    configuration: Configuration | None
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "warning")


@dataclass
class _File(Generic[M]):
    path: Path
    document: Document | None = None
    model: M | None = None
    problems: list[Problem] = field(default_factory=list)


def load(
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    check_paths: bool = True,
    check_references: bool = True,
    stored: StoredSecrets | None = None,
) -> LoadResult:
    """Read the configuration in `folder`. Relative paths count from it.

    `environ` defaults to the process's environment. `check_paths` asks whether local repositories, datasets,
    build folders and key files exist; `check_references` whether the variables and files of secrets do.
    """
    if (problem := _folder_problem(folder)) is not None:
        return LoadResult(None, (problem,))
    base = folder.absolute()
    context = Context(base, os.environ if environ is None else environ, check_paths, check_references)
    main = _read(folder / MAIN_FILE, OrchestratorFile, context)
    runners = [_read(path, RunnerFile, context) for path in _files(folder / "runners")]
    pipelines = [_read(path, PipelineFile, context) for path in _files(folder / "pipelines")]
    problems = list(main.problems)
    for runner in runners:
        problems += runner.problems
    for pipeline in pipelines:
        problems += pipeline.problems
    problems += _strays(folder)
    problems += _duplicates(runners, "runner")
    problems += _duplicates(pipelines, "pipeline")
    look = partial(_look, main, base, context.environ, stored)
    known = _known(main, runners, cache(look))
    for runner in runners:
        if runner.document is not None:
            problems += check_runner(runner.document, known)
    for pipeline in pipelines:
        if pipeline.document is not None:
            problems += check_pipeline(pipeline.document, known)
    problems += check_upstreams(
        [file.document for file in pipelines if file.document is not None],
        _names(pipelines, "pipeline"),
        keys_at(main.document.data, "repositories") if main.document is not None else frozenset(),
    )
    problems += _state_in_datasets(main, pipelines)
    problems += _deploy_places(main, pipelines)
    problems += _retained(main, pipelines)
    problems += _warnings(main, runners)
    if main.model is not None and main.document is not None:
        problems += check_sources(main.model, main.document, context, known.stored)
        problems += check_grants(
            main.model,
            main.document,
            known.runners or (),
            _names(pipelines, "pipeline"),
            known.stored,
        )
    problems += _logins(pipelines, context, known.stored)
    problems += _unheard_errors(pipelines)
    if not pipelines and not (main.model is not None and main.model.repositories):
        message = "there is no pipeline yet, so nothing will run"
        place = folder / "pipelines"
        problems.append(
            Problem(str(place), Position(1, 1), message, "a file such as pipelines/NAME.yaml", "", "warning")
        )
    ordered = in_reading_order(problems)
    if main.model is None or any(problem.severity == "error" for problem in ordered):
        return LoadResult(None, ordered)
    configuration = Configuration(
        base,
        _with_database(main.model, context.environ),
        {file.model.runner: file.model for file in runners if file.model is not None},
        {file.model.pipeline: file.model for file in pipelines if file.model is not None},
        {file.model.pipeline: file.path for file in pipelines if file.model is not None},
    )
    return LoadResult(configuration, ordered)


def load_main(folder: Path) -> tuple[OrchestratorFile | None, tuple[Problem, ...]]:
    """orchestrator.yaml alone, or None and what is wrong with it."""
    if (problem := _folder_problem(folder)) is not None:
        return None, (problem,)
    main = _read(folder / MAIN_FILE, OrchestratorFile, Context(folder.absolute(), os.environ, True, False))
    if main.model is None:
        return None, in_reading_order(main.problems)
    return _with_database(main.model, os.environ), ()


def _with_database(main: OrchestratorFile, environ: Mapping[str, str]) -> OrchestratorFile:
    """The file, with the database that this process was told to use instead of the file's."""
    if not environ.get(DATABASE_VARIABLE):
        return main
    named = Text((Reference("env", DATABASE_VARIABLE),))
    return main.model_copy(update={"storage": main.storage.model_copy(update={"database": named})})


def _folder_problem(folder: Path) -> Problem | None:
    try:
        for place in (folder, *(folder / name for name in FOLDERS)):
            if place.is_dir():
                next(place.iterdir(), None)
        return _folder_missed(folder)
    except PermissionError as error:
        return _denied(Path(error.filename or folder))


def _denied(path: Path) -> Problem:
    """Of a file or folder that this process may not look at."""
    may = "chmod -R go+rX on the configuration folder gives it to all"
    return Problem(
        str(path),
        Position(1, 1),
        f"uid {os.geteuid()} may not read this",
        f"the right to: {may} (with docker-compose, on the folder that MLCI_CONFIG names)",
    )


def _folder_missed(folder: Path) -> Problem | None:
    remedy = f"a configuration folder; `orchestrator init {folder}` makes one"
    start = Position(1, 1)
    if not folder.exists():
        return Problem(str(folder), start, "the configuration folder does not exist", remedy)
    if not folder.is_dir():
        around = folder.parent.parent if folder.parent.name in FOLDERS else folder.parent
        return Problem(str(folder), start, "this is a file", "the configuration folder", str(around))
    if not (folder / MAIN_FILE).is_file():
        near = (folder / "config", folder.parent)
        suggestion = next((str(place) for place in near if (place / MAIN_FILE).is_file()), "")
        message = f"there is no {MAIN_FILE} in this folder"
        return Problem(str(folder), start, message, remedy, suggestion)
    return None


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")
    )


def _strays(folder: Path) -> Iterator[Problem]:
    """YAML files and folders that nobody reads, because they stand in the wrong place."""
    for path in sorted(folder.iterdir()):
        start, name = Position(1, 1), path.name
        if path.is_dir() and name not in FOLDERS and (meant := closest(name, FOLDERS)):
            yield Problem(str(path), start, "this folder is not read", any_of(FOLDERS), meant, "warning")
        if path.suffix in _SUFFIXES and name != MAIN_FILE and path.is_file() and not name.startswith("."):
            expected = f"{MAIN_FILE} here, runners in runners/, pipelines in pipelines/"
            yield Problem(str(path), start, "this file is not read", expected, "", "warning")


def _read(path: Path, model: type[M], context: Context) -> _File[M]:
    file: _File[M] = _File(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except PermissionError:
        file.problems.append(_denied(path))
        return file
    except OSError as error:
        problem = Problem(
            str(path), Position(1, 1), f"the file cannot be read: {error.strerror}", "a readable file"
        )
        file.problems.append(problem)
        return file
    file.document, problems = read(raw, str(path))
    file.problems += problems
    if file.document is None and not problems:
        file.document = Document(str(path), {})
    if file.document is not None:
        file.model, problems = validate(model, file.document, context)
        file.problems += problems
    return file


def _duplicates(files: list[_File[M]], key: str) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for file in files:
        name = at(file.document.data, key) if file.document is not None else None
        if not isinstance(name, str) or file.document is None:
            continue
        if name in first:
            message = f'there is another {key} "{name}" in {first[name]}'
            yield file.document.problem((key,), message, "a name of its own")
        first.setdefault(name, file.path)


def _look(
    main: _File[OrchestratorFile], base: Path, environ: Mapping[str, str], stored: StoredSecrets | None
) -> Stored:
    """Which secrets are stored; asked only when it matters, and once."""
    if stored is None:
        return Stored(frozenset())
    if main.model is None:
        return Stored(None)
    return stored(_with_database(main.model, environ), base)


def _names(files: Sequence[_File[M]], key: str) -> frozenset[str]:
    """What files define. One that cannot be read is taken by its own name: its users are not to blame."""
    found = (at(file.document.data, key) if file.document is not None else None for file in files)
    return frozenset(
        name if isinstance(name, str) else file.path.stem for name, file in zip(found, files, strict=True)
    )


def _known(
    main: _File[OrchestratorFile], runners: list[_File[RunnerFile]], stored: Callable[[], Stored]
) -> Known:
    names = _names(runners, "runner")
    if main.document is None:
        return Known(names, None, None, None, stored, has_email=True)
    data = main.document.data
    hosts = at(data, "hosts")
    return Known(
        names,
        hosts if isinstance(hosts, dict) else {"local": {}},
        keys_at(data, "servers"),
        keys_at(data, "secrets"),
        stored,
        has_email=at(data, "email") is not None,
        has_forge=bool(at(data, "github", "token") or at(data, "github", "app")),
        others={what: keys_at(data, where) for what, where in PLACES.items()},
    )


def _state_in_datasets(
    main: _File[OrchestratorFile], pipelines: list[_File[PipelineFile]]
) -> Iterator[Problem]:
    """The orchestrator's own state must not become a run's input, also not through a symlink."""
    if main.model is None:
        return
    holders: list[tuple[Document | None, Mapping[str, Dataset]]] = [(main.document, main.model.datasets)]
    holders += [(file.document, file.model.datasets) for file in pipelines if file.model is not None]
    for document, datasets in holders:
        if document is not None:
            yield from check_data_places(document, datasets, main.model.storage.path)


def _retained(main: _File[OrchestratorFile], pipelines: list[_File[PipelineFile]]) -> Iterator[Problem]:
    """Rules of retention for pipelines that there are not."""
    if main.document is None:
        return
    # One that cannot be read is taken by the name of its file, so that its rules are not blamed.
    known = {file.model.pipeline if file.model is not None else file.path.stem for file in pipelines}
    for name in sorted(keys_at(main.document.data, "retention", "pipelines") - known):
        position = main.document.key_position(("retention", "pipelines", name))
        expected = any_of(sorted(known)) if known else "a file under pipelines/"
        message = f'there is no pipeline "{name}"'
        yield Problem(main.document.file, position, message, expected, closest(name, known))


def _deploy_places(main: _File[OrchestratorFile], pipelines: list[_File[PipelineFile]]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    environments = main.model.environments if main.model is not None else {}
    for file in pipelines:
        if file.model is not None and file.document is not None:
            yield from check_shared(file.document, file.model, environments, first)
            yield from check_order(file.document, file.model, environments)


def _warnings(main: _File[OrchestratorFile], runners: list[_File[RunnerFile]]) -> Iterator[Problem]:
    if main.model is not None and main.document is not None:
        yield from _mail_warnings(main.model.email, main.document)
        database = main.model.storage.database
        if database is not None and holds_password(database):
            told = "the database's password is written in the file"
            yield _warning(main.document, ("storage", "database"), told, "DATABASE_URL")
        for name, host in main.model.hosts.items():
            if host.protect == "none":
                position = main.document.value_position(("hosts", name, "protect"))
                message = "runs reach this host's own services and the cloud's metadata"
                expected = "host, with what runs need there under `reachable`"
                yield Problem(main.document.file, position, message, expected, "", "warning")
            key = host.ssh.identity_file if host.ssh is not None else None
            if key is not None and has_passphrase(key):
                position = main.document.value_position(("hosts", name, "ssh", "identity_file"))
                message, expected = passphrase_told(key), passphrase_remedy(key)
                yield Problem(main.document.file, position, message, expected, "", "warning")
        for name, secret in main.model.secrets.items():
            if secret.is_literal:
                yield _warning(main.document, ("secrets", name), "a secret is written in the file", name)
        for name, registry in main.model.registries.items():
            if registry.password.is_literal:
                path = ("registries", name, "password")
                told = "the registry's password is written in the file"
                yield _warning(main.document, path, told, "REGISTRY_PASSWORD")
    for file in runners:
        if file.model is not None and file.document is not None and file.model.uid == 0:
            position = file.document.value_position(("user",))
            message = "runs will be root inside their containers"
            yield Problem(file.document.file, position, message, "a user such as 1000:1000", "", "warning")


def _logins(
    pipelines: list[_File[PipelineFile]], context: Context, stored: Callable[[], Stored]
) -> Iterator[Problem]:
    """Tokens and passwords of pipelines' sources and datasets."""
    for file in pipelines:
        if file.model is not None and file.document is not None:
            yield from check_secrets(file.model, file.document, context, stored)
            yield from check_literals(file.model, file.document)


def _unheard_errors(pipelines: list[_File[PipelineFile]]) -> Iterator[Problem]:
    """Who mails about some outcomes will take silence for good news."""
    for file in pipelines:
        if file.model is None or file.document is None:
            continue
        mailing = {
            trigger
            for trigger, actions in file.model.actions.by_trigger().items()
            if any(isinstance(action, EmailAction) for action in actions)
        }
        if mailing and "error" not in mailing:
            message = "no action for error: nobody hears when a host or the orchestrator fails"
            position = file.document.key_position(("actions",))
            expected = "error: [{email: {to: […]}}] beside the other actions"
            yield Problem(file.document.file, position, message, expected, "", "warning")


def _mail_warnings(email: Email | None, document: Document) -> Iterator[Problem]:
    if email is None or email.password is None or is_loopback(email.server.host):
        return
    if email.password.is_literal:
        yield _warning(
            document, ("email", "password"), "the password is written in the file", "SMTP_PASSWORD"
        )
    if email.server.security == "smtp":
        position = document.value_position(("email", "smtp"))
        message = "the password will cross the network in the clear"
        yield Problem(document.file, position, message, "smtps:// or smtp+starttls://", "", "warning")


def _warning(document: Document, path: tuple[str, ...], message: str, variable: str) -> Problem:
    reference = f"${{{{ env.{variable} }}}}"
    position = document.value_position(path)
    return Problem(document.file, position, message, "a reference to where it is kept", reference, "warning")
