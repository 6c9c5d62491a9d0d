"""Where the secrets of orchestrator.yaml come from: what is looked at beyond whether they are there."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from orchestrator.config.database import holds_password
from orchestrator.config.interpolation import Reference, Text
from orchestrator.config.models.common import Context, Model
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.problems import ItemPath, Problem, any_of, closest
from orchestrator.config.references import Stored
from orchestrator.config.yaml_loader import Document

_PUBLIC: Final = ("username",)
"""Keys that may hold a reference and are no secrets."""


def secret_texts(model: Model) -> Iterator[tuple[ItemPath, Text]]:
    """Every value of a file that may be a secret, with its place; the database's address apart."""
    for path, text in _texts((), model):
        if path != ("storage", "database"):
            yield path, text


def _texts(path: ItemPath, value: object) -> Iterator[tuple[ItemPath, Text]]:
    match value:
        case Text():
            yield path, value
        case Model():
            for name, field in type(value).model_fields.items():
                yield from _texts((*path, field.alias or name), getattr(value, name))
        case Mapping():
            for key, item in value.items():
                yield from _texts((*path, str(key)), item)
        case tuple():
            for index, item in enumerate(value):
                yield from _texts((*path, index), item)


def check_secrets(
    model: Model, document: Document, context: Context, stored: Callable[[], Stored]
) -> Iterator[Problem]:
    """Secrets that a file refers to: names that are not stored; files that others can read."""
    for path, text in secret_texts(model):
        for reference in text.references:
            if reference.kind == "secret":
                yield from _stored(document, path, reference, stored())
            if reference.kind == "file" and context.check_references:
                yield from _exposed(document, path, context.base / Path(reference.name).expanduser())


def check_literals(model: Model, document: Document) -> Iterator[Problem]:
    """Secrets of a pipeline's file that are written in it."""
    for path, text in secret_texts(model):
        harmless = path[-1] in _PUBLIC or (path[-1] == "sql" and not holds_password(text))
        if text.is_literal and not harmless:
            position = document.value_position(path)
            message = f"the {path[-1]} is written in the file"
            expected = "a reference to where it is kept"
            reference = f"${{{{ env.{str(path[-1]).upper()} }}}}"
            yield Problem(document.file, position, message, expected, reference, "warning")


def check_sources(
    main: OrchestratorFile, document: Document, context: Context, stored: Callable[[], Stored]
) -> Iterator[Problem]:
    """The same of orchestrator.yaml, and entries that hide a stored secret."""
    yield from check_secrets(main, document, context, stored)
    if context.check_references and main.secrets:
        for name in sorted(main.secrets.keys() & (stored().names or ())):
            if Reference("secret", name) not in main.secrets[name].references:
                message = f"{name} is stored as well; this entry counts, the stored value is not used"
                expected = f"no entry, or `orchestrator secrets remove {name}`"
                position = document.key_position(("secrets", name))
                yield Problem(document.file, position, message, expected, "", "warning")


def _stored(document: Document, path: ItemPath, reference: Reference, stored: Stored) -> Iterator[Problem]:
    if stored.names is None:
        yield from stored.unchecked(document, path, reference.name)
    elif reference.name not in stored.names:
        names = sorted(stored.names)
        remedy = f"`orchestrator secrets set {reference.name}`"
        expected = f"{any_of(names)}, or {remedy}" if names else remedy
        message = f'there is no stored secret "{reference.name}"'
        yield document.problem(path, message, expected, closest(reference.name, names))


def _exposed(document: Document, path: ItemPath, file: Path) -> Iterator[Problem]:
    if readable_by_others(file):
        message = f"every account of this machine can read {file}"
        position = document.value_position(path)
        yield Problem(document.file, position, message, f"chmod o= {file}", "", "warning")


def readable_by_others(file: Path) -> bool:
    """Whether neither the mode of the file nor that of a folder above keeps other accounts out."""
    try:
        real = file.resolve(strict=True)
        return bool(real.stat().st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
        )
    except OSError:
        return False
