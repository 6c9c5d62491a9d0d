"""What the files of attempts say beside their metrics, as it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.domain.collected import Param, Plot, Series
from orchestrator.domain.curves import SeriesFacts


class Findings(Protocol):
    """Series, parameters and plots of attempts. Thread-safe; each call is one short read."""

    def params(self, attempt_id: int) -> Sequence[Param]:
        """By name."""

    def series_facts(self, attempt_id: int) -> Sequence[SeriesFacts]:
        """What its series come to, by name."""

    def series(self, attempt_id: int, name: str) -> Series:
        """The points that are stored of a series. NotFound when there is none of that name."""

    def plots(self, attempt_id: int) -> Sequence[Plot]:
        """In the order in which they were found; without contents, which the artifacts of their paths are."""
