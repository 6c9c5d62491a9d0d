"""A repository's own file: pipelines that people have written who are not to be trusted.

They may use what the administrator granted to the repository, by name, and nothing else: no interpolation, no
path of the server, no address, nothing that decides who may deploy. The same models as of the administrator's
files judge the rest, so that a pipeline means the same wherever it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.config.deploy_places import check_order, deploys_of, servers_of
from orchestrator.config.models.actions import AUTHOR, EmailAction
from orchestrator.config.models.common import Context
from orchestrator.config.models.dataset import Dataset
from orchestrator.config.models.environment import Environment
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.models.replicates import most_replicates
from orchestrator.config.models.repository import Grant, Repository
from orchestrator.config.models.source import Source
from orchestrator.config.problems import ItemPath, Position, Problem, any_of, closest, in_reading_order
from orchestrator.config.references import Known, Stored, at, check_pipeline
from orchestrator.config.upstreams import check_upstreams
from orchestrator.config.validation import validate
from orchestrator.config.yaml_loader import MAX_BYTES, Document, Plain, read

MOST_PIPELINES: Final = 50
_NOT_THEIRS: Final = {
    "sources": "the administrator says which repository this is",
    "project": "the administrator says which project a repository belongs to",
    "priority": "the administrator says who goes first",
    "deploy_branches": "the administrator says which branches may deploy",
}
_THEIR_ACTIONS: Final = ("deploy", "email", "github")
_ADMINISTRATORS_ACTIONS: Final = ("webhook", "exec", "git", "upload", "container")
_NARROWING: Final = ("paths", "every_commit", "settle", "min_interval")
"""What a pipeline may say of its source; which branches, tags and pull requests run is not its to say."""
_STAND_IN: Final = "https://repository.invalid/"
"""In place of the address, so that a file is judged without it."""
_INTERPOLATION: Final = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)
_SEPARATOR: Final = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)


@dataclass(frozen=True)
class Granted:
    """What one repository may use: its grant, and what the administrator calls by the names in it."""

    name: str
    repository: Repository
    grant: Grant | None
    """None: not known, so that every name is taken for granted."""
    datasets: Mapping[str, Dataset]
    has_email: bool
    taken: frozenset[str] = frozenset()
    """Servers that pipelines of the administrator deploy to."""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    """Those of the administrator, so that it shows where two would share a server."""


@dataclass(frozen=True)
class RepositoryFile:
    """The pipelines of a repository's file by their full names, or everything that is wrong with it."""

    pipelines: Mapping[str, PipelineFile]
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


def read_repository_file(raw: bytes, granted: Granted) -> RepositoryFile:
    """Read a repository's file, one pipeline a YAML document. With an error in it there is no pipeline.

    Each pipeline's full name is the repository's, a dot and its own, so that none can take another's place.
    """
    file = granted.repository.file
    problems: list[Problem] = []
    found: dict[str, PipelineFile] = {}
    servers: set[str] = set(granted.taken)
    parts = _documents(raw)
    if len(raw) > MAX_BYTES:
        parts = [(0, raw)]
    if len(parts) > MOST_PIPELINES:
        message = f"there are {len(parts)} documents"
        start = Position(1, 1)
        return RepositoryFile({}, (Problem(file, start, message, f"at most {MOST_PIPELINES} pipelines"),))
    documents: list[Document] = []
    for lines_before, part in parts:
        read_part, told = read(part, file)
        problems += [replace(problem, position=_below(problem.position, lines_before)) for problem in told]
        if read_part is None:
            continue
        document = _moved(read_part, lines_before)
        documents.append(document)
        model, told = _judged(document, granted, servers)
        problems += told
        if model is not None:
            name = model.pipeline
            if name in found:
                message = f'a second pipeline is called "{name}"'
                problems.append(document.problem(("pipeline",), message, "other names"))
            found[name] = model
    problems += check_upstreams(documents, _names(documents), ())
    if not found and not problems:
        message = "there is no pipeline in this file"
        problems.append(Problem(file, Position(1, 1), message, "pipeline: NAME, and run: {…} below it"))
    ordered = in_reading_order(problems)
    if any(problem.severity == "error" for problem in ordered):
        return RepositoryFile({}, ordered)
    own = frozenset(found)
    named = {full_name(granted.name, name): _renamed(model, granted, own) for name, model in found.items()}
    return RepositoryFile(named, ordered)


