"""What every command takes: where the configuration is, how to print, how much to say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.config.load import Configuration

F = TypeVar("F", bound=Callable[..., Any])

PASSED: Final = 0
REJECTED: Final = 1
USAGE: Final = 2
UNKNOWN: Final = 3
INCONCLUSIVE: Final = 4


@dataclass
class Settings:
    """The options that count for every command, wherever on the line they stand."""

    config: str | None = None
    json: bool = False
    verbose: bool = False

    @property
    def folder(self) -> Path:
        """The configuration folder: the option, else ORCHESTRATOR_CONFIG, else ./config."""
        return Path(self.config or os.environ.get("ORCHESTRATOR_CONFIG") or "config")

    def configuration(self, *, check_stored: bool = False) -> Configuration:
        """The configuration. Raises ConfigurationInvalid with every mistake.

        ``check_stored``: a pipeline that names a secret which is nowhere, not in the store either, is one.
        """
        from orchestrator.bootstrap import read_configuration

        return read_configuration(self.folder, check_stored=check_stored)

    @contextmanager
    def application(
        self, log_level: str | None = None, *, check_stored: bool = False
    ) -> Iterator[Application]:
        """The product on this configuration; closed at the end. Logs go to standard error, masked."""
        from orchestrator.bootstrap import Application
        from orchestrator.observe import configure_logging

        app = Application(self.configuration(check_stored=check_stored))
        level = log_level or ("INFO" if self.verbose else "WARNING")
        configure_logging(level, masker=app.masker)
        try:
            yield app
        finally:
            app.close()


def _stored(context: click.Context, parameter: click.Parameter, value: object) -> None:
    settings = context.ensure_object(Settings)
    if value and parameter.name is not None:
        setattr(settings, parameter.name, value)


def _option(*names: str, **attributes: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own signature
    return click.option(*names, expose_value=False, callback=_stored, is_eager=True, **attributes)


def global_options(function: F) -> F:
    """``--config``, ``--json`` and ``--verbose``."""
    for decorate in (
        _option("-v", "--verbose", is_flag=True, help="Say more, with tracebacks."),
        _option("--json", is_flag=True, help="Print JSON where a command prints data."),
        _option(
            "--config",
            metavar="DIR",
            help="The configuration folder (else ORCHESTRATOR_CONFIG, else ./config).",
        ),
    ):
        function = decorate(function)
    return function


def user() -> str:
    """The name of the user that this process is of, by the machine's own list: no variable changes it."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def who() -> str:
    """The person at this terminal, as ``user@host``."""
    import socket

    return f"{user()}@{socket.gethostname()}"


def this() -> Settings:
    """The settings of the command that is running."""
    return click.get_current_context().ensure_object(Settings)
