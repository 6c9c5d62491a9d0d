"""The hosts as they are now: those of the configuration, and those that were added by command.

They change while runs execute. Whoever holds one of the views below sees each change at its next look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, overload

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.domain.host import HostRecord, HostState, standing_of
from orchestrator.domain.pipeline import HostSpec
from orchestrator.ports.engine import Engine
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock

log = logging.getLogger(__name__)

KNOWN = 1.0
"""Seconds for which the rows of hosts count."""

CONFIGURATION = "configuration"
"""Who removes a host that leaves orchestrator.yaml, and takes it back."""

Connect = Callable[[HostSpec], Engine]
"""Makes the engine of a host; it connects when it is first used."""

End = Callable[[], None]
"""Ends what was kept for a host. It may wait for a machine that does not answer, so nobody waits for it."""

_ENDING: Final = 10.0
"""Seconds that ends have at most when the process stops."""


def _nothing() -> None:
    """The end of what keeps nothing."""


class HostsNow(Sequence[HostSpec]):
    """Hosts in the order of the configuration, those that were added by command after them."""

    def __init__(self, now: Callable[[], tuple[HostSpec, ...]]) -> None:
        self._now = now

    @overload
    def __getitem__(self, index: int) -> HostSpec: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[HostSpec]: ...

    def __getitem__(self, index: int | slice) -> HostSpec | Sequence[HostSpec]:
        return self._now()[index]

    def __len__(self) -> int:
        return len(self._now())

    def __iter__(self) -> Iterator[HostSpec]:
        return iter(self._now())


class ByName(Mapping[str, HostSpec]):
    """Hosts by their names, as they are at each look."""

    def __init__(self, hosts: Sequence[HostSpec]) -> None:
        self._hosts = hosts

    def __getitem__(self, name: str) -> HostSpec:
        for host in self._hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[str]:
        return iter([host.name for host in self._hosts])


class _Engines(Mapping[str, Engine]):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __getitem__(self, name: str) -> Engine:
        return self._fleet.engine(name)

    def __len__(self) -> int:
        return len(self._fleet.known)

    def __iter__(self) -> Iterator[str]:
        return iter([host.name for host in self._fleet.known])


@dataclass(frozen=True, slots=True)
class _Now:
    read_at: float
    records: Mapping[str, HostRecord]
    usable: tuple[HostSpec, ...]
    known: tuple[HostSpec, ...]


class Fleet:
    """All hosts. Thread-safe.

    A host that was removed is still known while attempts are on it: they are followed to their end. Then
    ``leave`` is called, if its engine was used. ``part`` is called for a host that has another address by
    now, once no attempt is on it: nobody needs the former one. Both say how to end what was kept.
    """

    def __init__(
        self,
        configured: Sequence[HostSpec],
        store: Callable[[], Store],
        clock: Clock,
        connect: Connect,
        leave: Callable[[str, Engine], End] = lambda host, engine: _nothing,
        part: Callable[[str], End] = lambda host: _nothing,
    ) -> None:
        self._configured = tuple(configured)
        self._store = store
        self._clock = clock
        self._connect = connect
        self._leave = leave
        self._part = part
        self._lock = threading.RLock()
        self._state: _Now | None = None
        self._told: Mapping[str, HostState] | None = None
        """What people wanted of hosts when that was last looked at."""
        self._made: dict[str, tuple[HostSpec, Engine]] = {}
        self._former: list[Engine] = []
        self._replaced: dict[str, list[Engine]] = {}
        self._ends: list[threading.Thread] = []
        self.usable: Sequence[HostSpec] = HostsNow(lambda: self._now().usable)
        """All but those that were removed."""
        self.known: Sequence[HostSpec] = HostsNow(lambda: self._now().known)
        """All that attempts may be on."""
        self.engines: Mapping[str, Engine] = _Engines(self)
        """The engine of each known host."""

    @property
    def configured(self) -> tuple[HostSpec, ...]:
        """The hosts of the configuration alone."""
        return self._configured

    def record(self, name: str) -> HostRecord:
        """What is known of a host."""
        return self._now().records.get(name) or HostRecord(name)

    def configure(self, hosts: Sequence[HostSpec]) -> tuple[str, ...]:
        """The hosts section of the configuration has changed; what that means, one sentence each.

        A host that is gone from it is kept as removed while attempts are on it.
        """
        with self._lock:
            before, after = ({h.name: h for h in some} for some in (self._configured, hosts))
            busy = set(self._store().attempts.slots_in_use())
            told = [f"host {name} was added" for name in after.keys() - before.keys()]
            for name in after.keys() & before.keys():
                if _moved(before[name], after[name]) and name in busy:
                    told.append(f"host {name} has another address, and its attempts are looked for there")
                elif after[name] != before[name]:
                    told.append(f"host {name} was changed")
            gone = before.keys() - after.keys()
            for name in gone:
                told.append(f"host {name} was removed" + (", its attempts go on" if name in busy else ""))
                if name in busy:
                    why = "it is no longer in the configuration"
                    self._store().hosts.keep_definition(before[name], CONFIGURATION, why, self._clock.now())
            self._configured = tuple(hosts)
            self.refresh()
            self._take_back()
        for name in gone - busy:
            self._drop(name)
        return tuple(sorted(told))

    def tidy(self) -> None:
        """Forget hosts that were removed, and former addresses, once no attempt is on them.

        What people did to hosts since the last time is said in the log.
        """
        self._tell()
        self._take_back()
        self._part_from_replaced()
        configured = {host.name for host in self._configured}
        gone = [
            record.name
            for record in self._now().records.values()
            if record.state is HostState.REMOVED and record.name not in configured
        ]
        if not gone:
            return
        busy = self._store().attempts.slots_in_use()
        for name in gone:
            if name not in busy:
                self._store().hosts.forget(name, self._clock.now())
                log.info("host %s was removed, and nothing is on it any more", name)
                self._drop(name)
        self.refresh()

    def _tell(self) -> None:
        records = self._now().records
        before, self._told = self._told, {name: record.state for name, record in records.items()}
        if before is None:
            return
        for name, record in records.items():
            if record.changed_by == CONFIGURATION:
                continue
            if name not in before and record.definition is not None:
                log.info("host %s was added by %s", name, record.changed_by)
            if record.state is not before.get(name, HostState.ACTIVE):
                log.info("host %s %s", name, standing_of(record))

    def _take_back(self) -> None:
        """A host that had left the configuration, and is in it again, is what it was."""
        names = {host.name for host in self._configured}
        for record in self._now().records.values():
            left = record.state is HostState.REMOVED and record.changed_by == CONFIGURATION
            if left and record.name in names:
                why = "it is in the configuration again"
                now = self._clock.now()
                self._store().hosts.take_back(record.name, CONFIGURATION, why, now)
                self.refresh()

    def _drop(self, name: str) -> None:
        with self._lock:
            made = self._made.pop(name, None)
            if made is None:
                return
            self._former.append(made[1])
            # Under the lock: a host of this name that comes back has a way of its own.
            end = self._leave(name, made[1])
        self._end_aside(name, end)

    def _part_from_replaced(self) -> None:
        """Free the connections to former addresses of hosts that no attempt is on."""
        with self._lock:
            names = set(self._replaced)
        if not names:
            return
        for name in names - self._store().attempts.slots_in_use().keys():
            with self._lock:
                engines = self._replaced.pop(name, [])
                end = self._part(name)
            for engine in engines:
                engine.close()
            self._end_aside(name, end)

    def _end_aside(self, name: str, end: End) -> None:
        def run() -> None:
            try:
                end()
            except Exception:
                log.exception("host %s: what was kept for it was not ended", name)

        thread = threading.Thread(target=run, name=f"end-{name}", daemon=True)
        with self._lock:
            self._ends = [other for other in self._ends if other.is_alive()]
            thread.start()
            self._ends.append(thread)

    def refresh(self) -> None:
        """Read the rows anew at the next look."""
        with self._lock:
            if self._state is not None:
                self._state = replace(self._state, read_at=float("-inf"))

    def engine(self, name: str) -> Engine:
        """The engine of a known host. KeyError for another."""
        with self._lock:
            spec = next((host for host in self._now().known if host.name == name), None)
            if spec is None:
                raise KeyError(name)
            made = self._made.get(name)
            if made is not None and not _moved(made[0], spec):
                return made[1]
            if made is not None:
                # Whoever works with it goes on to do so, and fails if it is gone.
                self._replaced.setdefault(name, []).append(made[1])
            engine = self._connect(spec)
            self._made[name] = (spec, engine)
            return engine

    def close(self) -> None:
        """Free the connections of all engines, once what is being ended has ended or had its time."""
        until = time.monotonic() + _ENDING
        for thread in tuple(self._ends):
            thread.join(max(0.0, until - time.monotonic()))
        with self._lock:
            replaced = (engine for engines in self._replaced.values() for engine in engines)
            for engine in (*self._former, *replaced, *(engine for _, engine in self._made.values())):
                engine.close()
            self._former.clear()
            self._replaced.clear()
            self._made.clear()

    def _now(self) -> _Now:
        with self._lock:
            now = self._clock.monotonic()
            if self._state is not None and now - self._state.read_at < KNOWN:
                return self._state
            try:
                records = self._store().hosts.all()
            except StoreUnavailable:
                if self._state is None:
                    raise
                # What was known a moment ago still holds; whoever writes fails soon enough.
                return self._state
            names = {host.name for host in self._configured}
            added = [r.definition for r in records.values() if r.definition and r.name not in names]
            known = (*self._configured, *added)
            removed = {r.name for r in records.values() if r.state is HostState.REMOVED}
            usable = tuple(host for host in known if host.name not in removed)
            self._state = _Now(now, records, usable, known)
            return self._state


def _moved(before: HostSpec, after: HostSpec) -> bool:
    """Whether a host's engine is another one now."""
    return (before.engine, before.ssh) != (after.engine, after.ssh)
