"""The command ``orchestrator``: which commands there are, and what their ends mean to a shell.

Nothing but click is imported until a command runs, so that help and completion answer at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import Settings, global_options

COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "serve": ("orchestrator.cli.serve", "serve", "Watch, run, judge and act until stopped."),
    "run": ("orchestrator.cli.run", "run", "Run a pipeline once, now."),
    "status": ("orchestrator.cli.status", "status", "Show all pipelines at a glance."),
    "plan": ("orchestrator.cli.plan", "plan", "Show what would run now, where and why; change nothing."),
    "runs": ("orchestrator.cli.runs", "runs", "List, show, follow, cancel and repeat runs."),
    "report": ("orchestrator.cli.report", "report", "See what people are told of a run; send it as a test."),
    "init": ("orchestrator.cli.config", "init", "Write a commented configuration."),
    "validate": ("orchestrator.cli.config", "validate", "Report every mistake in a configuration."),
    "schema": ("orchestrator.cli.config", "schema", "Print the JSON Schema of a kind of file."),
    "sources": ("orchestrator.cli.sources", "sources", "Show what is watched, and look at it now."),
    "datasets": ("orchestrator.cli.datasets", "datasets", "Show datasets and their versions."),
    "baselines": ("orchestrator.cli.baselines", "baselines", "Show, pin and unpin baselines."),
    "rebaseline": ("orchestrator.cli.baselines", "rebaseline", "Let baselines begin anew with a run."),
    "gate": ("orchestrator.cli.gate", "gate", "Tell what a gate can show, and what it would need."),
    "deployments": (
        "orchestrator.cli.deployments",
        "deployments",
        "Show what was deployed where, deploy, approve and roll back.",
    ),
    "models": ("orchestrator.cli.models", "models", "Show the versions of models, and their stages."),
    "images": ("orchestrator.cli.images", "images", "Make, list and remove the images that runs use."),
    "runners": ("orchestrator.cli.hosts", "runners", "Show the runners of the configuration."),
    "retention": ("orchestrator.cli.retention", "retention", "Show and remove what has had its time."),
    "hosts": ("orchestrator.cli.hosts", "hosts", "Show and check the Docker engines."),
    "secrets": ("orchestrator.cli.secrets", "secrets", "Keep secrets encrypted; tell where each comes from."),
    "db": ("orchestrator.cli.db", "db", "Upgrade the database, back up and restore the installation."),
    "doctor": ("orchestrator.cli.doctor", "doctor", "Check everything that a run will need."),
    "version": ("orchestrator.cli.config", "version", "Print the version."),
}
"""Name to module, attribute and short help: what the list of commands needs without importing any."""

_EPILOG = (
    "Ends with 0: done, and passed. 1: rejected or failed. 2: wrong usage or configuration. "
    "3: it could not be found out. 4: inconclusive."
)


class LazyGroup(CommandGroup):
    """A group whose commands are imported when they are run or asked for their own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@global_options
def cli() -> None:
    """Continuous integration for machine learning: a change trains, is judged, deployed and reported."""


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. Errors are told on standard error."""
    settings = Settings()
    try:
        code = cli.main(
            None if arguments is None else list(arguments),
            prog_name="orchestrator",
            standalone_mode=False,
            obj=settings,
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 130
    except BrokenPipeError:
        # The reader has had enough, as `head` does. What is still buffered must not fail at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost boundary: told to the person
        from orchestrator.cli.errors import tell

        return tell(error, verbose=settings.verbose)
    return code if isinstance(code, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(execute())
