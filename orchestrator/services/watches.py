"""Looking at what is watched: each thing apart, whatever becomes of the others.

A look that fails is told once, and tried again with backoff. How the looks go is written down for people: at
once where something became new, and now and then where all is well.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from orchestrator.domain.errors import (
    DatasetUnavailable,
    InvalidInput,
    OrchestratorError,
    SourceUnavailable,
    StoreUnavailable,
)
from orchestrator.domain.pace import after_failure, after_success
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec, Pipeline, SourceSpec
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services.detect import Detector

log = logging.getLogger(__name__)

_SCP_FORM = re.compile(r"(?:[^@/:]+@)?(?P<host>\[[^\]]+\]|[^@/:]+):")
REPOSITORY: Final = "repository "
"""What the names of looks at repositories with a file of their own begin with."""
HERE: Final = ""
DATA_HERE: Final = "the data on this machine"
"""The servers of what lies on this machine: repositories do not wait for the hashing of data."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found. ``again`` is after how many seconds another look is worth it, where that differs
    from the usual.
    """

    found: bool = False
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Something to look at every so many seconds. ``name`` is such as ``source wine/repository``.

    ``server`` is who is asked, so that one who answers slowly holds up nobody else. ``note`` says what else
    people may want to know, such as the quota that is left. After a failure it is looked at after ``retry``
    seconds, if that is sooner. An ``occasion`` waits for no look at what is watched.
    """

    name: str
    look: Callable[[], Sight]
    every: float
    server: str = HERE
    pipeline: str = ""
    source: SourceSpec | None = None
    dataset: DatasetSpec | None = None
    note: Callable[[], str] = field(default=lambda: "")
    retry: float | None = None
    occasion: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """How a look went: what it found, or why it could not be found out; and seconds until the next."""

    sight: Sight
    wait: float
    trouble: str = ""
    tries: int = 0


@dataclass(frozen=True, slots=True)
class _Memory:
    trouble: str = ""
    tries: int = 0
    hooked: bool = False
    """Whether it tells its changes by itself, so that asking is only for what was missed."""


