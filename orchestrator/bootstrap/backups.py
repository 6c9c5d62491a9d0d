"""Backup and restore, wired for one configuration."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from orchestrator.adapters.files.backup import FolderBackups
from orchestrator.adapters.files.maintenance import Maintenance
from orchestrator.bootstrap.application import Application
from orchestrator.services.backup import Backups
from orchestrator.store.snapshot import SqlSnapshots

PACKAGE: Final = "ml-ci-orchestrator"


def backups_of(app: Application) -> Backups:
    """The use case on an application's database and state folder; no table is made or changed by this."""
    return Backups(
        SqlSnapshots(app.database_url),
        FolderBackups(app.state, app.scratch),
        Maintenance(app.state),
        app.clock,
        app.processes,
        version(PACKAGE),
    )
