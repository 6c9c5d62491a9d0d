"""Readers of the files in which trainings leave their numbers, one module per format."""

from __future__ import annotations

from pathlib import Path

from orchestrator.adapters.collectors.formats import FormatReaders
from orchestrator.ports.collecting import Collectors


def format_readers(scratch: Path | None = None) -> Collectors:
    """Readers of all formats, and what tells which file is whose. Copies of files lie in ``scratch``."""
    return FormatReaders(scratch)
