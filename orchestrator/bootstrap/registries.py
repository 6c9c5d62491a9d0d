"""Logins at registries of images, from the configuration."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.adapters.docker.registries import Login, Logins
from orchestrator.config.interpolation import Text
from orchestrator.config.load import Configuration
from orchestrator.domain.errors import SecretMissing


def logins_of(config: Configuration, value: Callable[[Text], str]) -> Logins:
    """The administrator's logins. ``value`` reads a reference, when it is needed, and has it masked."""
    known = config.orchestrator.registries

    def at(host: str) -> Login:
        registry = known[host]
        try:
            return Login(value(registry.username), value(registry.password))
        except SecretMissing as error:
            raise SecretMissing(f"the login at the registry {host}: {error.message}", error.remedy) from error

    return Logins(tuple(known), at)
