"""Backups: a database as it was at one moment, with the logs and artifacts that it names, in one file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from orchestrator.ports.progress import ProgressSink


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a copy of a database says of itself."""

    revision: str
    instance: str
    owners: tuple[str, ...]
    """The processes that served the database when it was copied."""
    attempts: tuple[int, ...]
    contents: tuple[str, ...]
    """The SHA-256 of each artifact that is kept."""


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What stands at the beginning of a backup."""

    created_at: datetime
    program: str
    """The version of the program that made it."""
    database: str
    """What it was made from, such as ``PostgreSQL 15.20``."""
    revision: str
    instance: str
    artifacts: bool
    files: int
    size: int
    """Bytes of all files in it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is there already, where a backup is to go."""

    holds_rows: bool
    servers: tuple[tuple[str, datetime], ...]
    """Serving processes, with when each was last seen."""


class Snapshots(Protocol):
    """Copies of the database, as SQLite files whatever the database is. All raise StoreError."""

    def take(self, into: Path, progress: ProgressSink) -> None:
        """Copy the database as it is at one moment, while others write, to a new file."""

    def look(self, file: Path) -> Snapshot:
        """What a copy says of itself. Raises BackupInvalid when a newer version of the program made it."""

    def renew(self, file: Path, at: datetime, *, without: Collection[str] | None) -> None:
        """Make a copy ready to be worked on.

        It gets this version's tables. Its servers are gone and its leases over, no volume counts as filled,
        and ids go on where the lost database cannot have given out any. Artifacts whose content is in
        ``without`` are marked as removed; None: all are.
        """

    def standing(self) -> Standing:
        """What the database holds now."""

    def load(self, file: Path, aside: str) -> None:
        """Put a renewed copy in the database's place: whole, or not at all.

        A SQLite file that is there is renamed, with ``aside`` appended; the tables of a PostgreSQL database
        are replaced.
        """

    def version(self) -> str:
        """Which database it is, such as ``PostgreSQL 15.20``."""


@dataclass(frozen=True, slots=True)
class Written:
    """A backup that was made."""

    file: Path
    size: int
    facts: BackupFacts
    absent: tuple[str, ...]
    """Artifacts that could not be copied: their files are gone."""
    damaged: tuple[str, ...]
    """Artifacts whose files no longer are what was stored; a restore leaves them out."""


class BackupFiles(Protocol):
    """The files of the state folder, and backups. All raise DiskFull and StoreError."""

    def workplace(self) -> AbstractContextManager[Path]:
        """A new folder beside the state's files, gone afterwards."""

    def measure(self, attempts: Sequence[int], contents: Sequence[str]) -> Mapping[str, int]:
        """Those of these logs and artifacts that are there: their names in a backup, with their bytes now."""

    def write(
        self,
        target: Path,
        facts: BackupFacts,
        database: Path,
        sizes: Mapping[str, int],
        contents: Sequence[str],
        progress: ProgressSink,
    ) -> Written:
        """Make a backup, which appears complete or not at all, readable by our user alone.

        ``target`` is a new file, or a folder that gets one with the time in its name. Of each file it gets as
        many bytes as ``sizes`` says: what is written to a log later belongs to a later moment. ``contents``
        are the artifacts that it should have.
        """

    def read(self, file: Path) -> BackupFacts:
        """The beginning of a backup. Raises BackupInvalid."""

    def unpack(self, file: Path, into: Path, progress: ProgressSink) -> tuple[Path, frozenset[str]]:
        """Unpack and verify all of a backup; the database's copy, and the contents that are there now.

        Raises BackupInvalid for what is cut off, changed, or none of ours.
        """

    def hold_files(self) -> bool:
        """Whether the state folder holds logs or artifacts."""

    def switch(self, unpacked: Path, aside: str) -> Callable[[], None]:
        """Put unpacked logs and artifacts in their places; what was there goes into a folder named ``aside``.

        Returns how to undo it.
        """


class Guard(Protocol):
    """Between those who copy stored files and those who remove or replace them."""

    def copying(self) -> AbstractContextManager[None]:
        """Keep what is stored. Raises StoreUnavailable."""

    def removing(self) -> AbstractContextManager[bool]:
        """Keep others from copying; gives False, and keeps nobody, when somebody does."""
