"""How long work tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """A step of long work.

    ``done`` and ``total`` are in ``unit`` (bytes, files, steps); ``total`` None: unknown.
    """

    what: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    line: str = ""


ProgressSink = Callable[[ProgressEvent], None]
"""Takes progress; called from the working thread, must return at once and never raise."""
