"""``orchestrator db``: the database itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this

_TOLD: Final = 10


@click.group(cls=CommandGroup)
@global_options
def db() -> None:
    """Upgrade the database, back up and restore the installation."""


@db.command("upgrade")
@global_options
def upgrade() -> int:
    """Bring the database to this version's tables, making it when there is none. All or nothing."""
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import say
    from orchestrator.store import migrations

    app = Application(this().configuration())
    before = migrations.current(app.database_url)
    migrations.upgrade(app.database_url)
    after = migrations.HEAD
    say(f"the database is at revision {after}" + ("" if before == after else f", was {before or 'empty'}"))
    return PASSED


@db.command("current")
@global_options
def current() -> int:
    """The database's revision and the one that this version needs; ends with 3 when they differ."""
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import print_json, say
    from orchestrator.store import migrations

    settings = this()
    app = Application(settings.configuration())
    found, needed = migrations.current(app.database_url), migrations.HEAD
    if settings.json:
        print_json({"revision": found, "needed": needed})
    else:
        click.echo(found or "none")
        if found is None:
            say("the database is empty: run `orchestrator db upgrade`")
        elif found != needed:
            say(f"this version needs {needed}: make a backup and run `orchestrator db upgrade`")
    return PASSED if found == needed else UNKNOWN


@db.command("backup")
@click.option(
    "--no-artifacts", is_flag=True, help="Leave artifacts out; those of the past cannot be deployed."
)
@click.argument("target", metavar="FILE|DIR", type=click.Path())
@global_options
def backup(target: str, *, no_artifacts: bool) -> int:
    """Back up database, logs and artifacts, as they are at one moment, while runs execute.

    A name that ends with / is a folder, made when it is missing.
    """
    from orchestrator.bootstrap.backups import backups_of
    from orchestrator.bootstrap.secrets import key_file
    from orchestrator.cli.output import count, print_json, say
    from orchestrator.cli.progress import ProgressLine
    from orchestrator.domain.report import format_size

    settings = this()
    with settings.application() as app:
        if target.endswith(os.sep):
            _make_folder(Path(target))
        with ProgressLine() as progress:
            made = backups_of(app).make(Path(target), progress, artifacts=not no_artifacts)
        if settings.json:
            print_json(
                {
                    "file": str(made.file),
                    "bytes": made.size,
                    "files": made.facts.files,
                    "database": made.facts.database,
                    "revision": made.facts.revision,
                    "absent": list(made.absent),
                    "damaged": list(made.damaged),
                }
            )
        else:
            click.echo(made.file)
        say(f"{format_size(made.size)}, {count(made.facts.files, 'file')}, from {made.facts.database}")
        _tell_bad(made.absent, "is missing, and so not in the backup")
        _tell_bad(made.damaged, "is not what was stored; a restore leaves it out")
        key = key_file(app.config.orchestrator, app.state).path
        say(f"stored secrets are in it encrypted; their key is not: keep {key} in another place")
        return PASSED


@db.command("restore")
@click.option("--force", is_flag=True, help="Replace an installation that holds something already.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@global_options
def restore(file: Path, *, force: bool) -> int:
    """Put a backup in the place of this configuration's database, logs and artifacts."""
    from orchestrator.bootstrap.backups import backups_of
    from orchestrator.bootstrap.secrets import key_file
    from orchestrator.cli.output import count, print_json, say, stamp
    from orchestrator.cli.progress import ProgressLine

    settings = this()
    with settings.application() as app:
        with ProgressLine() as progress:
            done = backups_of(app).restore(file, progress, force=force)
        facts = done.facts
        if settings.json:
            print_json(
                {
                    "made": facts.created_at.isoformat(),
                    "attempts": done.attempts,
                    "absent": list(done.absent),
                    "aside": done.aside,
                }
            )
        say(
            f"restored: {facts.database} of {stamp(facts.created_at)}, "
            f"{count(done.attempts, 'attempt')}, {count(facts.files, 'file')}"
        )
        if not facts.artifacts:
            say("the backup was made without artifacts")
        _tell_bad(done.absent, "is not in the backup")
        if done.aside:
            say(f"what was here before has {done.aside} in its name; remove it when you do not need it")
        key = key_file(app.config.orchestrator, app.state).path
        say(f"stored secrets need the key that they were encrypted with, in {key}")
        say("next: `orchestrator doctor` looks at the hosts and all else, then `orchestrator serve`")
        return PASSED


def _make_folder(folder: Path) -> None:
    from orchestrator.domain.errors import InvalidInput

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"the folder {folder} cannot be made: {error.strerror}") from error


def _tell_bad(contents: tuple[str, ...], what: str) -> None:
    from orchestrator.cli.output import say

    for content in contents[:_TOLD]:
        say(f"warning: the artifact {content} {what}")
    if len(contents) > _TOLD:
        say(f"warning: the same holds for {len(contents) - _TOLD} others")
