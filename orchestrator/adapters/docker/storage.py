"""Networks and volumes of ours on an engine."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TypedDict, cast

from orchestrator.adapters.docker.clients import Clients
from orchestrator.adapters.docker.errors import CONFLICT, NOT_FOUND, Refused, translate
from orchestrator.adapters.docker.known import RecentNames
from orchestrator.adapters.docker.labels import INSTANCE, MADE, ours, with_instance
from orchestrator.domain.errors import EngineError

_NO_ICC = {"com.docker.network.bridge.enable_icc": "false"}
_NO_RANGE_REMEDY = (
    "each slot has a network of its own, and an engine room for some 30 networks: remove those that nobody"
    " needs (`docker network prune`, `orchestrator hosts prune --now`), or give the engine more ranges"
    " (default-address-pools in its daemon.json)"
)


class _RangeJson(TypedDict, total=False):
    Subnet: str
    Gateway: str


class _IpamJson(TypedDict, total=False):
    Config: list[_RangeJson] | None


class _NetworkJson(TypedDict):
    IPAM: _IpamJson | None


class _Named(TypedDict):
    Id: str
    Name: str
    Labels: dict[str, str] | None


def foreign(kind: str, name: str, url: str) -> EngineError:
    """The error for something that has our name and not our label."""
    return EngineError(
        f"the {kind} {name} on {url} does not belong to this orchestrator",
        f"it lacks our label {INSTANCE}; remove or rename it if it is not needed",
    )


class Networks:
    """Bridge networks that keep their containers apart."""

    def __init__(self, clients: Clients, instance: str) -> None:
        self._clients = clients
        self._instance = instance

    def ensure(self, name: str, labels: Mapping[str, str]) -> None:
        """Have the network; adopt ours, refuse another's."""
        if self._present(name):
            return
        client = self._clients.control()
        try:
            with translate(f"making the network {name}"):
                client.create_network(
                    name,
                    driver="bridge",
                    options=dict(_NO_ICC),
                    check_duplicate=True,
                    labels=with_instance(labels, self._instance),
                )
        except Refused as error:
            # What an engine does not find when it makes a bridge network is a range of addresses for it.
            if error.status == NOT_FOUND:
                raise EngineError(
                    f"{self._clients.url} has no range of addresses left for the network {name}",
                    _NO_RANGE_REMEDY,
                ) from error
            if error.status != CONFLICT or not self._present(name):
                raise

    def require(self, name: str) -> None:
        """Raise EngineError unless the network is there and ours."""
        if not self._present(name):
            raise EngineError(
                f"there is no network {name} on {self._clients.url}", "make it before the container"
            )

    def remove(self, name: str) -> None:
        """Remove it; one that is gone is fine."""
        if not self._present(name):
            return
        try:
            with translate(f"removing the network {name}"):
                self._clients.control().remove_network(name)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise

    def names(self) -> tuple[str, ...]:
        """All of ours."""
        with translate("listing networks"):
            found = self._clients.control().networks(filters={"label": f"{INSTANCE}={self._instance}"})
        return tuple(sorted(network["Name"] for network in cast("list[_Named]", found)))

    def ranges(self) -> tuple[str, ...]:
        """The IPv4 ranges of all networks, whoever made them, and the host's addresses there."""
        with translate("listing networks"):
            found = cast("list[_NetworkJson]", self._clients.control().networks())
        ranges = [part for network in found for part in (network["IPAM"] or {}).get("Config") or ()]
        told = {part.get("Subnet") for part in ranges} | {part.get("Gateway") for part in ranges}
        return tuple(sorted(text for text in told if text and ":" not in text))

    def _present(self, name: str) -> bool:
        with translate(f"looking for the network {name}"):
            found = cast("list[_Named]", self._clients.control().networks(names=[name]))
        same = [network for network in found if network["Name"] == name]
        if any(not ours(network["Labels"], self._instance) for network in same):
            raise foreign("network", name, self._clients.url)
        return bool(same)


class Volumes:
    """Named volumes."""

    def __init__(self, clients: Clients, instance: str) -> None:
        self._clients = clients
        self._instance = instance
        self._recent = RecentNames()

    def ensure(self, name: str, labels: Mapping[str, str]) -> bool:
        """Have the volume; True for exactly one of those who ask at the same time, the one who made it."""
        mark = uuid.uuid4().hex
        with translate(f"making the volume {name}"):
            made = cast(
                _Named,
                self._clients.control().create_volume(
                    name, driver="local", labels={**with_instance(labels, self._instance), MADE: mark}
                ),
            )
        # The engine answers whoever comes later with the volume that the first one made.
        if not ours(made["Labels"], self._instance):
            raise foreign("volume", name, self._clients.url)
        self._recent.note(name)
        return (made["Labels"] or {}).get(MADE) == mark

    def require(self, name: str) -> None:
        """Raise EngineError unless the volume is there and ours: the engine would make an unlabelled one."""
        if name not in self._recent and not self.present(name):
            raise EngineError(
                f"there is no volume {name} on {self._clients.url}", "make it before the container"
            )

    def remove(self, name: str) -> None:
        """Remove it; one that is gone is fine, one in use is refused."""
        self._recent.forget(name)
        if not self.present(name):
            return
        try:
            with translate(f"removing the volume {name}"):
                self._clients.control().remove_volume(name)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise

    def names(self) -> tuple[str, ...]:
        """All of ours."""
        with translate("listing volumes"):
            found = self._clients.control().volumes(filters={"label": f"{INSTANCE}={self._instance}"})
        return tuple(sorted(volume["Name"] for volume in cast("list[_Named]", found["Volumes"] or [])))

    def present(self, name: str) -> bool:
        """Whether it is there; EngineError when it is another's."""
        try:
            with translate(f"looking for the volume {name}"):
                found = cast(_Named, self._clients.control().inspect_volume(name))
        except Refused as error:
            if error.status == NOT_FOUND:
                return False
            raise
        if not ours(found["Labels"], self._instance):
            raise foreign("volume", name, self._clients.url)
        return True
