"""Networks and volumes of ours on an engine."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, TypedDict, cast

from orchestrator.adapters.docker.clients import Clients
from orchestrator.adapters.docker.errors import CONFLICT, FORBIDDEN, NOT_FOUND, Refused, translate
from orchestrator.adapters.docker.known import RecentNames
from orchestrator.adapters.docker.labels import INSTANCE, MADE, RANGE, ours, with_instance
from orchestrator.adapters.docker.ranges import WHOLE, free_part
from orchestrator.domain.errors import EngineError

if TYPE_CHECKING:
    from docker.types import IPAMConfig

_NO_ICC = {"com.docker.network.bridge.enable_icc": "false"}
_TRIES = 5
_NO_RANGE_REMEDY = (
    "an engine has room for some 30 networks, and those of slots share some of it: remove those that nobody"
    " needs (`docker network prune`, `orchestrator hosts prune --now`), or give the engine more ranges"
    " (default-address-pools in its daemon.json)"
)


class _RangeJson(TypedDict, total=False):
    Subnet: str
    Gateway: str


class _IpamJson(TypedDict, total=False):
    Config: list[_RangeJson] | None


class _NetworkJson(TypedDict):
    Name: str
    Labels: dict[str, str] | None
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
        self._making = threading.Lock()

    def ensure(self, name: str, labels: Mapping[str, str]) -> None:
        """Have the network; adopt ours, refuse another's."""
        refused: Refused | None = None
        # One at a time, because two would take the same range.
        with self._making:
            for _ in range(_TRIES):
                found = self._found()
                if self._present(name, found):
                    return
                try:
                    self._make(name, labels, found)
                except Refused as error:
                    # What an engine does not find when it makes a bridge network is a range of addresses.
                    if error.status == NOT_FOUND:
                        raise EngineError(
                            f"{self._clients.url} has no range of addresses left for the network {name}",
                            _NO_RANGE_REMEDY,
                        ) from error
                    # Another process took the name, or the range, since we looked.
                    if error.status not in (CONFLICT, FORBIDDEN):
                        raise
                    refused = error
                else:
                    return
        raise refused or EngineError(f"the network {name} on {self._clients.url} was not made")

    def require(self, name: str) -> None:
        """Raise EngineError unless the network is there and ours."""
        if not self._present(name, self._found(name)):
            raise EngineError(
                f"there is no network {name} on {self._clients.url}", "make it before the container"
            )

    def remove(self, name: str) -> None:
        """Remove it; one that is gone is fine."""
        if not self._present(name, self._found(name)):
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
        ranges = [part for network in self._found() for part in _ranges_of(network)]
        told = {part.get("Subnet") for part in ranges} | {part.get("Gateway") for part in ranges}
        return tuple(sorted(text for text in told if text and ":" not in text))

    def _found(self, name: str | None = None) -> list[_NetworkJson]:
        with translate("listing networks"):
            found = self._clients.control().networks(names=None if name is None else [name])
        return cast("list[_NetworkJson]", found)

    def _present(self, name: str, found: Sequence[_NetworkJson]) -> bool:
        same = [network for network in found if network["Name"] == name]
        if any(not ours(network["Labels"], self._instance) for network in same):
            raise foreign("network", name, self._clients.url)
        return bool(same)

    def _make(self, name: str, labels: Mapping[str, str], found: Sequence[_NetworkJson]) -> None:
        from docker.types import IPAMConfig, IPAMPool

        mine = [network["Labels"] or {} for network in found if ours(network["Labels"], self._instance)]
        if len(mine) < WHOLE:
            self._create(name, labels)
            return
        taken = [part["Subnet"] for network in found for part in _ranges_of(network) if part.get("Subnet")]
        free = free_part((own[RANGE] for own in mine if RANGE in own), taken)
        if free is None:
            free = free_part([self._given(f"{name}-range", labels)], taken)
        if free is None:
            raise EngineError(f"{self._clients.url} gave no IPv4 range for the network {name}")
        part, whole = free
        # The gateway's address is to be shut, and an engine tells it only where it chose or was told it.
        pool = IPAMPool(subnet=part, gateway=str(IPv4Network(part)[1]))
        self._create(name, {**labels, RANGE: whole}, IPAMConfig(pool_configs=[pool]))

    def _given(self, name: str, labels: Mapping[str, str]) -> str:
        """The range that the engine gives a network of that name, which is gone afterwards."""
        self.remove(name)
        self._create(name, labels)
        try:
            (made,) = (network for network in self._found(name) if network["Name"] == name)
            return next(part["Subnet"] for part in _ranges_of(made) if ":" not in part.get("Subnet", ":"))
        finally:
            self.remove(name)

    def _create(self, name: str, labels: Mapping[str, str], ipam: IPAMConfig | None = None) -> None:
        with translate(f"making the network {name}"):
            self._clients.control().create_network(
                name,
                driver="bridge",
                options=dict(_NO_ICC),
                ipam=ipam,
                check_duplicate=True,
                labels=with_instance(labels, self._instance),
            )


def _ranges_of(network: _NetworkJson) -> Sequence[_RangeJson]:
    return (network["IPAM"] or {}).get("Config") or ()


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
