"""Readers of the files in which trainings leave their numbers, one module per format."""

from __future__ import annotations

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.adapters.collectors.json_file import JsonCollector
from orchestrator.ports.collecting import Collectors
from orchestrator.ports.world import Collector


def default_collectors() -> tuple[Collector, ...]:
    """All formats, in the order in which they are asked whether a file is theirs."""
    return (JsonCollector(),)


def format_readers() -> Collectors:
    """Readers of all formats, and what tells which file is whose."""
    return FormatReaders()
