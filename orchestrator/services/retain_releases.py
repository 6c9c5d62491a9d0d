"""Retention on deployment servers: releases, by their age."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from orchestrator.domain.errors import DeploymentError, NotFound
from orchestrator.domain.retention import Kind, Plan, Policy, told_of
from orchestrator.domain.retention_plan import plan_releases
from orchestrator.ports.engine import Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, Servers


class ReleaseKeeper:
    """Releases on deployment servers, by their age. How many stay is each server's ``keep``."""

    def __init__(
        self, store: Store, servers: Servers, names: Collection[str], policy: Policy, clock: Clock
    ) -> None:
        self._store = store
        self._servers = servers
        self._names = names
        self._policy = policy
        self._clock = clock

    def plan(self, kinds: AbstractSet[Kind], progress: ProgressSink) -> tuple[Plan, list[str]]:
        """What would go on every server, and which servers could not be asked."""
        return self._each(kinds, None, progress, lambda: None)

    def apply(
        self, kinds: AbstractSet[Kind], who: str, progress: ProgressSink, interrupt: Interrupt
    ) -> tuple[Plan, list[str]]:
        """Remove what has had its time: the plan, and what could not be removed or asked."""
        return self._each(kinds, who, progress, interrupt)

    def _each(
        self, kinds: AbstractSet[Kind], who: str | None, progress: ProgressSink, interrupt: Interrupt
    ) -> tuple[Plan, list[str]]:
        whole, problems = Plan(), list[str]()
        if Kind.RELEASES not in kinds or self._policy.releases is None:
            return whole, problems
        live = self._store.retention.live_releases()
        for done, name in enumerate(self._names, 1):
            interrupt()
            try:
                whole += self._on(name, {release for server, release in live if server == name}, who)
            except (DeploymentError, NotFound) as error:
                problems.append(f"{name}: {error}")
            progress(ProgressEvent("looking at servers", done, len(self._names), "servers"))
        return whole, problems

    def _on(self, server: str, live: AbstractSet[str], who: str | None) -> Plan:
        now = self._clock.now()
        with self._servers.target(server) as target:
            current = target.current()
            plan = plan_releases(server, target.verified(), current, live, self._policy.releases, now)
            for thing in plan.going if who is not None else ():
                target.discard(str(thing.key))
                self._store.journal.note(who or "", f"server {server}", told_of(thing), now)
        return plan
