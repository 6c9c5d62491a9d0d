"""What the database knows of looks and of occasions. As all of it: see ``ports/store.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.domain.pipeline import Pipeline
from orchestrator.ports.records import UpstreamRun, Watched


class Watches(Protocol):
    """How the looks at sources, datasets and occasions go, for people to see."""

    def all(self) -> Mapping[str, Watched]:
        """Everything that was ever looked at, by name."""

    def looked(self, looks: Mapping[str, tuple[datetime, str]]) -> None:
        """These were looked at then and all was well; with each the note on it.

        Trouble that another server has with one of them stays told for as long as that server renews it.
        """

    def changed(self, name: str, at: datetime) -> None:
        """A look found a change."""

    def troubled(self, name: str, trouble: str, tries: int, not_before: datetime, at: datetime) -> None:
        """A look failed, the ``tries``-th in a row, and the next is at ``not_before``.

        The journal gets a line when that trouble is new.
        """

    def answered(self, name: str, at: datetime) -> None:
        """Trouble is over, which the journal gets a line of; nothing when there was none."""

    def being_written(self) -> Mapping[str, datetime]:
        """The datasets that are not whole yet, by their keys, and since when nothing has changed in each."""

    def defined_by(self, repository: str) -> Mapping[str, Pipeline]:
        """The pipelines of a repository with a file of its own, by name, as somebody saw them last."""

    def define(self, repository: str, pipelines: Mapping[str, Pipeline]) -> None:
        """These are its pipelines now, and no others."""


class Occasions(Protocol):
    """Which times and which runs of other pipelines were served. Each pipeline's are its own."""

    def served(self, pipeline: str) -> Mapping[str, datetime]:
        """The time served last, by schedule."""

    def begin(self, pipeline: str, schedule: str, at: datetime) -> None:
        """A schedule is new: only times after ``at`` count. Nothing when it is known already."""

    def mark(self, pipeline: str, upstream: str) -> int:
        """The id up to which all runs of an upstream pipeline are dealt with.

        At the first question it is set, so that what has ended already is not followed.
        """

    def move_mark(self, pipeline: str, upstream: str, run_id: int) -> None:
        """All runs of it up to that id are dealt with. It never goes back."""

    def runs_above(self, upstream: str, mark: int) -> Sequence[UpstreamRun]:
        """The runs of a pipeline with greater ids, oldest first."""

    def followed(self, pipeline: str, upstream: str, mark: int) -> frozenset[int]:
        """Ids above ``mark`` of the upstream runs that were followed, or declined."""
