"""GitHub, wired: who asks for which source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestrator.adapters.github.account import Account, AppKey
from orchestrator.config.interpolation import Text
from orchestrator.config.models.source import GITHUB, Source
from orchestrator.domain.pipeline import SourceSpec

if TYPE_CHECKING:
    from orchestrator.adapters.github import GitHub
    from orchestrator.bootstrap.application import Application
    from orchestrator.config.load import Configuration
    from orchestrator.config.models.github import GitHub as GitHubSettings


def forge_url(config: Configuration) -> str:
    """Where repositories that are named by ``github:`` are cloned from."""
    github = config.orchestrator.github
    return GITHUB if github is None else github.web_url


def configured_sources(config: Configuration) -> list[tuple[str, Source]]:
    """All watched repositories with their addresses."""
    sources: list[Source] = [source for file in config.pipelines.values() for source in file.all_sources]
    sources += config.orchestrator.repositories.values()
    return [(source.address(forge_url(config)), source) for source in sources]


class SourceAccounts:
    """Finds who asks GitHub for a source: the owner of the source's own token, else whom ``github:`` names.

    ``value`` resolves a reference, and masks what it gives.
    """

    def __init__(
        self,
        sources: Iterable[tuple[str, Source]],
        settings: GitHubSettings | None,
        api_url: str,
        value: Callable[[Text], str],
    ) -> None:
        self._settings = settings
        self._api_url = api_url
        self._value = value
        self._tokens: dict[tuple[str, str], Text] = {}
        for address, source in sources:
            if source.github is not None and source.token is not None:
                self._tokens[address, source.title] = source.token

    def __call__(self, spec: SourceSpec) -> Account | None:
        """Raises SecretMissing."""
        token = self._tokens.get((spec.location, spec.name))
        if token is not None:
            return Account(self._api_url, self._value(token).strip())
        settings = self._settings
        if settings is None:
            return None
        if settings.app is not None:
            app = settings.app
            return Account(self._api_url, app=AppKey(app.id, self._value(app.private_key), app.installation))
        if settings.token is None:
            return None
        return Account(self._api_url, self._value(settings.token).strip())


def github_of(app: Application) -> GitHub | None:
    """GitHub as the configuration has it; None when it names no login there."""
    from orchestrator.config.models.github import API_URL

    settings = app.config.orchestrator.github
    sources = configured_sources(app.config)
    logged_in = settings is not None and (settings.token or settings.app)
    if not logged_in and not any(source.github and source.token for _, source in sources):
        return None
    from orchestrator.adapters.github import GitHub

    api_url = API_URL if settings is None else settings.api_url
    accounts = SourceAccounts(sources, settings, api_url, app.secrets.value)
    return GitHub(accounts, app.clock, app.masker.add)


def token_for_git(app: Application, source: SourceSpec) -> str:
    """What git logs in with where GitHub keeps a source, and nowhere else; empty without a login."""
    here = source.location.startswith(f"{forge_url(app.config)}/")
    return app.github.git_token(source) if app.github is not None and here else ""