class Looks:
    """Carries out looks and remembers how they went. Thread-safe.

    ``chance`` gives numbers from 0 to 1; ``mask`` hides secrets in what is told.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        chance: Callable[[], float],
        mask: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._mask = mask
        self._store = store
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._memories: dict[str, _Memory] = {}
        self._well: dict[str, tuple[datetime, str]] = {}
        self._past: dict[str, str] | None = None

    @property
    def problems(self) -> Mapping[str, str]:
        """What could not be looked at the last time, and why."""
        with self._lock:
            return {name: memory.trouble for name, memory in self._memories.items() if memory.trouble}

    def look(self, watch: Watch, called: bool = False) -> Looked:
        """Look now; ``called``: because somebody said that there is something to see. Raises only defects."""
        before = self._memory(watch.name)
        try:
            sight = watch.look()
        except OrchestratorError as error:
            return self._failed(watch, before, error)
        hooked = called or (before.hooked and not sight.found)
        if before.hooked and not hooked:
            log.info("%s: no webhook told of what was found; it is asked at its own pace again", watch.name)
        self._remember(watch.name, _Memory(hooked=hooked))
        if before.trouble:
            log.info("%s: answers again", watch.name)
            self._write(lambda at: self._store.watches.answered(watch.name, at))
        if sight.found:
            self._write(lambda at: self._store.watches.changed(watch.name, at))
        with self._lock:
            self._well[watch.name] = (self._clock.now(), watch.note())
        # Who calls may not yet show what it called for: its answers come from copies that lag behind.
        early = called and not sight.found
        usual = after_success(watch.every, hooked and not early)
        return Looked(sight, usual if sight.again is None else min(usual, sight.again))

    def calls_by_itself(self, name: str) -> None:
        """A webhook came from it: from now on it is asked more seldom."""
        self._remember(name, replace(self._memory(name), hooked=True))

    def forget(self, name: str) -> None:
        """It is watched no more."""
        with self._lock:
            self._memories.pop(name, None)
            self._well.pop(name, None)

    def write_down(self) -> None:
        """Write down which looks went well since the last time."""
        with self._lock:
            well, self._well = self._well, {}
        if well:
            self._write(lambda _: self._store.watches.looked(well))

    def _failed(self, watch: Watch, before: _Memory, error: OrchestratorError) -> Looked:
        tries, trouble = before.tries + 1, self._mask(str(error))
        # Said once, not at every look; the database has it for those who ask later why nothing ran.
        if before.trouble != trouble:
            log.error("%s: %s", watch.name, trouble)
        self._remember(watch.name, _Memory(trouble, tries, before.hooked))
        asked = error.retry_after if isinstance(error, SourceUnavailable | DatasetUnavailable) else None
        if isinstance(error, InvalidInput):
            # It was found out, and is a person's to mend: nobody is spared by asking more seldom.
            wait = after_success(watch.every, before.hooked)
        else:
            wait = after_failure(watch.retry or watch.every, tries, asked, self._chance())
        self._write(
            lambda at: self._store.watches.troubled(
                watch.name, trouble, tries, at + timedelta(seconds=wait), at
            )
        )
        with self._lock:
            self._well.pop(watch.name, None)
        return Looked(Sight(), wait, trouble, tries)

    def _memory(self, name: str) -> _Memory:
        with self._lock:
            if self._past is None:
                # What the process before this one told is not told again, and its end is.
                try:
                    self._past = {known.name: known.trouble for known in self._store.watches.all().values()}
                except StoreUnavailable as error:
                    log.error("how looks went is not known: %s", error)
                    return self._memories.get(name, _Memory())
            return self._memories.get(name) or _Memory(self._past.get(name, ""))

    def _remember(self, name: str, memory: _Memory) -> None:
        with self._lock:
            self._memories[name] = memory
            if self._past is not None:
                self._past.pop(name, None)

    def _write(self, write: Callable[[datetime], None]) -> None:
        try:
            write(self._clock.now())
        except StoreUnavailable as error:
            log.error("how looks went is not written down: %s", error)


def watches_of(pipeline: Pipeline, detector: Detector, note: Callable[[SourceSpec], str]) -> list[Watch]:
    """The looks at a pipeline's sources and datasets. ``note`` says what else to know of a source."""

    def poll(source: SourceSpec) -> Sight:
        found = bool(detector.poll_source(pipeline, source))
        return Sight(found, detector.again(pipeline, source))

    def scan(dataset: DatasetSpec) -> Sight:
        return Sight(bool(detector.scan_dataset(pipeline, dataset)))

    return [
        *(
            Watch(
                source_watch(pipeline.name, source.name),
                partial(poll, source),
                source.poll,
                server_of(source.location),
                pipeline.name,
                source,
                note=partial(note, source),
            )
            for source in pipeline.sources
        ),
        *(
            Watch(
                dataset_watch(pipeline.name, dataset.name),
                partial(scan, dataset),
                dataset.poll,
                DATA_HERE if dataset.kind is DatasetKind.FOLDER else server_of(dataset.path),
                pipeline.name,
                dataset=dataset,
            )
            for dataset in pipeline.datasets
        ),
    ]


def source_watch(pipeline: str, source: str) -> str:
    """What the looks at a source are called."""
    return f"source {pipeline}/{source}"


def dataset_watch(pipeline: str, dataset: str) -> str:
    """What the looks at a dataset are called."""
    return f"dataset {pipeline}/{dataset}"


def asks_for(watch: Watch, repository: str) -> bool:
    """Whether it looks at the repository ``owner/name`` of a forge."""
    if watch.source is None:
        return False
    wanted = repository.casefold()
    if watch.source.github:
        return watch.source.github.casefold() == wanted
    return re.split(r"[/:]", watch.source.location.casefold().removesuffix(".git").rstrip("/"))[
        -2:
    ] == wanted.split("/")


def server_of(address: str) -> str:
    """The machine that an address leads to, without user and port."""
    if "://" in address:
        try:
            return (urlsplit(address).hostname or HERE).lower()
        except ValueError:
            return address
    scp = _SCP_FORM.match(address)
    return HERE if scp is None or address.startswith("/") else scp["host"].lower()
