"""Registries of images: who logs in where, and why an image did not come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.domain.errors import EngineError, ImageNotFound, RegistryDenied, RegistryUnavailable

if TYPE_CHECKING:
    from docker import APIClient

_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
"""What engines call the login at Docker's own registry."""
_UNAUTHORIZED = frozenset({401, 403})
_NOT_FOUND = 404
# Engines answer 500 for a wrong password as for a registry that is down (tried with 20.10). The codes of the
# distribution API, which they repeat in the message, are all that tells one from the other, so that a wrong
# password is not tried again and again; like the full disk, an exception to the rule that no message is read.
_DENIED = ("unauthorized", "denied", "authentication required", "no basic auth credentials")
_UNKNOWN = ("manifest unknown", "name unknown", "not found")
_NETWORK = ('get "http', 'head "http', "dial tcp", "http status", "timeout", "connection re")


@dataclass(frozen=True, slots=True)
class Login:
    """Who to be at a registry."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logins:
    """The administrator's logins: at which registries there is one, and each when it is needed.

    ``at`` raises SecretMissing when the password has no value.
    """

    hosts: tuple[str, ...] = ()
    at: Callable[[str], Login] = field(default=lambda host: Login("", ""), repr=False)

    def for_pull(self, client: APIClient, registry: str) -> dict[str, str]:
        """The headers of a pull: our login at that registry, else the one of ``docker login``, else none."""
        from docker.auth import encode_header, get_config_header

        if registry in self.hosts:
            login = self.at(registry)
            server = _key(registry)
            said = {"username": login.username, "password": login.password, "serveraddress": server}
            return {"X-Registry-Auth": encode_header(said).decode("ascii")}
        known = get_config_header(client, registry)
        return {"X-Registry-Auth": known.decode("ascii")} if known else {}

    def for_build(self) -> dict[str, str]:
        """The headers of a build: all logins, ours before those of ``docker login``."""
        from docker.auth import encode_header, load_config

        known = dict(load_config().get_all_credentials())  # type: ignore[no-untyped-call]
        for host in self.hosts:
            login = self.at(host)
            known[_key(host)] = {
                "username": login.username,
                "password": login.password,
                "serveraddress": _key(host),
            }
        return {"X-Registry-Config": encode_header(known).decode("ascii")} if known else {}


def registry_of(image: str) -> str:
    """The registry that an image's name points to, as the configuration calls it."""
    from docker.auth import resolve_repository_name
    from docker.errors import DockerException
    from docker.utils import parse_repository_tag

    try:
        repository, _ = parse_repository_tag(image)
        registry, _ = resolve_repository_name(repository)
    except DockerException:
        return _HUB
    return str(registry)


def speaks_of_network(said: str) -> bool:
    """Whether an engine's words about an image in FROM are about the way to its registry."""
    return any(word in said.lower() for word in _NETWORK)


def not_pulled(what: str, registry: str, status: int, said: str, logins: Logins) -> EngineError:
    """Why an image did not come: ``status`` is the engine's (0: it said so later), ``said`` its words."""
    words = said.lower()
    if status == _NOT_FOUND or (status == 0 and any(word in words for word in _UNKNOWN)):
        return ImageNotFound(
            f"{what}: {said}", "check the name and the login at the registry, or put the image on the host"
        )
    if status in _UNAUTHORIZED or any(word in words for word in _DENIED):
        return RegistryDenied(f"{what}: {registry} refuses: {said}", _login_remedy(registry, logins))
    return RegistryUnavailable(
        f"{what}: {registry} does not answer as a registry should: {said}",
        "check the image's name and that the engine's machine reaches the registry, or put the image on the"
        " host",
    )


def _login_remedy(registry: str, logins: Logins) -> str:
    if registry in logins.hosts:
        return f"check the username and the password of registries.{registry} in orchestrator.yaml"
    return f"name a login under registries: in orchestrator.yaml, with {registry} as its key"


def _key(registry: str) -> str:
    return _HUB_KEY if registry == _HUB else registry
