"""GitHub Apps: who they are by a signed token, and the short-lived tokens of where they are installed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote

import jwt
from github.Auth import AppAuth, Auth

from orchestrator.adapters.github.account import AppKey
from orchestrator.adapters.github.client import Client
from orchestrator.adapters.github.reading import Json, moment_at, number_at, text_at
from orchestrator.adapters.github.trouble import reaching
from orchestrator.domain.errors import SourceRefused
from orchestrator.ports.world import Clock

_RENEWED_BEFORE: Final = timedelta(minutes=5)


class App:
    """One App, and where it is installed. Thread-safe.

    ``learned`` is told each token that is issued, so that it is masked wherever it turns up.
    """

    def __init__(
        self,
        api_url: str,
        key: AppKey,
        clock: Clock,
        timeout: float,
        learned: Callable[[str], None],
    ) -> None:
        self.client = Client(api_url, _signing(key), clock, timeout)
        self._key = key
        self._clock = clock
        self._learned = learned
        self._lock = threading.Lock()
        self._installations: dict[str, int] = {}
        self._tokens: dict[int, InstallationToken] = {}
        self._git_tokens: dict[tuple[int, str], InstallationToken] = {}

    def token_for(self, repository: str) -> InstallationToken:
        """The token of the installation that a repository belongs to."""
        installation = self._installation(repository)
        with self._lock:
            if installation not in self._tokens:
                self._tokens[installation] = InstallationToken(
                    self.client, installation, self._clock, self._learned, repository
                )
            return self._tokens[installation]

    def token_for_git(self, repository: str) -> InstallationToken:
        """A token that reads this repository's contents and nothing else.

        Git has it while it follows what a commit names: whoever may push to one repository must not read
        others of the installation by it.
        """
        installation = self._installation(repository)
        name = repository.partition("/")[2]
        limits: Mapping[str, Json] = {"repositories": [name], "permissions": {"contents": "read"}}
        with self._lock:
            key = installation, repository.casefold()
            if key not in self._git_tokens:
                self._git_tokens[key] = InstallationToken(
                    self.client, installation, self._clock, self._learned, repository, limits
                )
            return self._git_tokens[key]

    def installation_of(self, repository: str) -> int | None:
        """Where the App is installed for a repository; None while that was not asked."""
        return self._key.installation or self._installations.get(_owner(repository))

    def forget(self, repository: str) -> None:
        """Find out anew where the App is installed."""
        with self._lock:
            self._installations.pop(_owner(repository), None)

    def _installation(self, repository: str) -> int:
        known = self.installation_of(repository)
        if known is not None:
            return known
        answer = self.client.get(repository, f"/repos/{quote(repository)}/installation", allowed=(404,))
        if answer.status == 404:
            raise SourceRefused(
                f"the App {self._key.id} is not installed for {repository}, or there is no such repository",
                f"install it for {repository.partition('/')[0]}, with access to that repository",
            )
        with reaching(self.client.host, repository):
            found = number_at(answer.body, "id")
        with self._lock:
            self._installations[_owner(repository)] = found
        return found


class InstallationToken(Auth):
    """A login that renews itself before it expires. Thread-safe.

    ``limits`` are what is asked for less than the installation has, in GitHub's own words.
    """

    def __init__(
        self,
        client: Client,
        installation: int,
        clock: Clock,
        learned: Callable[[str], None],
        what: str,
        limits: Mapping[str, Json] | None = None,
    ) -> None:
        self._limits = dict(limits or {})
        self._client = client
        self.installation = installation
        self._clock = clock
        self._learned = learned
        self._what = what
        self._lock = threading.Lock()
        self._current: tuple[str, datetime] | None = None

    @property
    def token_type(self) -> str:
        return "token"

    @property
    def token(self) -> str:
        """A token that is valid for some minutes at least. Raises SourceUnavailable."""
        with self._lock:
            if self._current is None or self._current[1] - _RENEWED_BEFORE <= self._clock.now():
                path = f"/app/installations/{self.installation}/access_tokens"
                body = self._client.post(self._what, path, self._limits).body
                with reaching(self._client.host, self._what):
                    self._current = text_at(body, "token"), moment_at(body, "expires_at")
                self._learned(self._current[0])
            return self._current[0]

    def drop(self) -> None:
        """Get a new one next time: this one was not accepted."""
        with self._lock:
            self._current = None


def _signing(key: AppKey) -> AppAuth:
    """The App's own login. SourceRefused when nothing can be signed with its key."""
    auth = AppAuth(key.id, key.private_key.strip() or "-")
    try:
        auth.create_jwt()
    except (jwt.PyJWTError, ValueError, TypeError):
        raise SourceRefused(
            f"the private key of the App {key.id} cannot be used",
            "github.app.private_key: the PEM file as GitHub gave it, an RSA key without a passphrase",
        ) from None
    return auth


def _owner(repository: str) -> str:
    return repository.partition("/")[0].casefold()
