"""Where the secrets of orchestrator.yaml come from: what is looked at beyond whether they are there."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.config.interpolation import Reference, Text
from orchestrator.config.models.common import Context
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.problems import ItemPath, Problem, any_of, closest
from orchestrator.config.references import Stored
from orchestrator.config.yaml_loader import Document


def secret_texts(main: OrchestratorFile) -> Iterator[tuple[ItemPath, Text]]:
    """Every value of the file that may be a secret, with its place; the database's address apart."""
    for name, text in main.secrets.items():
        yield ("secrets", name), text
    if main.email is not None and main.email.password is not None:
        yield ("email", "password"), main.email.password
    for host, registry in main.registries.items():
        yield ("registries", host, "username"), registry.username
        yield ("registries", host, "password"), registry.password


def check_sources(
    main: OrchestratorFile, document: Document, context: Context, stored: Callable[[], Stored]
) -> Iterator[Problem]:
    """Names that are not stored; files that others can read; entries that hide a stored secret."""
    for path, text in secret_texts(main):
        for reference in text.references:
            if reference.kind == "secret":
                yield from _stored(document, path, reference, stored())
            if reference.kind == "file" and context.check_references:
                yield from _exposed(document, path, context.base / Path(reference.name).expanduser())
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
