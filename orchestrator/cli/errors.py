"""What went wrong, told to a person in one line with its remedy, and the exit code for it."""

from __future__ import annotations

import sys
import traceback

import click

from orchestrator.cli.output import count
from orchestrator.cli.settings import UNKNOWN, USAGE
from orchestrator.domain.errors import InvalidInput, NotFound, OrchestratorError


def tell(error: Exception, *, verbose: bool) -> int:
    """Say it on standard error; the exit code. An unforeseen error is a defect and shows its traceback."""
    from orchestrator.bootstrap import ConfigurationInvalid

    if not isinstance(error, OrchestratorError):
        traceback.print_exception(error, file=sys.stderr)
        click.echo(
            "error: this is a defect of the orchestrator, please report it with the lines above", err=True
        )
        return UNKNOWN
    if verbose:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, ConfigurationInvalid):
        for problem in error.result.problems:
            click.echo(str(problem), err=True)
        click.echo(f"error: the configuration has {count(len(error.result.errors), 'error')}", err=True)
        return USAGE
    click.echo(f"error: {_one_line(error)}", err=True)
    return USAGE if isinstance(error, InvalidInput | NotFound) else UNKNOWN


def _one_line(error: OrchestratorError) -> str:
    text = error.message.rstrip(".")
    if error.remedy:
        text = f"{text}. To do: {error.remedy}"
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
