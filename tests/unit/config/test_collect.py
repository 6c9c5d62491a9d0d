"""What the entries of `collect:` come to."""

from __future__ import annotations

from pydantic import TypeAdapter

from orchestrator.config.models.collect import Collected, declared_files, declared_readings
from orchestrator.domain.pipeline import CollectSpec

ITEMS: TypeAdapter[tuple[Collected, ...]] = TypeAdapter(tuple[Collected, ...])
PATTERN = r"Accuracy:\s+(?P<accuracy>[0-9.]+)"


def test_entries_name_files_and_say_how_they_are_read() -> None:
    items = ITEMS.validate_python(
        (
            "metrics.json",
            {"file": "metrics.txt", "pattern": PATTERN},
            {"file": "scores", "format": "csv"},
            {"file": "metrics.txt", "pattern": r"Loss (?P<loss>\S+)"},
            {"file": "plain.csv"},
            {"stdout": PATTERN},
            {"stdout": "jsonlines"},
        )
    )
    assert declared_files(items) == ("metrics.json", "metrics.txt", "scores", "plain.csv")
    assert declared_readings(items) == (
        CollectSpec("metrics.txt", PATTERN),
        CollectSpec("scores", format="csv"),
        CollectSpec("metrics.txt", r"Loss (?P<loss>\S+)"),
        CollectSpec("", PATTERN),
        CollectSpec("", ""),
    )
