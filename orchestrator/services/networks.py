"""The networks of runs: one sandbox for each slot of a host, in which the ways to the host are shut.

A slot has one attempt at a time, so no two runs ever share a network. The sandbox outlives the attempt: to
make one takes longer than all the rest of a trivial run.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from orchestrator.domain.errors import ContainerGone, EngineError, EngineUnavailable
from orchestrator.domain.pipeline import HostSpec, Protection
from orchestrator.ports.engine import ContainerState, Engine, Sandbox, SandboxSpec
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock
from orchestrator.services import naming
from orchestrator.services.fleet import ByName

log = logging.getLogger(__name__)

METADATA = ("169.254.0.0/16", "100.100.100.200", "168.63.129.16")
"""Where clouds tell a machine its credentials: most at a link-local address, some at one of their own."""
NOBODY_ELSE = ("255.255.255.255", "224.0.0.0/4", "224.0.0.1", "224.0.0.2", "224.0.0.251", "224.0.0.252")
"""Broadcasts and multicasts, of which nobody but the host would hear; the usual groups one by one."""
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15")

_NETWORKS_KNOWN = 15.0
"""Seconds for which the list of an engine's networks counts."""
_ADDRESSES_KNOWN = 300.0
"""Seconds for which the addresses of a host count."""
_AGAIN = 60.0
"""Seconds after which a sandbox that could not be changed is tried again."""
_LABELS = {naming.ROLE_LABEL: "sandbox"}


@dataclass(frozen=True, slots=True)
class _Kept:
    sandbox: Sandbox
    prohibited: frozenset[str]


@dataclass(slots=True)
class _Fact:
    """What a host said to a question, and when it was asked (monotonic seconds)."""

    lasts: float
    told: tuple[str, ...] = ()
    at: float | None = None
    asking: bool = False
    """Whether it is being asked again, aside."""


@dataclass(slots=True)
class _Known:
    """What is known of a host."""

    addresses: _Fact = field(default_factory=lambda: _Fact(_ADDRESSES_KNOWN))
    ranges: _Fact = field(default_factory=lambda: _Fact(_NETWORKS_KNOWN))


def _in_a_thread(act: Callable[[], None]) -> None:
    threading.Thread(target=act, name="networks", daemon=True).start()


