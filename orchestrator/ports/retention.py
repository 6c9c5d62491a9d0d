"""What retention asks of the database, of the state folder and of hosts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.retention import Going, RunFacts


@dataclass(frozen=True, slots=True)
class Keep:
    """A run that somebody wants kept."""

    run_id: int
    who: str
    reason: str
    at: datetime


class Retention(Protocol):
    """The database as retention sees it: facts of everything at once, and removals in short transactions.

    A removal looks again at what it removes: a run that meanwhile is needed stays, and so does what it has.
    Each writes one journal entry per run in the same transaction. Rows come first, files after: a file whose
    row is gone, or says that it was removed, is found by whoever looks for files without an owner.
    """

    def runs(self) -> Sequence[RunFacts]:
        """All runs, oldest first; ``logs`` and ``log_size`` are 0, because logs are files."""

    def needed(self) -> Mapping[int, str]:
        """Runs that must stay with all they have, and why: kept by a person, pinned, live, or owing an
        action or a mail.
        """

    def remove_runs(self, going: Sequence[Going], who: str, at: datetime) -> int:
        """Remove runs with all their rows, their journal apart; how many went. No id or number is reused."""

    def remove_artifacts(self, going: Sequence[Going], who: str, at: datetime) -> int:
        """Write down that the contents of runs' artifacts are given up; of how many runs."""

    def remove_logs(
        self, going: Sequence[Going], attempts: Mapping[int, Sequence[int]], who: str, at: datetime
    ) -> int:
        """Write down that logs of runs are given up, those of the ``attempts`` by run; of how many runs."""

    def remove_journal(self, before: datetime, limit: int) -> int:
        """Remove at most ``limit`` entries of that age about runs that are gone, and about no run; how
        many.
        """

    def count_journal(self, before: datetime) -> int:
        """How many entries :meth:`remove_journal` would remove in all."""

    def contents(self) -> Mapping[int, Sequence[tuple[str, int]]]:
        """By run: the contents of its artifacts that are not given up, with their bytes."""

    def hashes(self, first: str, last: str) -> Collection[str]:
        """The contents from ``first`` on and before ``last`` that are not given up."""

    def log_owners(self) -> Mapping[int, int]:
        """The attempts whose log is not given up, with their runs."""

    def without_owner(self, attempts: Collection[int]) -> Collection[int]:
        """Those of the attempts that do not exist, or whose log is given up."""

    def image_uses(self) -> Mapping[tuple[str, str], datetime]:
        """When an attempt was last in an image, by host and the image's id."""

    def data_uses(self) -> Mapping[tuple[str, str], datetime]:
        """When an attempt last had a dataset version, by host and fingerprint."""

    def live_releases(self) -> Collection[tuple[str, str]]:
        """What is live, as server and release."""

    def staged(self) -> Mapping[tuple[str, str], datetime]:
        """When volumes were filled, by host and volume."""

    def current_data(self) -> Mapping[str, str]:
        """The fingerprints that pipelines see now, with a dataset's name."""

    def keep(self, run_id: int, who: str, reason: str, at: datetime) -> None:
        """Keep a run with all it has, whatever the rules say; again: with the newer reason. NotFound."""

    def unkeep(self, run_id: int, who: str, at: datetime) -> bool:
        """Leave it to the rules again; False when nobody kept it."""

    def keeps(self) -> Sequence[Keep]:
        """The runs that people keep, by id."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file in the state folder: a content's hash or an attempt's id. ``size`` in bytes."""

    name: str
    size: int
    changed_at: datetime


class BlobFiles(Protocol):
    """Stored contents as files. Thread-safe."""

    def parts(self) -> Sequence[tuple[str, str]]:
        """The ranges of hashes in which contents lie, each with its first hash and the one behind its end."""

    def files(self, first: str, last: str) -> Sequence[FileFacts]:
        """The contents of a range."""

    def drop(self, sha256: str, unused_since: datetime) -> int | None:
        """Remove a content unless it was stored (again) after ``unused_since``; its bytes, None if it stays.

        Safe against whoever stores the same content at the same moment: it then is there afterwards.
        """


class LogStorage(Protocol):
    """Logs as files. Thread-safe."""

    def files(self) -> Sequence[FileFacts]:
        """All logs, named by their attempts' ids."""

    def drop(self, attempt_id: int) -> int | None:
        """Remove a log; its bytes, None when there is none."""


class StateFolder(Protocol):
    """The state folder as a whole."""

    def alone(self) -> AbstractContextManager[bool]:
        """Hold the maintenance lock for as long as the block lasts; False when somebody else holds it."""

    def belongs_to(self, instance: str, *, claim: bool) -> bool:
        """Whether the files here are those of this database, or nobody's; these it gets with ``claim``."""
