"""Progress of long work on standard error.

On a terminal one line that changes, with the last line that the work printed; elsewhere a line for each part.
"""

from __future__ import annotations

import sys
from types import TracebackType

from orchestrator.cli.follow import progress_text
from orchestrator.cli.output import is_terminal, say
from orchestrator.domain.text import clean
from orchestrator.ports.progress import ProgressEvent


class ProgressLine:
    """A ProgressSink for one thread; a context manager that leaves a clean line behind."""

    def __init__(self, *, lines: bool = False) -> None:
        self._lines = lines
        self._terminal = is_terminal()
        self._told: set[str] = set()
        self._part = ""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wipe()

    def __call__(self, event: ProgressEvent) -> None:
        """Show an event."""
        if event.line:
            if self._lines:
                self._wipe()
                say(f"  | {clean(event.line)}")
            elif self._terminal:
                self._show(f"{self._part} {clean(event.line).strip()}".strip())
        elif self._terminal:
            self._part = progress_text(event)
            self._show(self._part)
        elif event.what not in self._told:
            self._told.add(event.what)
            say(clean(event.what))

    def _show(self, text: str) -> None:
        from shutil import get_terminal_size

        width = get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text[:width]}")
        sys.stderr.flush()

    def _wipe(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
