"""Copies of checkpoints, one file each: ``<root>/RUN-REPLICATE-TRY.tar``."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from orchestrator.adapters.files.failures import storing
from orchestrator.domain.errors import NotFound
from orchestrator.ports.checkpoints import CheckpointCopy

_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.tar")
_UNFINISHED = ".part"
_ABANDONED_AFTER = 24 * 3600.0


class FolderCheckpoints:
    """Implements ``ports.checkpoints.CheckpointFiles`` in a folder that only its owner can read.

    A copy appears under its name at once and whole, or never.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(
        self,
        run_id: int,
        replicate: int,
        number: int,
        write: Callable[[BinaryIO], object],
        unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Replace the copy by what ``write`` writes, unless that is of an older try or unwanted by then."""
        with storing("a checkpoint", self._root):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(suffix=_UNFINISHED, dir=self._root)
        temporary = Path(name)
        try:
            with storing("a checkpoint", self._root), os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if unwanted() or any(other > number for other, _ in self._copies(run_id, replicate)):
                return
            with storing("a checkpoint", self._root):
                temporary.rename(self._root / f"{run_id}-{replicate}-{number}.tar")
        finally:
            temporary.unlink(missing_ok=True)
        for older, path in self._copies(run_id, replicate):
            if older < number:
                path.unlink(missing_ok=True)

    def find(self, run_id: int, replicate: int) -> CheckpointCopy | None:
        """The copy of the newest try, or None."""
        for number, path in sorted(self._copies(run_id, replicate), reverse=True):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            return CheckpointCopy(number, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
        return None

    def open(self, run_id: int, replicate: int, copy: CheckpointCopy) -> BinaryIO:
        """Read it."""
        try:
            return (self._root / f"{run_id}-{replicate}-{copy.number}.tar").open("rb")
        except FileNotFoundError:
            raise NotFound(f"the copy of the checkpoint of run {run_id} is gone") from None

    def runs(self) -> Collection[int]:
        """The runs of which there are copies. What a killed writer left is removed on the way."""
        found = set()
        for path in self._files():
            if match := _NAME.fullmatch(path.name):
                found.add(int(match[1]))
            elif path.suffix == _UNFINISHED and time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink(missing_ok=True)
        return found

    def forget(self, run_id: int) -> None:
        """Remove all copies of a run."""
        for path in self._files():
            if (match := _NAME.fullmatch(path.name)) and int(match[1]) == run_id:
                path.unlink(missing_ok=True)

    def _copies(self, run_id: int, replicate: int) -> Iterator[tuple[int, Path]]:
        for path in self._files():
            match = _NAME.fullmatch(path.name)
            if match and (int(match[1]), int(match[2])) == (run_id, replicate):
                yield int(match[3]), path

    def _files(self) -> list[Path]:
        with storing("a checkpoint", self._root):
            return list(self._root.iterdir()) if self._root.is_dir() else []
