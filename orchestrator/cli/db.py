"""``orchestrator db``: the database itself."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this


@click.group(cls=CommandGroup)
@global_options
def db() -> None:
    """Upgrade and back up the database."""


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
        if found != needed:
            say(f"this version needs {needed}: make a backup and run `orchestrator db upgrade`")
    return PASSED if found == needed else UNKNOWN


@db.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@global_options
def backup(file: Path) -> int:
    """Copy the database to FILE as it is at one moment, while a server goes on."""
    from orchestrator.cli.output import say
    from orchestrator.domain.report import format_size
    from orchestrator.store import open_store

    with this().application() as app:
        store = open_store(app.database_url, create=False)
        try:
            store.backup(file)
        finally:
            store.close()
        say(f"{file}: {format_size(file.stat().st_size)}")
        return PASSED
