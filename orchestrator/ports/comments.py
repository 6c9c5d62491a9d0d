"""Which comments at forges are ours, so that each is changed and none is made twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pipeline has one comment: a repository, and in it ``pull/7``."""

    repository: str
    subject: str
    pipeline: str


@dataclass(frozen=True, slots=True)
class ReportComment:
    """A comment that holds the newest report.

    ``external_id`` is what the forge calls it, empty before it is known. ``run_id`` is the run that it tells
    of, or is to tell of; ``told`` what it said last: the word, and the hash of everything.
    """

    external_id: str
    run_id: int
    told: str

    @property
    def word(self) -> str:
        """The word that was told last; empty before the first."""
        return self.told.partition(" ")[0].replace("_", " ")


class ReportComments(Protocol):
    """What the database knows of them. Whoever makes a comment does so alone."""

    def at(self, place: Place) -> ReportComment | None:
        """What is known of it now."""

    def claim(self, place: Place, run_id: int, now: datetime, seconds: float) -> ReportComment | None:
        """Let it tell of that run, unless a newer one is told of there.

        None while somebody else makes it, for as many ``seconds`` at most. Where its ``external_id`` is empty
        the caller is the one who makes it.
        """

    def told(self, place: Place, run_id: int, external_id: str, told: str, now: datetime) -> bool:
        """It says that of the run. False when a newer run is to be told of meanwhile; its id is kept."""

    def missing(self, place: Place, external_id: str, now: datetime) -> bool:
        """The forge has no such comment any more: whether the caller is the one who makes another."""

    def release(self, place: Place, now: datetime) -> None:
        """It could not be made."""
