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

    A file with mistakes is told of, and what was known stays. Everything else in the file counts after a
    restart.
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
        self._seen = self._signature()

    def look(self) -> None:
        """Read the file if it has changed since the last look. Raises StoreUnavailable."""
        signature = self._signature()
        if signature != self._seen:
            # A file that is just being written is read again when it is whole: its signature changes.
            self._seen = signature
            self._take_over()
        self._fleet.tidy()

    def _take_over(self) -> None:
        found, problems = load_main(self._folder)
        if found is None:
            for problem in problems:
                log.error("%s", problem)
            what = f"{self._folder / MAIN_FILE} cannot be used, so the hosts stay as they are: {problems[0]}"
            log.error("%s", what)
            self._note(what)
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

    def _note(self, text: str) -> None:
        self._journal.note(CONFIGURATION, "hosts", text, self._clock.now())

    def _signature(self) -> _Signature:
        try:
            status = (self._folder / MAIN_FILE).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def host_from(name: str, keys: Mapping[str, Plain], base: Path) -> HostSpec:
    """A host of these keys, which mean what they mean in orchestrator.yaml. Raises InvalidInput."""
    document = Document(name, {"hosts": {name: dict(keys)}})
    model, problems = validate(OrchestratorFile, document, Context(base, os.environ, True, False))
    if model is None:
        told = "; ".join(
            problem.message + (f" (expected {problem.expected})" if problem.expected else "")
            for problem in problems
        )
        raise InvalidInput(f"host {name}: {told}", "see `hosts` in docs/configuration.md")
    return host_of(name, model.hosts[name])
