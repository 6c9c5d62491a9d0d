"""Readers of the files in which trainings leave their numbers, one module per format."""

from __future__ import annotations

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.ports.collecting import Collectors


def format_readers() -> Collectors:
    """Readers of all formats, and what tells which file is whose."""
    return FormatReaders()
