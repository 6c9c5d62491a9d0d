"""Backup and restore of an installation.

A backup is taken while runs execute: the database first, as it is at one moment, then the logs and artifacts
that this copy names. Nothing of it is removed meanwhile, because retention asks the same guard.

A restored installation is the one that was lost, at that moment. What was at work then is taken over, as
after a crash: its container is found by its name, or it is gone and the attempt is lost and tried again. What
began later is not in the backup; its containers are known by ids that are never given out again.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from orchestrator.domain.errors import OrchestratorError, StoreError
from orchestrator.ports.backup import BackupFacts, BackupFiles, Guard, Snapshots, Written
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Clock, Processes

SERVER_SEEN_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    facts: BackupFacts
    attempts: int
    absent: tuple[str, ...]
    """Artifacts that the database names and the backup lacks."""
    aside: str
    """What was put aside has this in its name; empty when there was nothing."""


@dataclass(frozen=True, slots=True)
class Backups:
    """Makes backups and restores them."""

    snapshots: Snapshots
    files: BackupFiles
    guard: Guard
    clock: Clock
    processes: Processes
    program: str

    def make(self, target: Path, progress: ProgressSink, *, artifacts: bool = True) -> Written:
        """Back up to a new file, or into a folder. Raises InvalidInput, DiskFull and StoreError."""
        with self.guard.copying(), self.files.workplace() as workplace:
            at = self.clock.now()
            database = workplace / "database.sqlite"
            self.snapshots.take(database, progress)
            seen = self.snapshots.look(database)
            contents = seen.contents if artifacts else ()
            sizes = self.files.measure(seen.attempts, contents)
            facts = BackupFacts(
                created_at=at,
                program=self.program,
                database=self.snapshots.version(),
                revision=seen.revision,
                instance=seen.instance,
                artifacts=artifacts,
                files=len(sizes) + 1,
                size=sum(sizes.values()) + database.stat().st_size,
            )
            return self.files.write(target, facts, database, sizes, contents, progress)

    def restore(self, file: Path, progress: ProgressSink, *, force: bool = False) -> Restored:
        """Put a backup in the place of what is there.

        Raises InvalidInput and BackupInvalid for the file, StoreError when a server lives or, without
        ``force``, when the installation holds something, and DiskFull. Then nothing was changed.
        """
        facts = self.files.read(file)
        with self.guard.removing() as alone:
            if not alone:
                raise StoreError("a backup or retention is at work on this installation", "wait for its end")
            self._refuse_if_in_use(force)
            with self.files.workplace() as workplace:
                database, there = self.files.unpack(file, workplace, progress)
                seen = self.snapshots.look(database)
                self._refuse_if_served(seen.owners, force)
                at = self.clock.now()
                absent = tuple(content for content in seen.contents if content not in there)
                progress(ProgressEvent("bringing the database up to date"))
                self.snapshots.renew(database, at, without=absent if facts.artifacts else None)
                # All that took its time, in which a server may have been started.
                holds = self._refuse_if_in_use(force)
                aside = f"replaced-{at:%Y%m%d-%H%M%S}"
                progress(ProgressEvent("putting everything in its place"))
                undo = self.files.switch(workplace, aside)
                try:
                    self.snapshots.load(database, aside)
                except BaseException:
                    undo()
                    raise
        return Restored(
            dataclasses.replace(facts, revision=seen.revision),
            len(seen.attempts),
            absent if facts.artifacts else (),
            aside if holds else "",
        )

    def _refuse_if_in_use(self, force: bool) -> bool:
        standing = self.snapshots.standing()
        now = self.clock.now()
        for owner, seen_at in standing.servers:
            silent = (now - seen_at).total_seconds()
            if silent < SERVER_SEEN_WITHIN and not self.processes.is_dead(owner):
                raise StoreError(
                    f"the server {owner} works on this installation: it was last seen {silent:.0f} s ago",
                    "stop it first; if it ended without signing off, it counts as gone in "
                    f"{math.ceil(SERVER_SEEN_WITHIN - silent)} s",
                )
        holds = standing.holds_rows or self.files.hold_files()
        if holds and not force:
            raise StoreError(
                "there is an installation already, with rows or files of its own",
                "restore into another folder and database, or replace this one with --force",
            )
        return holds

    def _refuse_if_served(self, owners: tuple[str, ...], force: bool) -> None:
        """The backup's own server may go on here: two of one identity would fight for its containers."""
        here = self.processes.this().split("/")[:2]
        for owner in owners:
            if not force and owner.split("/")[:2] == here and not self.processes.is_dead(owner):
                raise OrchestratorError(
                    f"the server {owner}, which this is a backup of, still runs on this machine",
                    "stop it first: the restored installation takes over its containers",
                )
