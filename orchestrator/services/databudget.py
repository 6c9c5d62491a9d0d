"""The room that staged data may take on a host: those unused for longest make room for new ones."""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.domain.change import DatasetVersion
from orchestrator.domain.errors import EngineError, EngineUnavailable
from orchestrator.domain.pipeline import HostSpec
from orchestrator.domain.report import format_size
from orchestrator.ports.engine import Engine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services import naming

log = logging.getLogger(__name__)


class DataBudget:
    """Keeps hosts within their ``data_budget``. Thread-safe.

    What an unfinished run needs never goes, so a host may be over it for as long as that lasts: two runs that
    each need half of it and a bit are no reason for either to fail.
    """

    def __init__(self, store: Store, clock: Clock, owner: str) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._coming: Counter[str] = Counter()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def room(
        self, engine: Engine, host: HostSpec, version: DatasetVersion, progress: ProgressSink
    ) -> Iterator[None]:
        """Make room for a version, which comes while the block lasts.

        Raises EngineError when it alone is larger than the budget, EngineUnavailable.
        """
        budget = host.data_budget
        if budget is None:
            yield
            return
        if version.size > budget:
            raise EngineError(
                f"{version.label} has {format_size(version.size)}, and {host.name} may hold"
                f" {format_size(budget)} of data (hosts.{host.name}.data_budget)",
                "raise it, or let the runner choose another host",
            )
        with self._locks[host.name]:
            self._make_room(engine, host, budget, version, progress)
            self._coming[host.name] += version.size
        try:
            yield
        finally:
            with self._locks[host.name]:
                self._coming[host.name] -= version.size

    def _make_room(
        self,
        engine: Engine,
        host: HostSpec,
        budget: int,
        version: DatasetVersion,
        progress: ProgressSink,
    ) -> None:
        staged = self._store.attempts.staged_on(host.name)
        own = naming.data_volume(self._store.instance, version.fingerprint)
        over = sum(s.size or 0 for s in staged if s.volume != own)
        over += self._coming[host.name] + version.size - budget
        if over <= 0:
            return
        uses = self._store.retention.data_uses()
        for thing in sorted(
            staged, key=lambda s: max(s.used_at, uses.get((host.name, s.fingerprint), s.used_at))
        ):
            if over <= 0 or thing.volume == own or not thing.size:
                continue
            if self._removed(engine, host.name, thing.volume):
                over -= thing.size
                told = f"{format_size(thing.size)} of data ({thing.volume}) made room for {version.label}"
                log.info("%s: %s", host.name, told)
                progress(ProgressEvent(f"on {host.name}, {told}"))
                self._store.journal.note(self._owner, f"host {host.name}", told, self._clock.now())
        if over > 0:
            log.warning(
                "%s holds %s of data more than hosts.%s.data_budget says: unfinished runs need them",
                *(host.name, format_size(over), host.name),
            )

    def _removed(self, engine: Engine, host: str, volume: str) -> bool:
        if volume in self._needed():
            return False
        # Forgotten first: whoever finds the volume after this looks at what is in it. Looked once more then:
        # a run that found it before is in the database by now.
        self._store.attempts.forget_staged(host, volume)
        if volume in self._needed():
            return False
        try:
            engine.remove_volume(volume)
        except EngineUnavailable:
            raise
        except EngineError as error:
            log.info("%s: %s stays: %s", host, volume, error)
            return False
        return True

    def _needed(self) -> set[str]:
        return {
            naming.data_volume(self._store.instance, version.fingerprint)
            for run in self._store.runs.unfinished()
            for version in run.change.datasets
        }