def judge_without_grants(raw: bytes, file: str) -> RepositoryFile:
    """Read such a file for those who write it and do not know what was granted to them."""
    anywhere = Repository.model_validate({"git": _STAND_IN, "file": file})
    return read_repository_file(raw, Granted("repository", anywhere, None, {}, has_email=True))


def full_name(repository: str, pipeline: str) -> str:
    """What a pipeline of a repository's file is called everywhere else."""
    return f"{repository}.{pipeline}"


def _documents(raw: bytes) -> list[tuple[int, bytes]]:
    """The YAML documents of a file, each with the number of lines before it.

    A line that begins with ``---`` inside a block of text is indented there, so it never ends one.
    """
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(raw))]
    ends = [*starts[1:], len(raw)]
    parts = [(raw.count(b"\n", 0, start), raw[start:end]) for start, end in zip(starts, ends, strict=True)]
    return [(line, part) for line, part in parts if part.strip()]


def _moved(document: Document, lines: int) -> Document:
    """The document with its places counted from the beginning of the file."""
    keys, values = (
        {path: _below(place, lines) for path, place in places.items()}
        for places in (document.keys, document.values)
    )
    return replace(document, keys=keys, values=values)


def _below(position: Position, lines: int) -> Position:
    return Position(position.line + lines, position.column)


def _names(documents: Sequence[Document]) -> list[str]:
    return [name for document in documents if isinstance(name := at(document.data, "pipeline"), str)]


def _judged(
    document: Document, granted: Granted, servers: set[str]
) -> tuple[PipelineFile | None, list[Problem]]:
    if not isinstance(document.data, dict):
        return validate(PipelineFile, document, Context())
    problems = [*_not_theirs(document), *_interpolations(document), *_ungranted(document, granted)]
    problems += _administrators_actions(document)
    source, told = _source(document, granted.repository)
    problems += told
    names = document.data.get("datasets")
    datasets = [name for name in names if isinstance(name, str)] if isinstance(names, list | dict) else []
    theirs = {key: value for key, value in document.data.items() if key not in _NOT_THEIRS}
    stand_in: dict[str, Plain] = {"source": {"git": _STAND_IN}, "datasets": {}}
    model, told = validate(PipelineFile, replace(document, data=theirs | stand_in), Context())
    problems += told
    listed = replace(document, data={**document.data, "datasets": {name: {} for name in datasets}})
    problems += check_pipeline(listed, Known(None, None, None, None, lambda: Stored(None), granted.has_email))
    if model is None:
        return None, problems
    if granted.grant is not None:
        problems += _mails(document, model, granted.grant)
        problems += _too_much(document, model, granted.grant)
    problems += _servers(document, model, granted.environments, servers)
    problems += check_order(document, model, granted.environments)
    usable = {name: granted.datasets[name] for name in datasets if name in granted.datasets}
    return model.model_copy(update={"source": source, "datasets": usable}), problems


def _not_theirs(document: Document) -> Iterator[Problem]:
    for key, why in _NOT_THEIRS.items():
        if document.holds((key,)):
            position = document.key_position((key,))
            yield Problem(
                document.file, position, f'"{key}" is not for a repository to say: {why}', f"no {key}"
            )


def _administrators_actions(document: Document) -> Iterator[Problem]:
    """Actions that act with the administrator's rights, whatever was granted."""
    actions = at(document.data, "actions")
    for trigger, items in (actions if isinstance(actions, dict) else {}).items():
        for index, action in enumerate(items if isinstance(items, list) else []):
            for kind in _ADMINISTRATORS_ACTIONS:
                if isinstance(action, dict) and kind in action:
                    position = document.key_position(("actions", trigger, index, kind))
                    message = f'"{kind}" is not for a repository to say: it acts in the administrator\'s name'
                    yield Problem(document.file, position, message, any_of(_THEIR_ACTIONS))


