"""Commands: text for a shell, or a list of arguments."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Discriminator, Tag

from orchestrator.config.models.common import Items, Verbatim, kind_of, wrong
from orchestrator.config.yaml_loader import Plain


def _command_kind(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<list>"


def _command(value: Plain) -> Plain:
    if not isinstance(value, str | list):
        raise wrong(f"this is no command, found {kind_of(value)}", "text for `sh -c`, or a list of arguments")
    if not value or (isinstance(value, str) and not value.strip()):
        raise wrong("the command is empty", "text for `sh -c`, or a list of arguments")
    return value


Command: TypeAlias = Annotated[
    Annotated[Verbatim, Tag("<text>")] | Annotated[Items[Verbatim], Tag("<list>")],
    Discriminator(_command_kind),
    BeforeValidator(_command),
]


def argv_of(command: str | tuple[str, ...]) -> tuple[str, ...]:
    """A command as an argument list."""
    return ("sh", "-c", command) if isinstance(command, str) else command
