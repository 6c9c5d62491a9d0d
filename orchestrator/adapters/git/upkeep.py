"""Mirrors as retention sees them: which there are, what they keep, and their removal."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orchestrator.adapters.git.history import COMMIT
from orchestrator.adapters.git.location import Location
from orchestrator.adapters.git.mirror import PINS, locked
from orchestrator.adapters.git.process import GitFailed, GitTimeout, run_git
from orchestrator.domain.errors import DiskFull
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.upkeep import MirrorFacts

_NAME: Final = re.compile(r"[0-9a-f]{16}")
_LET_GO: Final = "mlci-let-go"
"""The file that says since when a mirror has what nobody needs."""
_DAY: Final = 86400.0
_LONGEST: Final = 1800.0
_PATIENCE: Final = 1.0
_AT_ONCE: Final = 1000


class MirrorFiles:
    """Implements ``ports.upkeep.Mirrors`` for the mirrors below a folder; ``locate`` finds sources."""

    def __init__(self, root: Path, locate: Callable[[SourceSpec], Location]) -> None:
        self._root = root
        self._locate = locate

    def names(self, source: SourceSpec) -> Collection[str]:
        """What the mirrors of a source are called. SourceError when that cannot be found out."""
        location = self._locate(source)
        return {replace(location, strangers=strangers).mirror for strangers in (False, True)}

    def all(self) -> Sequence[MirrorFacts]:
        """The mirrors that there are."""
        try:
            found = [entry.name for entry in os.scandir(self._root) if _NAME.fullmatch(entry.name)]
        except FileNotFoundError:
            return ()
        return [MirrorFacts(name, self._used_at(name)) for name in sorted(found)]

    def pins(self, name: str, before: datetime) -> Sequence[str]:
        """The commits that a mirror keeps since before then. Of packed ones a day must do."""
        folder, moment = self._root / name, before.timestamp()
        found = set()
        with suppress(OSError):
            for entry in os.scandir(folder / PINS):
                if COMMIT.fullmatch(entry.name) and entry.stat().st_mtime < moment:
                    found.add(entry.name)
        with suppress(OSError):
            packed = folder / "packed-refs"
            if packed.stat().st_mtime < max(moment, time.time() - _DAY):
                found.update(_packed(packed))
        return sorted(found)

    def unpin(self, name: str, commits: Collection[str]) -> int:
        """Keep commits no more; how many were kept. Their room is made within days."""
        folder, some = self._root / name, [commit for commit in commits if COMMIT.fullmatch(commit)]
        with locked(self._root, name, _PATIENCE) as mine:
            if not mine or not folder.is_dir():
                return 0
            for start in range(0, len(some), _AT_ONCE):
                told = "".join(f"delete {PINS}{commit}\n" for commit in some[start : start + _AT_ONCE])
                try:
                    run_git(
                        ["-C", str(folder), "update-ref", "--stdin"], timeout=_LONGEST, told=told.encode()
                    )
                except (GitFailed, GitTimeout):
                    return start
            if not (folder / _LET_GO).exists():
                (folder / _LET_GO).touch()
        return len(some)

    def tidy(self, name: str) -> None:
        """Make room of what is not kept any more, at most once a day."""
        folder = self._root / name
        try:
            if (folder / _LET_GO).stat().st_mtime > time.time() - _DAY:
                return
        except OSError:
            return
        with locked(self._root, name, _PATIENCE) as mine:
            if mine:
                with suppress(GitFailed, GitTimeout, DiskFull):
                    run_git(["-C", str(folder), "gc", "--quiet", "--prune=now"], timeout=_LONGEST)
                    (folder / _LET_GO).unlink(missing_ok=True)

    def drop(self, name: str, unused_since: datetime) -> int | None:
        """Remove a mirror unless it was used after then; its bytes, None if it stays."""
        with locked(self._root, name, _PATIENCE) as mine:
            if not mine or self._used_at(name) > unused_since:
                return None
            doomed = Path(tempfile.mkdtemp(dir=self._root, prefix="broken-"))
            for part in (name, f"{name}.lfs"):
                with suppress(FileNotFoundError):
                    (self._root / part).rename(doomed / part)
        size = sum(path.lstat().st_size for path in doomed.rglob("*"))
        shutil.rmtree(doomed, ignore_errors=True)
        return size

    def _used_at(self, name: str) -> datetime:
        """When it was used last: whoever uses a mirror touches its lock."""
        for path in (self._root / f"{name}.lock", self._root / name):
            with suppress(OSError):
                return datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return datetime.now(UTC)


def _packed(file: Path) -> Iterator[str]:
    """The commits that are kept by refs in git's file of all of them."""
    for line in file.read_text("utf-8", "replace").splitlines():
        _, _, ref = line.partition(" ")
        commit = ref.removeprefix(PINS)
        if ref.startswith(PINS) and COMMIT.fullmatch(commit):
            yield commit
