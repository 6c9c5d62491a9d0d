"""Logins at registries of images, from the configuration."""

from __future__ import annotations

import os

from orchestrator.adapters.docker.registries import Login, Logins
from orchestrator.config.interpolation import file_reader, resolve
from orchestrator.config.load import Configuration
from orchestrator.domain.errors import SecretMissing
from orchestrator.observe import Masker


def logins_of(config: Configuration, masker: Masker) -> Logins:
    """The administrator's logins; a password is read when it is needed, and masked from then on."""
    known = config.orchestrator.registries

    def at(host: str) -> Login:
        registry = known[host]
        read = file_reader(config.base)
        try:
            login = Login(
                resolve(registry.username, os.environ, read), resolve(registry.password, os.environ, read)
            )
        except SecretMissing as error:
            raise SecretMissing(f"the login at the registry {host}: {error.message}", error.remedy) from error
        masker.add(login.password)
        return login

    return Logins(tuple(known), at)
