"""Checkpoints: a folder of each replicate that survives its tries, on another host as a copy.

On one host the tries of a replicate share a volume. What is needed elsewhere is copied now and then while a
try runs, for a host that is lost cannot be asked any more.
"""

from __future__ import annotations

import logging
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import BinaryIO

from orchestrator.domain.errors import EngineError, EngineUnavailable, StoreUnavailable
from orchestrator.domain.pipeline import Limits, Pipeline, RunnerSpec
from orchestrator.domain.run import Attempt
from orchestrator.ports.checkpoints import CheckpointCopy, CheckpointFiles
from orchestrator.ports.engine import Engine
from orchestrator.ports.store import Store
from orchestrator.services import naming
from orchestrator.services.archive import LeftOut, Link, Member, read_entries

log = logging.getLogger(__name__)

_MOST_FILES = 10_000
_LET_GO = 5.0
"""Seconds that a copy under way has to notice that nobody wants it any more."""


class _NotWhole(Exception):
    """Something of the folder cannot be copied; half a checkpoint is none."""


@dataclass(frozen=True, slots=True)
class Begin:
    """What the folder of a new try holds. ``copy`` is to be put into it; ``told`` is for people."""

    told: str
    copy: CheckpointCopy | None = None


class Checkpoints:
    """Has the newest checkpoint that there is in the folder of each try. Thread-safe.

    ``lacks`` tells what room lacks where copies are kept, or None: then none is made.
    """

    def __init__(
        self, store: Store, files: CheckpointFiles, lacks: Callable[[], str | None] = lambda: None
    ) -> None:
        self._store = store
        self._files = files
        self._lacks = lacks

    def begin(self, engine: Engine, pipeline: Pipeline, attempt: Attempt) -> Begin | None:
        """What a try begins with that does not simply go on where the one before it was; for later tries.

        Called before the try's container is made: a volume with something older in it is removed. Raises
        EngineError.
        """
        if attempt.number == 1:
            return None
        earlier = [
            other
            for other in self._store.attempts.of_run(attempt.run_id)
            if other.replicate == attempt.replicate
            and other.number < attempt.number
            and other.started_at is not None
        ]
        if not earlier or earlier[-1].host == attempt.host:
            return None
        last = earlier[-1]
        here = max((other.number for other in earlier if other.host == attempt.host), default=0)
        copy = self._files.find(attempt.run_id, attempt.replicate)
        elsewhere = f"try {last.number} was on host {last.host}"
        if copy is not None and copy.number > here:
            self._empty(engine, attempt)
            at = f"{copy.made_at:%Y-%m-%d %H:%M:%S} UTC"
            return Begin(f"{elsewhere}; $MLCI_CHECKPOINT_DIR holds what try {copy.number} had at {at}", copy)
        if here:
            return Begin(f"{elsewhere}; $MLCI_CHECKPOINT_DIR holds what try {here} left on this host before")
        asked = pipeline.execution.checkpoint_copy is not None
        why = "no copy had been made yet" if asked else "run.checkpoint_copy is not set"
        return Begin(f"{elsewhere}; $MLCI_CHECKPOINT_DIR is empty, for {why}")

    def fill(self, engine: Engine, attempt: Attempt, begin: Begin) -> None:
        """Put the copy into the container of the try, which has not started. Repeating is fine.

        Raises EngineError, NotFound when the copy is gone.
        """
        if begin.copy is not None:
            with self._files.open(attempt.run_id, attempt.replicate, begin.copy) as tar:
                engine.put(attempt.container, naming.CHECKPOINT, tar)

    @contextmanager
    def copying(self, engine: Engine, pipeline: Pipeline, attempt: Attempt) -> Iterator[None]:
        """Copy the folder every ``checkpoint_copy`` seconds, in a thread of its own; does not raise."""
        period = pipeline.execution.checkpoint_copy
        if period is None:
            yield
            return
        stop = threading.Event()
        act = partial(self._copy_often, engine, pipeline, attempt, period, stop)
        thread = threading.Thread(target=act, name=f"checkpoint-{attempt.id}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_LET_GO)

    def copy_last(self, engine: Engine, pipeline: Pipeline, attempt: Attempt) -> None:
        """Copy the folder of a container that has ended, for a new try; does not raise."""
        if pipeline.execution.checkpoint_copy is None:
            return
        if trouble := self._copy(engine, pipeline, attempt):
            log.warning("attempt %d: its checkpoint was not copied at its end: %s", attempt.id, trouble)

    def _copy_often(
        self, engine: Engine, pipeline: Pipeline, attempt: Attempt, period: float, stop: threading.Event
    ) -> None:
        said = ""
        while not stop.wait(period):
            trouble = self._copy(engine, pipeline, attempt, stop.is_set)
            if trouble and trouble != said and not stop.is_set():
                log.warning("attempt %d: its checkpoint was not copied: %s", attempt.id, trouble)
            said = trouble

    def _copy(
        self,
        engine: Engine,
        pipeline: Pipeline,
        attempt: Attempt,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> str:
        """Copy the folder now; what kept it from being copied, or nothing."""
        if (lack := self._lacks()) is not None:
            return lack
        try:
            opened = engine.get(attempt.container, naming.CHECKPOINT)
            if opened is None:
                return ""
            with opened as stream:
                write = partial(_pack, stream, _limits(pipeline), pipeline.runner, unwanted)
                self._files.keep(attempt.run_id, attempt.replicate, attempt.number, write, unwanted)
        except (EngineError, StoreUnavailable, _NotWhole) as error:
            return str(error)
        return ""

    def _empty(self, engine: Engine, attempt: Attempt) -> None:
        volume = naming.checkpoint_volume(self._store.instance, attempt.run_id, attempt.replicate)
        try:
            engine.remove_volume(volume)
        except EngineUnavailable:
            raise
        except EngineError as error:
            # As after a kill, when this try's container is there already: the copy is put over what it has.
            log.info("attempt %d: %s", attempt.id, error)


def _limits(pipeline: Pipeline) -> Limits:
    """What a checkpoint may take: as much as all that an attempt leaves, also in one file."""
    limits = pipeline.limits
    return replace(limits, files=max(limits.files, _MOST_FILES), file_size=limits.total_size)


def _pack(
    stream: BinaryIO, limits: Limits, runner: RunnerSpec, unwanted: Callable[[], bool], out: BinaryIO
) -> None:
    """Write what an engine sent of the folder as a tar of files that belong to the run's user."""
    folders: set[str] = set()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:

        def add(path: str, kind: bytes, mode: int, entry: Member | Link | None = None) -> None:
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.uid, info.gid = kind, mode, runner.uid, runner.gid
            if isinstance(entry, Member):
                info.size, info.mtime = entry.size, entry.mtime
            elif isinstance(entry, Link):
                info.linkname = entry.target
            archive.addfile(info, entry.stream if isinstance(entry, Member) else None)

        for entry in read_entries(stream, limits, PurePosixPath(naming.CHECKPOINT).name):
            if unwanted():
                raise _NotWhole("the attempt is over")
            if isinstance(entry, LeftOut):
                raise _NotWhole(f"{entry.path}: {entry.why}" if entry.path else entry.why)
            for parent in reversed(PurePosixPath(entry.path).parents[:-1]):
                if str(parent) not in folders:
                    folders.add(str(parent))
                    add(str(parent), tarfile.DIRTYPE, 0o755)
            kind = tarfile.SYMTYPE if isinstance(entry, Link) else tarfile.REGTYPE
            add(entry.path, kind, 0o777 if isinstance(entry, Link) else 0o644, entry)