def _interpolations(document: Document) -> Iterator[Problem]:
    for path, value in _texts(document.data, ()):
        if found := _INTERPOLATION.search(value):
            message = f"{found.group()[:60]} is not read in a repository's own file"
            expected = "run.secrets: [NAME] for a secret that was granted, which the run gets as $NAME"
            yield document.problem(path, message, expected)


def _texts(value: Plain, path: ItemPath) -> Iterator[tuple[ItemPath, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            if _INTERPOLATION.search(key):
                yield (*path, key), key
            yield from _texts(item, (*path, key))


def _ungranted(document: Document, granted: Granted) -> Iterator[Problem]:
    """Names that the repository was not granted. Whether there are such things is not for it to know."""
    data, grant = document.data, granted.grant
    if not isinstance(data, dict) or grant is None:
        return
    run = data.get("run")
    if isinstance(run, dict):
        runner = run.get("runner")
        if isinstance(runner, str):
            yield from _unless_granted(document, ("run", "runner"), "runner", runner, grant.runners)
        secrets = run.get("secrets")
        for index, name in enumerate(secrets if isinstance(secrets, list) else []):
            if isinstance(name, str):
                yield from _unless_granted(document, ("run", "secrets", index), "secret", name, grant.secrets)
    usable = [name for name in grant.datasets if name in granted.datasets]
    yield from _ungranted_datasets(document, usable)
    actions = data.get("actions")
    for trigger, items in (actions if isinstance(actions, dict) else {}).items():
        for index, action in enumerate(items if isinstance(items, list) else []):
            if isinstance(action, dict):
                yield from _ungranted_action(document, ("actions", trigger, index), action, grant)


def _ungranted_action(
    document: Document, path: ItemPath, action: dict[str, Plain], grant: Grant
) -> Iterator[Problem]:
    for what, granted in (("server", grant.servers), ("environment", grant.environments)):
        name = at(action, "deploy", what)
        if isinstance(name, str):
            yield from _unless_granted(document, (*path, "deploy", what), what, name, granted)
    command = action.get("command")
    if "command" in action and not grant.commands:
        position = document.key_position((*path, "command"))
        message = "commands after a run were not granted to this repository"
        yield Problem(document.file, position, message, any_of(_THEIR_ACTIONS))
    if isinstance(command, dict):
        runner, secrets = command.get("runner"), command.get("secrets")
        if isinstance(runner, str):
            yield from _unless_granted(
                document, (*path, "command", "runner"), "runner", runner, grant.runners
            )
        for index, name in enumerate(secrets if isinstance(secrets, list) else []):
            if isinstance(name, str):
                place = (*path, "command", "secrets", index)
                yield from _unless_granted(document, place, "secret", name, grant.secrets)


def _ungranted_datasets(document: Document, usable: list[str]) -> Iterator[Problem]:
    names = document.data.get("datasets") if isinstance(document.data, dict) else None
    named: list[tuple[ItemPath, Plain]] = []
    if isinstance(names, dict):
        named = [(("datasets", name), name) for name in names]
        for name, value in names.items():
            if value not in (None, {}):
                message = "what a dataset is, is not for a repository to say"
                expected = f"datasets: [{', '.join(usable) or 'NAME'}], by names that were granted"
                yield document.problem(("datasets", name), message, expected)
    elif isinstance(names, list):
        named = [(("datasets", index), name) for index, name in enumerate(names)]
    elif names is not None:
        yield document.problem(("datasets",), "this is no list of datasets", "datasets: [NAME]")
    for path, found in named:
        if isinstance(found, str):
            yield from _unless_granted(document, path, "dataset", found, usable)
        else:
            yield document.problem(path, "this is no name of a dataset", "datasets: [NAME]")


def _unless_granted(
    document: Document, path: ItemPath, what: str, name: str, granted: tuple[str, ...] | list[str]
) -> Iterator[Problem]:
    if name not in granted:
        expected = any_of(sorted(granted)) if granted else f"no {what}: none was granted"
        message = f'the {what} "{name}" was not granted to this repository'
        yield document.problem(path, message, expected, closest(name, granted))


_WHERE: Final = "the administrator says where it is and how it is reached"
_ADMINISTRATORS: Final = {
    "poll": "the administrator says how often it is looked at",
    "branches": "the administrator says which branches are watched",
    "tags": "the administrator says which tags are watched",
    "pull_requests": "the administrator says which pull requests are watched",
}


def _source(document: Document, repository: Repository) -> tuple[Source, list[Problem]]:
    """The administrator's source, narrowed by what the pipeline says of it."""
    plain = {name: getattr(repository, name) for name in Source.model_fields}
    written = document.data.get("source") if isinstance(document.data, dict) else None
    if written is None:
        return Source.model_construct(**plain), []
    if not isinstance(written, dict):
        return Source.model_construct(**plain), [
            document.problem(("source",), "this says nothing of the source", f"keys of {any_of(_NARROWING)}")
        ]
    problems = []
    for key in written:
        if key not in _NARROWING and not key.startswith("x-"):
            position = document.key_position(("source", key))
            message = f'"{key}" is not for a repository to say: {_ADMINISTRATORS.get(key, _WHERE)}'
            problems.append(
                Problem(document.file, position, message, any_of(_NARROWING), closest(key, _NARROWING))
            )
    kept = {key: value for key, value in written.items() if key in _NARROWING}
    # An address that stands for the repository's own, so that its rules are judged as any source's.
    below = Document(document.file, {"git": _STAND_IN, **kept}, *_within(document, "source"))
    model, told = validate(Source, below, Context())
    problems += told
    if model is not None:
        plain |= {key: getattr(model, key) for key in kept}
        plain["settle"] = max(plain["settle"], repository.settle)
        plain["min_interval"] = max(plain["min_interval"], repository.min_interval)
    return Source.model_construct(**plain), problems


def _within(document: Document, key: str) -> tuple[dict[ItemPath, Position], dict[ItemPath, Position]]:
    keys = {path[1:]: place for path, place in document.keys.items() if path[:1] == (key,)}
    values = {path[1:]: place for path, place in document.values.items() if path[:1] == (key,)}
    return keys, values


def _mails(document: Document, model: PipelineFile, grant: Grant) -> Iterator[Problem]:
    for trigger, actions in model.actions.by_trigger().items():
        for index, action in enumerate(actions):
            for place, address in enumerate(action.email.to if isinstance(action, EmailAction) else ()):
                if address != AUTHOR and not grant.mails_to(address):
                    path = ("actions", trigger, index, "email", "to", place)
                    message = f'mail to "{address}" was not granted to this repository'
                    expected = any_of((AUTHOR, *grant.emails))
                    yield document.problem(path, message, expected)


def _too_much(document: Document, model: PipelineFile, grant: Grant) -> Iterator[Problem]:
    if model.schedule and not grant.schedules:
        position = document.key_position(("schedule",))
        message = "schedules were not granted to this repository"
        yield Problem(document.file, position, message, "no schedule")
    most = most_replicates(model.replicates)
    if most > grant.replicates:
        message = f"{most} replicates are more than were granted to this repository"
        yield document.problem(("replicates",), message, f"at most {grant.replicates}")
    for name, baseline in model.baselines.items():
        for key, wanted in (("replicates", baseline.replicates), ("confirm", baseline.confirm)):
            if wanted > grant.replicates:
                message = f"{wanted} measurements are more than were granted to this repository"
                path = ("baselines", name, key)
                yield document.problem(path, message, f"at most {grant.replicates}")


def _servers(
    document: Document, model: PipelineFile, environments: Mapping[str, Environment], servers: set[str]
) -> Iterator[Problem]:
    """A server's folder has one `current`: what two pipelines put there would replace each other."""
    for index, key, deploy in deploys_of(model):
        wanted = servers_of(deploy, environments)
        if not servers.isdisjoint(wanted):
            path = ("actions", "pass", index, "deploy", key)
            place = deploy.environment or deploy.server
            message = f'another pipeline deploys to "{place}", and each release would replace the other\'s'
            yield document.problem(path, message, "a server of its own")
        servers.update(wanted)


def _renamed(model: PipelineFile, granted: Granted, own: frozenset[str]) -> PipelineFile:
    repository = granted.repository
    return model.model_copy(
        update={
            "pipeline": full_name(granted.name, model.pipeline),
            "project": repository.project,
            "deploy_branches": repository.trusted_branches,
            "after": tuple(full_name(granted.name, name) for name in model.after if name in own),
        }
    )
