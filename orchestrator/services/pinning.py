"""Pinning: which version of each dataset a run made now is to use, and when data are whole enough for one."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.change import DatasetVersion, FileEntry
from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec, Pipeline
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import DataMove, DatasetWatch
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, Listing, Snapshot
from orchestrator.services.tables import Tables

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A dataset that is being written: it has no version to pin now. Another look in so many seconds."""

    dataset: str
    again: float = 0.0


@dataclass(frozen=True, slots=True)
class Pinned:
    """A version of each dataset, and what a run with these moves in its pipeline's eyes.

    Also what does not move: a run relies on it to stay. Without that, a push and a change of data that are
    seen at once might each get a run with what was before the other, and what is there now would get none.
    """

    versions: tuple[DatasetVersion, ...]
    moves: tuple[DataMove, ...] = ()


class Pins:
    """Looks at datasets and says which versions they are. Thread-safe."""

    def __init__(self, store: Store, datasets: DatasetSource, clock: Clock) -> None:
        self._store = store
        self._datasets = datasets
        self._clock = clock
        self._tables = Tables(store, datasets)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._told: set[tuple[str, str]] = set()
        self._newest: dict[str, DatasetVersion] = {}

    def now(self, pipeline: Pipeline) -> Pinned | Unsettled:
        """A version of each dataset of a pipeline. Raises DatasetError."""
        # Before the look, as with refs: what another server sees meanwhile is no step back.
        known = self._store.detection.data_counts(pipeline.name) if pipeline.datasets else {}
        versions: list[DatasetVersion] = []
        moves: list[DataMove] = []
        for dataset in pipeline.datasets:
            version = self.refresh(dataset)
            here = (pipeline.name, dataset.name)
            if isinstance(version, Unsettled):
                # Data may be written for hours, in which this is asked again and again.
                if here not in self._told:
                    self._told.add(here)
                    log.info("%s: a run waits for dataset %s: %s", *here, waits_until(dataset))
                return version
            self._told.discard(here)
            before, count = known.get(dataset.name, (None, 0))
            versions.append(version)
            moves.append(DataMove(dataset.name, before, version.fingerprint, count))
        return Pinned(tuple(versions), tuple(moves))

    def anyhow(self, pipeline: Pipeline) -> tuple[DatasetVersion, ...]:
        """The versions, without waiting for what is being written.

        Raises DatasetError, also where a marker says that the data are not whole.
        """
        settled = self.now(pipeline)
        if not isinstance(settled, Unsettled):
            return settled.versions
        for dataset in pipeline.datasets:
            if dataset.marker and not self._datasets.look(dataset).whole:
                raise DatasetUnavailable(
                    f"dataset {dataset.name} is still being written: {dataset.marker} is not there",
                    "ask again once it is there",
                )
        return tuple(self._version_now(dataset) for dataset in pipeline.datasets)

    def refresh(self, dataset: DatasetSpec) -> DatasetVersion | Unsettled:
        """The dataset's version now; a new one is stored once nothing has changed for the settle time.

        With a marker, once the marker is there. Contents are hashed only when the listing differs from the
        one that the last version was made from.
        """
        with self._locks[dataset.key]:
            version = self._refresh(dataset)
            if isinstance(version, DatasetVersion):
                self._newest[dataset.key] = version
            return version

    def look_into(self, dataset: DatasetSpec) -> None:
        """Find out what the tables of the newest version look like, for people; that may take a while."""
        newest = self._newest.get(dataset.key)
        if newest is not None:
            self._tables.look_into(dataset, newest)

    def _refresh(self, dataset: DatasetSpec) -> DatasetVersion | Unsettled:
        listing = self._datasets.look(dataset)
        watch = self._store.detection.dataset_watch(dataset)
        now = self._clock.now()
        if watch and watch.fingerprint and watch.signature == listing.signature:
            version = self._store.detection.version(dataset, watch.fingerprint)
            if version is not None:
                if watch.pending is not None:
                    # What was being written was taken back.
                    settled = DatasetWatch(watch.signature, watch.fingerprint)
                    self._store.detection.save_dataset_watch(dataset, settled)
                return version
        wait = _wait(dataset, listing, watch, now)
        if wait > 0:
            self._remember(dataset, watch, listing.signature, now)
            return Unsettled(dataset.name, wait)
        snapshot = self._snapshot(dataset, watch)
        if dataset.settle > 0 and snapshot.listing.signature != listing.signature:
            # It moved on while it was hashed: what was still a moment ago is so no longer.
            self._remember(dataset, watch, snapshot.listing.signature, self._clock.now())
            return Unsettled(dataset.name, dataset.settle)
        return self._record(dataset, snapshot)

    def _remember(
        self, dataset: DatasetSpec, watch: DatasetWatch | None, signature: str, since: datetime
    ) -> None:
        if watch and watch.pending == signature:
            return
        before, fingerprint = (watch.signature, watch.fingerprint) if watch else ("", None)
        self._store.detection.save_dataset_watch(dataset, DatasetWatch(before, fingerprint, signature, since))

    def _version_now(self, dataset: DatasetSpec) -> DatasetVersion:
        with self._locks[dataset.key]:
            snapshot = self._snapshot(dataset, self._store.detection.dataset_watch(dataset))
            self._newest[dataset.key] = self._record(dataset, snapshot)
            return self._newest[dataset.key]

    def _snapshot(self, dataset: DatasetSpec, watch: DatasetWatch | None) -> Snapshot:
        known: Sequence[FileEntry] = ()
        if watch and watch.fingerprint:
            known = self._store.detection.manifest(dataset, watch.fingerprint)
        return self._datasets.snapshot(dataset, known, _ignore)

    def _record(self, dataset: DatasetSpec, snapshot: Snapshot) -> DatasetVersion:
        version = self._store.detection.record_version(
            dataset, snapshot.fingerprint, snapshot.entries, self._clock.now()
        )
        self._store.detection.save_dataset_watch(
            dataset, DatasetWatch(snapshot.listing.signature, snapshot.fingerprint)
        )
        return version


def waits_until(dataset: DatasetSpec) -> str:
    """When data that are being written are taken for whole, for people."""
    if dataset.marker:
        return f"it is being written until {dataset.marker} is there, newer than the rest"
    return f"it is being written until it has been still for {dataset.settle:g} s"


def _wait(dataset: DatasetSpec, listing: Listing, watch: DatasetWatch | None, now: datetime) -> float:
    """Seconds until the data may be whole; 0: they are."""
    if not listing.whole:
        return max(dataset.settle, 1.0)
    if dataset.marker or dataset.settle <= 0:
        return 0.0
    settle = timedelta(seconds=dataset.settle)
    waits = [settle]
    if listing.newest is not None and now >= listing.newest:
        waits.append(listing.newest + settle - now)
    if watch and watch.pending == listing.signature and watch.pending_since:
        waits.append(watch.pending_since + settle - now)
    return max(min(waits).total_seconds(), 0.0)


def _ignore(_: ProgressEvent) -> None:
    return None
