"""Shell completion of names, from what can be read quickly; silent about whatever is wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import click

from orchestrator.cli.settings import Settings

_SHOWN = 30


def pipeline_names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The pipelines' names, taken from their files without reading the whole configuration."""
    folder = _folder(context) / "pipelines"
    found: list[str] = []
    for path in sorted(folder.glob("*.y*ml")):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        found += [
            line.partition(":")[2].strip().strip("\"'") for line in lines if line.startswith("pipeline:")
        ]
    return [name for name in found if name.startswith(incomplete)]


def run_references(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The newest runs as ``pipeline#number``, read straight from a SQLite database in its usual place."""
    path = _folder(context).parent / "var" / "orchestrator.db"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.2)
        try:
            rows = connection.execute(
                "SELECT pipeline || '#' || number FROM runs ORDER BY id DESC LIMIT ?", (_SHOWN,)
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error:
        return []
    return [str(row[0]) for row in rows if str(row[0]).startswith(incomplete)]


def _folder(context: click.Context) -> Path:
    settings = context.find_object(Settings)
    return (settings or Settings()).folder
