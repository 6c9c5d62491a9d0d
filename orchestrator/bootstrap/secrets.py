"""Where secrets come from: the configuration's references first, then the encrypted store."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.adapters.vault.keys import KeyFile
from orchestrator.config.interpolation import CREDENTIALS, Text, file_reader, resolve
from orchestrator.config.problems import ItemPath
from orchestrator.config.references import Stored
from orchestrator.config.secret_sources import secret_texts
from orchestrator.domain.errors import OrchestratorError, SecretMissing, StoreError
from orchestrator.observe import Masker
from orchestrator.ports.secrets import SealedSecret

if TYPE_CHECKING:
    from orchestrator.adapters.vault import Vault
    from orchestrator.config.load import Configuration
    from orchestrator.config.models.orchestrator import OrchestratorFile

log = logging.getLogger(__name__)

KEY_VARIABLE: Final = "ORCHESTRATOR_SECRET_KEY_FILE"
KEY_CREDENTIAL: Final = "orchestrator.key"
KEY_NAME: Final = "secret.key"
_LEARN_EVERY: Final = 60.0


def key_file(main: OrchestratorFile, state: Path, environ: Mapping[str, str] = os.environ) -> KeyFile:
    """The file with the key of the encrypted store."""
    lock = state / "secrets.lock"
    if named := environ.get(KEY_VARIABLE):
        return KeyFile(Path(named), KEY_VARIABLE, lock)
    if main.storage.key is not None:
        return KeyFile(Path(main.storage.key), "storage.key", lock)
    if folder := environ.get(CREDENTIALS):
        credential = Path(folder) / KEY_CREDENTIAL
        if credential.exists():
            return KeyFile(credential, f"the credential {KEY_CREDENTIAL}", lock, managed=True)
    return KeyFile(state / KEY_NAME, "the usual place", lock)


def stored_names(main: OrchestratorFile, base: Path) -> Stored:
    """Which secrets are stored, without making or changing anything; or why that cannot be said."""
    from orchestrator.config.database import resolved
    from orchestrator.store import migrations, open_store

    configured = main.storage.database
    try:
        url = f"sqlite:///{Path(main.storage.path) / 'orchestrator.db'}"
        if configured is not None:
            url = resolved(configured, os.environ, file_reader(base))
        found = migrations.current(url)
        if found is None:
            return Stored(None, "there is no database yet")
        if found != migrations.HEAD:
            return Stored(None, "the database is not of this version")
        store = open_store(url, create=False)
        try:
            return Stored(frozenset(row.name for row in store.secrets.all()))
        finally:
            store.close()
    except (StoreError, SecretMissing) as error:
        return Stored(None, error.message)


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """What can be said of a secret without its value.

    ``origin`` is where its value comes from; ``stored`` its row in the store, also when an entry hides it;
    ``used_by`` the pipelines that name it; ``places`` where the configuration refers to the stored one,
    such as ``email.password``; ``problem`` why it has no value now, with its ``remedy``.
    """

    name: str
    origin: str
    stored: SealedSecret | None
    used_by: tuple[str, ...]
    places: tuple[str, ...]
    problem: str = ""
    remedy: str = ""


def unasked(main: OrchestratorFile, base: Path) -> Stored:
    """For whoever does not need to know which secrets are stored."""
    return Stored(None)


class ConfiguredSecrets:
    """Secrets by name, read from where they are kept whenever they are needed, and masked from then on.

    An entry under ``secrets:`` of orchestrator.yaml counts before a stored secret of the same name. The store
    is opened when a name needs it. Thread-safe.
    """

    def __init__(self, config: Configuration, masker: Masker, vault: Callable[[], Vault]) -> None:
        self._config = config
        self._masker = masker
        self._vault = vault
        self._lock = threading.Lock()
        self._learned: float | None = None

    def resolve(self, names: Iterable[str]) -> Mapping[str, str]:
        """The values. Raises SecretMissing naming every name without one, and StoreUnavailable."""
        known = self._config.orchestrator.secrets
        values: dict[str, str] = {}
        missing: list[str] = []
        for name in names:
            try:
                if name in known:
                    values[name] = self.value(known[name])
                elif (stored := self._vault().get(name)) is not None:
                    self._masker.add(stored)
                    values[name] = stored
                else:
                    missing.append(
                        f"{name} is neither under secrets: of orchestrator.yaml nor stored"
                        f" (`orchestrator secrets set {name}`)"
                    )
            except SecretMissing as error:
                missing.append(f"{name}: {error}")
        if missing:
            raise SecretMissing("; ".join(missing))
        return values

    def value(self, text: Text | str) -> str:
        """A text of the configuration with its references replaced. SecretMissing, StoreUnavailable."""
        found = resolve(
            text, os.environ, file_reader(self._config.base), lambda name: self._vault().get(name)
        )
        self._masker.add(found)
        return found

    def overview(self) -> list[KnownSecret]:
        """Every secret that an entry, the store or a pipeline names, by name. StoreUnavailable."""
        entries = self._config.orchestrator.secrets
        stored = {row.name: row for row in self._vault().rows()}
        used: dict[str, list[str]] = {}
        for pipeline in self._config.pipelines.values():
            for name in pipeline.run.secrets:
                used.setdefault(name, []).append(pipeline.pipeline)
        found: list[KnownSecret] = []
        places = self.places()
        for name in sorted(entries.keys() | stored.keys() | used.keys()):
            problem = remedy = ""
            try:
                self.resolve([name])
            except SecretMissing as error:
                problem, remedy = error.message.removeprefix(f"{name}: "), error.remedy
            found.append(
                KnownSecret(
                    name,
                    _origin(entries.get(name), name in stored),
                    stored.get(name),
                    tuple(used.get(name, ())),
                    places.get(name, ()),
                    problem,
                    remedy,
                )
            )
        return found

    def places(self) -> dict[str, tuple[str, ...]]:
        """Where the configuration refers to stored secrets, by name."""
        found: dict[str, tuple[str, ...]] = {}
        for path, text in self._texts():
            for reference in text.references:
                if reference.kind == "secret":
                    found[reference.name] = (*found.get(reference.name, ()), ".".join(map(str, path)))
        return found

    def _texts(self) -> Iterator[tuple[ItemPath, Text]]:
        """Every value of the configuration that may be a secret; of pipelines by their names."""
        yield from secret_texts(self._config.orchestrator)
        for name, file in self._config.pipelines.items():
            for path, text in secret_texts(file):
                yield ("pipelines", name, *path), text

    def warn(self) -> None:
        """Log which secrets that pipelines name have no value now: their runs cannot start."""
        for secret in self.overview():
            if secret.problem and secret.used_by:
                users = ", ".join(secret.used_by)
                log.warning("runs of %s cannot have %s: %s", users, secret.name, secret.problem)

    def learn(self) -> None:
        """Mask every secret there is from now on, as far as they can be read."""
        for path, text in self._texts():
            if path[-1] != "username":
                self._try(partial(self.value, text))
        self._try(self._learn_stored)

    def learn_now_and_then(self) -> None:
        """The same, when a minute has passed since somebody asked."""
        with self._lock:
            if self._learned is not None and time.monotonic() - self._learned < _LEARN_EVERY:
                return
            self._learned = time.monotonic()
        self.learn()

    def _learn_stored(self) -> None:
        vault = self._vault()
        for row in vault.rows():
            self._try(partial(self._learn_row, vault, row))

    def _learn_row(self, vault: Vault, row: SealedSecret) -> None:
        self._masker.add(vault.opened(row))

    def _try(self, read: Callable[[], object]) -> None:
        try:
            read()
        except OrchestratorError as error:
            # Whoever needs the value says why it is not there.
            log.debug("a secret cannot be masked: %s", error)


def _origin(entry: Text | None, stored: bool) -> str:
    if entry is None:
        return "the encrypted store" if stored else "nowhere"
    kinds = {"env": "environment", "file": "file", "credential": "credential", "secret": "stored secret"}
    named = [f"{kinds[reference.kind]} {reference.name}" for reference in entry.references]
    return " and ".join(named) or "orchestrator.yaml"
