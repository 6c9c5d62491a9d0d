"""What is ours on an engine and needed by nobody: by no unfinished run, and by no server that lives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from orchestrator.domain.errors import EngineError, NotFound
from orchestrator.domain.run import AttemptState
from orchestrator.ports.engine import Engine
from orchestrator.ports.store import Store
from orchestrator.services import naming

log = logging.getLogger(__name__)

_OF_PREPARATION: Final = frozenset({"setup", "stager", "helper"})
"""Roles of containers that are there while an attempt is prepared, and have no attempt of their own."""
_OF_ATTEMPTS: Final = frozenset({"attempt", naming.SAMPLER, naming.BENCHMARK})


def sweep(store: Store, engines: Mapping[str, Engine]) -> list[str]:
    """Remove containers and checkpoints of attempts that have ended, at once; what was removed, by name.

    Only what carries this database's label is looked at. An engine that does not answer is left for later, as
    is what it refuses to remove: retention comes back for it.
    """
    removed: list[str] = []
    for host, engine in engines.items():
        try:
            leftovers = list(_leftovers(store, host, engine))
        except EngineError as error:
            log.info("%s not swept: %s", host, error)
            continue
        for name, remove in leftovers:
            try:
                remove()
                removed.append(name)
            except EngineError as error:
                log.info("%s: %s not swept: %s", host, name, error)
    return removed


def _leftovers(store: Store, host: str, engine: Engine) -> Iterator[tuple[str, Callable[[], None]]]:
    """What attempts left there with how to remove it, containers first: they hold the rest."""
    owned = engine.owned()
    needs = Needs(store, served=True)
    for container in owned.containers:
        swept = container.labels.get(naming.ROLE_LABEL) in _OF_PREPARATION | _OF_ATTEMPTS
        if swept and not needs.container(host, container.name, container.labels):
            yield container.name, partial(engine.remove, container.id)
    for volume in owned.volumes:
        if needs.checkpoint(volume) == "":
            yield volume, partial(engine.remove_volume, volume)


class Needs:
    """What is needed, as the database says it at one moment.

    Each question is answered with the reason in words, or with nothing when nobody needs it. A list of what
    is on an engine has to be older than this: what began since then is not in it. ``served``: a server lives,
    whose networks stay for its next attempts.
    """

    def __init__(self, store: Store, *, served: bool) -> None:
        self._store = store
        self._prefix = f"mlci-{store.instance[:8]}"
        self._slots = {
            naming.slot_name(store.instance, host, slot): f"attempt {attempt} has it"
            for attempt, (host, slot) in store.attempts.taken().items()
        }
        self._served = served
        self._runs = dict[int, str]()
        self._preparing = dict[str, str]()
        self.volumes: dict[str, str] = {}
        self.images: dict[str, str] = {}
        for run in store.runs.unfinished():
            why = self._runs[run.id] = f"{run.title} has not ended"
            for version in run.change.datasets:
                self.volumes[naming.data_volume(store.instance, version.fingerprint)] = why
            for attempt in store.attempts.of_run(run.id):
                if attempt.image_digest:
                    self.images[attempt.image_digest] = why
                if attempt.state is AttemptState.PREPARING and attempt.host:
                    self._preparing[attempt.host] = f"an attempt of {run.title} is prepared there"

    @property
    def unfinished(self) -> str:
        """A run that has not ended, if there is one: nobody knows yet what its attempts will execute in."""
        return next(iter(self._runs.values()), "")

    def preparing(self, host: str) -> str:
        """Whether an attempt is prepared on a host: what it will have is not known yet."""
        return self._preparing.get(host, "")

    def container(self, host: str, name: str, labels: Mapping[str, str]) -> str:
        """Who needs a container."""
        role = labels.get(naming.ROLE_LABEL)
        if role == naming.SERVICE:
            return f"it serves {labels.get(naming.SERVICE_LABEL, '')}".rstrip()
        if role == naming.ACTION:
            return self._action(labels.get(naming.ACTION_LABEL, ""))
        if role == "sandbox":
            return self.network(name)
        if role in _OF_PREPARATION:
            return self.preparing(host)
        attempt_id = labels.get(naming.ATTEMPT_LABEL, "")
        return self._attempt(int(attempt_id)) if attempt_id.isdigit() else ""

    def network(self, name: str) -> str:
        """Who needs a network, or the container that holds it and has the same name."""
        if name in self._slots:
            return self._slots[name]
        if name.startswith(naming.service_prefix(self._store.instance)):
            return "a service may be in it"
        if name.startswith(prefix := naming.action_prefix(self._store.instance)):
            return self._action(name.removeprefix(prefix).split("-")[0])
        kept = self._served and name.startswith(naming.slot_prefix(self._store.instance))
        return "a server keeps it for its next attempt" if kept else ""

    def checkpoint(self, volume: str) -> str | None:
        """Who needs a checkpoint's volume; None when it is none."""
        prefix = f"{self._prefix}-checkpoint-"
        run_id = volume.removeprefix(prefix).split("-")[0]
        if not volume.startswith(prefix) or not run_id.isdigit():
            return None
        if int(run_id) in self._runs:
            return self._runs[int(run_id)]
        try:
            self._store.runs.get(int(run_id))
        except NotFound:
            return self._unknown(f"run {run_id}")
        return ""

    def _attempt(self, attempt_id: int) -> str:
        try:
            ended = self._store.attempts.get(attempt_id).state.final
        except NotFound:
            # One that began after the backup that this database was restored from will never be collected.
            return "" if self._store.was_lost(attempt_id) else self._unknown(f"attempt {attempt_id}")
        return "" if ended else f"attempt {attempt_id} has not ended"

    def _action(self, action_id: str) -> str:
        if not action_id.isdigit():
            return ""
        try:
            ended = self._store.actions.get(int(action_id)).state.final
        except NotFound:
            return self._unknown(f"action {action_id}")
        return "" if ended else f"action {action_id} has not ended"

    def _unknown(self, what: str) -> str:
        # The database is an older copy of the one that made it: nobody here knows whether it is still wanted.
        return f"{what} is not in this database"
