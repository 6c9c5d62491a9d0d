"""Drawing charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.domain.chart import Chart, Drawn


class Drawer(Protocol):
    """Makes pictures of charts. Thread-safe; bounded in time and memory."""

    def draw(self, charts: Sequence[Chart]) -> Sequence[Drawn]:
        """The pictures, in order; without those that could not be drawn, which are logged.

        Never raises for what a chart holds: a report without pictures is still a report.
        """
