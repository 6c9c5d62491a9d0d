"""ORCHESTRATOR_DATABASE: the database that whoever starts the process names, as docker-compose.yml does."""

from __future__ import annotations

from orchestrator.config.database import resolved
from orchestrator.config.load import load
from tests.support.configuration import ConfigFolder

URL = "postgresql://orchestrator:hunter22@/orchestrator?host=/run/postgresql"


def _database(folder: ConfigFolder, environ: dict[str, str]) -> str | None:
    configuration = load(folder.path, environ=environ).configuration
    assert configuration is not None
    database = configuration.orchestrator.storage.database
    assert "hunter22" not in repr(database)
    return None if database is None else resolved(database, environ, lambda path: path)


def test_the_variable_takes_the_place_of_what_the_file_says(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", "storage: {database: 'sqlite:////srv/other.db'}\n")
    assert _database(folder, {"ORCHESTRATOR_DATABASE": URL}) == URL


def test_an_empty_variable_changes_nothing(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", "storage: {database: 'sqlite:////srv/other.db'}\n")
    assert _database(folder, {"ORCHESTRATOR_DATABASE": ""}) == "sqlite:////srv/other.db"
