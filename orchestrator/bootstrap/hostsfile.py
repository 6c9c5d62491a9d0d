"""Hosts that change while the server runs: written in orchestrator.yaml, or added by command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.bootstrap.configured import host_of
from orchestrator.config.load import MAIN_FILE, load_main
from orchestrator.config.models.common import Context
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.validation import validate
from orchestrator.config.yaml_loader import Document, Plain
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.pipeline import HostSpec
from orchestrator.ports.store import Journal
from orchestrator.ports.world import Clock
from orchestrator.services.fleet import CONFIGURATION, Fleet

log = logging.getLogger(__name__)

_Signature = tuple[int, int, int] | None


class HostsFile:
    """Takes over the hosts section of orchestrator.yaml whenever the file changes. For one thread.

    A file with mistakes is told of, and what was known stays; so is one whose hosts section is gone.
    Everything else in the file counts after a restart.
    """

    def __init__(
        self,
        folder: Path,
        current: OrchestratorFile,
        fleet: Fleet,
        journal: Journal,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._current = current
        self._fleet = fleet
        self._journal = journal
        self._clock = clock
        self._changed = changed
        self._seen = self._before = self._signature()

    def look(self) -> None:
        """Read the file if it has changed, and stayed so since the last look. Raises StoreUnavailable."""
        signature, before = self._signature(), self._before
        self._before = signature
        # The beginning of a file that is just being written may be a valid one with fewer hosts.
        if before == signature != self._seen:
            self._seen = signature
            self._take_over()
        self._fleet.tidy()

    def _take_over(self) -> None:
        found, problems = load_main(self._folder)
        if found is None:
            for problem in problems:
                log.error("%s", problem)
            self._stay(f"cannot be used, so the hosts stay as they are: {problems[0]}")
            return
        if _names_hosts(self._current) and not _names_hosts(found):
            # Whoever means it writes which hosts are left; most likely the file has lost its end.
            self._stay("has no hosts section any more, so the hosts stay as they are until a restart")
            return
        told = self._fleet.configure([host_of(name, host) for name, host in found.hosts.items()])
        for sentence in told:
            log.info("%s", sentence)
            self._note(sentence)
        if told:
            self._changed()
        # The address to listen on may have been given by command.
        same = {"hosts": self._current.hosts, "web": self._current.web}
        if found.model_copy(update=same) != self._current:
            log.warning("what else has changed in %s counts after a restart", self._folder / MAIN_FILE)
        self._current = found.model_copy(update={"web": self._current.web})

    def _stay(self, why: str) -> None:
        what = f"{self._folder / MAIN_FILE} {why}"
        log.error("%s", what)
        self._note(what)

    def _note(self, text: str) -> None:
        self._journal.note(CONFIGURATION, "hosts", text, self._clock.now())

    def _signature(self) -> _Signature:
        try:
            status = (self._folder / MAIN_FILE).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _names_hosts(file: OrchestratorFile) -> bool:
    return "hosts" in file.model_fields_set


def host_from(name: str, keys: Mapping[str, Plain], base: Path, state: Path) -> HostSpec:
    """A host of these keys, which mean what they mean in orchestrator.yaml. Raises InvalidInput.

    ``state`` is the state folder, which no run may be shown.
    """
    document = Document(name, {"storage": {"path": str(state)}, "hosts": {name: dict(keys)}})
    model, problems = validate(OrchestratorFile, document, Context(base, os.environ, True, False))
    if model is None:
        told = "; ".join(
            problem.message + (f" (expected {problem.expected})" if problem.expected else "")
            for problem in problems
        )
        raise InvalidInput(f"host {name}: {told}", "see `hosts` in docs/configuration.md")
    return host_of(name, model.hosts[name])
