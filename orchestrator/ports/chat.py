"""Reports as messages of chats."""

from __future__ import annotations

from typing import Protocol

from orchestrator.domain.report import Report


class Chats(Protocol):
    """Writes what the hooks of chat services take."""

    def message(self, form: str, report: Report) -> bytes:
        """A report as ``slack``, ``teams``, ``discord`` or ``mattermost`` takes it: JSON in UTF-8.

        It is within the service's limits, and calls nobody, whatever a repository has written.
        """