class Networks:
    """Gives attempts their network. Thread-safe; each slot is used by one attempt at a time.

    ``aside`` calls something without making the caller wait.
    """

    def __init__(
        self,
        instance: str,
        hosts: Sequence[HostSpec],
        clock: Clock,
        aside: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        self._instance = instance
        self._hosts = ByName(hosts)
        self._clock = clock
        self._aside = aside
        self._known: defaultdict[str, _Known] = defaultdict(_Known)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._doubted: set[tuple[str, int]] = set()
        self._shut: dict[tuple[str, int], frozenset[str]] = {}
        self._not_before: dict[tuple[str, int], float] = {}

    def join(self, engine: Engine, host: str, slot: int, *, as_root: bool = False) -> Sandbox | str:
        """The network for the next container on a slot.

        Costs the engine nothing while the slot's sandbox is known to be good. ``as_root``: something of it
        runs as root, which owns files that all of a sandbox share; the next one looks at them first. Raises
        ImageNotFound without the helper image: no run is ever unprotected by accident.
        """
        spec = self._hosts[host]
        name = naming.slot_name(self._instance, host, slot)
        kept = self._kept.get((host, slot))
        if kept is None:
            made = self.make(engine, host, name)
            if not isinstance(made, Sandbox):
                return made
            kept = _Kept(made, self._prohibited(engine, spec))
        else:
            prohibited = self._prohibited(engine, spec)
            if (host, slot) in self._doubted or not prohibited <= kept.prohibited:
                kept = _Kept(self._sandbox(engine, spec, name, prohibited), prohibited)
        self._kept[host, slot] = kept
        self._doubted.discard((host, slot))
        if as_root:
            self.doubt(host, slot)
        self._shut[host, slot] = kept.prohibited
        return kept.sandbox

    def helper_image(self, host: str) -> str:
        """What the sandboxes of a host run in."""
        return self._hosts[host].helper_image

    def make(self, engine: Engine, host: str, name: str) -> Sandbox | str:
        """A network of that name, sandbox or, without protection, a plain one. Raises EngineError."""
        spec = self._hosts[host]
        # Its own range has to be in the list of what is prohibited.
        engine.ensure_network(name, _LABELS)
        if spec.protection is Protection.NONE:
            return name
        self._known[host].ranges.at = None
        return self._sandbox(engine, spec, name, self._prohibited(engine, spec))

    def addresses_shut(self, engine: Engine, host: str) -> tuple[str, ...]:
        """The host's own addresses that its sandboxes shut, groups apart."""
        prohibited = self._prohibited(engine, self._hosts[host])
        known = set(self._known[host].addresses.told) | set(self._known[host].ranges.told)
        return tuple(a for a in sorted(known & prohibited) if "/" not in a and not a.startswith("224."))

    def _sandbox(self, engine: Engine, spec: HostSpec, name: str, prohibited: frozenset[str]) -> Sandbox:
        wanted = SandboxSpec(name, spec.helper_image, _LABELS, tuple(sorted(prohibited)), spec.reachable)
        return engine.ensure_sandbox(wanted)

    def doubt(self, host: str, slot: int) -> None:
        """Look at the slot's network before the next container joins it."""
        self._doubted.add((host, slot))

    def renew(self, engine: Engine, host: str, slot: int) -> bool:
        """Whether a container that could not be started failed for want of its sandbox; doubts it then."""
        if self._hosts[host].protection is Protection.NONE:
            return False
        found = engine.find(naming.slot_name(self._instance, host, slot))
        kept = self._kept.get((host, slot))
        runs = found is not None and found.state is ContainerState.RUNNING
        if runs and found is not None and kept is not None and kept.sandbox.id == found.id:
            return False
        self.doubt(host, slot)
        self._kept.pop((host, slot), None)
        # An engine that was started again may have other networks, on a host with other addresses.
        self._known.pop(host, None)
        return True

    def keep_shut(self, engine: Engine, host: str, slot: int) -> None:
        """Shut the ways that have opened since a running attempt joined: networks come and go."""
        spec = self._hosts.get(host)
        if spec is None or spec.protection is Protection.NONE:
            return
        before = self._shut.get((host, slot), frozenset())
        prohibited, now = self._prohibited(engine, spec), self._clock.monotonic()
        if prohibited <= before or now < self._not_before.get((host, slot), now):
            return
        name = naming.slot_name(self._instance, host, slot)
        try:
            engine.prohibit(name, sorted(prohibited - before))
        except ContainerGone:
            # An attempt without a network has none, and one whose sandbox was removed reaches nothing.
            log.debug("host %s has no sandbox %s", host, name)
        except EngineUnavailable:
            raise
        except EngineError as error:
            log.error("a run on %s may reach networks that are new there: %s", host, error)
            self._not_before[host, slot] = now + _AGAIN
            return
        self._shut[host, slot] = before | prohibited

    def _prohibited(self, engine: Engine, spec: HostSpec) -> frozenset[str]:
        with self._locks[spec.name]:
            known = self._known[spec.name]
            self._have(spec.name, known.addresses, partial(engine.host_addresses, spec.helper_image))
            self._have(spec.name, known.ranges, engine.network_ranges)
            shut = {*METADATA, *NOBODY_ELSE, *known.addresses.told, *known.ranges.told}
        if spec.protection is Protection.PRIVATE:
            shut |= set(PRIVATE)
        return frozenset(shut - set(spec.reachable))

    def _have(self, host: str, fact: _Fact, ask: Callable[[], tuple[str, ...]]) -> None:
        """Ask again what is too old to count, and aside what soon will be. Under the host's lock."""
        now = self._clock.monotonic()
        if fact.at is None or now - fact.at > fact.lasts:
            fact.told, fact.at = ask(), now
        elif now - fact.at > fact.lasts / 2 and not fact.asking:
            fact.asking = True
            self._aside(partial(self._ask_again, host, fact, fact.at, ask))

    def _ask_again(self, host: str, fact: _Fact, before: float, ask: Callable[[], tuple[str, ...]]) -> None:
        told, now = None, self._clock.monotonic()
        try:
            told = ask()
        except EngineError as error:
            # Whoever needs it once it is too old asks again, and fails if that does.
            log.info("host %s: %s", host, error)
        with self._locks[host]:
            fact.asking = False
            # Where it was asked meanwhile, as for a network that was just made, this may be the older answer.
            if told is not None and fact.at == before:
                fact.told, fact.at = told, now


def dismiss(store: Store, engines: Mapping[str, Engine]) -> None:
    """Remove the sandboxes of slots that no attempt holds, as when a server stops.

    An attempt that claims such a slot meanwhile makes its own again.
    """
    busy = {naming.slot_name(store.instance, host, slot) for host, slot in store.attempts.taken().values()}
    prefix = naming.slot_prefix(store.instance)
    for host, engine in engines.items():
        try:
            for network in engine.owned().networks:
                if network.startswith(prefix) and network not in busy:
                    engine.remove(network)
                    engine.remove_network(network)
        except EngineUnavailable as error:
            # Perhaps there is nothing: nobody can look.
            log.debug("the networks of %s are left alone: %s", host, error)
        except EngineError as error:
            log.info("the networks of %s stay for now: %s", host, error)
