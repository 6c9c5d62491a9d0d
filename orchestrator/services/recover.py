"""What is left of attempts that were given up: on hosts that come back, and on our own disk."""

from __future__ import annotations

import logging
from datetime import datetime

from orchestrator.domain.errors import EngineError, EngineUnavailable, NotFound
from orchestrator.domain.pipeline import HostSpec
from orchestrator.ports.checkpoints import CheckpointFiles
from orchestrator.ports.engine import ContainerState, Engine
from orchestrator.ports.store import Store
from orchestrator.services import naming

log = logging.getLogger(__name__)


def end_orphans(store: Store, engine: Engine) -> list[str]:
    """End what still runs on a host for attempts that are over, and remove it; their names.

    Nothing of it is collected: another try may have had the same checkpoint, and its results count. Raises
    EngineError when something may still run.
    """
    ended = []
    for container in engine.owned().containers:
        attempt_id = container.labels.get(naming.ATTEMPT_LABEL, "")
        role = container.labels.get(naming.ROLE_LABEL)
        ours = role in ("attempt", naming.BENCHMARK) and attempt_id.isdigit()
        if ours and container.state is not ContainerState.CREATED and has_ended(store, int(attempt_id)):
            engine.remove(container.id)
            ended.append(container.name)
    return ended


def has_ended(store: Store, attempt_id: int) -> bool:
    """Whether an attempt that a container is labelled with is over."""
    try:
        return store.attempts.get(attempt_id).state.final
    except NotFound:
        if store.was_lost(attempt_id):
            # It began after the backup that this database was restored from: nobody will ever collect it.
            return True
        # The database is an older copy of the one that made it: nobody here knows whether it is still wanted.
        log.warning("attempt %d is on a host and not in this database; it is left alone", attempt_id)
        return False


def welcome(store: Store, engine: Engine, host: HostSpec, at: datetime) -> None:
    """A host answers again: before it is given work, end what was given up there meanwhile.

    Raises EngineError when that cannot be done now, StoreUnavailable.
    """
    for name in end_orphans(store, engine):
        log.info("host %s: ended %s, which was given up meanwhile", host.name, name)
    try:
        boot = engine.boot(host.helper_image)
    except EngineUnavailable:
        raise
    except EngineError as error:
        log.info("host %s: whether it was started anew is not known: %s", host.name, error)
        return
    store.hosts.booted(host.name, boot.id, at)


def forget_checkpoints(store: Store, files: CheckpointFiles) -> None:
    """Remove the copies of checkpoints of runs that are over. Raises StoreUnavailable."""
    for run_id in files.runs():
        try:
            over = store.runs.get(run_id).state.final
        except NotFound:
            over = True
        if over:
            files.forget(run_id)
