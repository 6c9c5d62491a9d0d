"""What is ours on an engine, and the room that it takes on its disk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from datetime import UTC, datetime
from typing import TypedDict, cast

from orchestrator.adapters.docker.clients import Clients, endpoint
from orchestrator.adapters.docker.convert import moment
from orchestrator.adapters.docker.errors import NOT_FOUND, Refused, check, translate
from orchestrator.adapters.docker.labels import CONTAINER, IMAGE, INSTANCE, ours
from orchestrator.ports.engine import ContainerUsage, ImageUsage, NetworkUsage, Usage, VolumeUsage

_PATIENCE = 300.0
"""Seconds that an engine may count, for us or for others before us."""
_AGAIN = 0.5
_OUT_OF_ORDER = 500
"""What an engine answers who counts already, and nothing more definite."""


class _Image(TypedDict):
    Id: str
    RepoTags: list[str] | None
    Labels: dict[str, str] | None
    Created: int
    Size: int
    SharedSize: int


class _VolumeSize(TypedDict):
    Size: int


class _Volume(TypedDict, total=False):
    Name: str
    Labels: dict[str, str] | None
    CreatedAt: str
    UsageData: _VolumeSize | None


class _Mount(TypedDict, total=False):
    Name: str


class _Container(TypedDict):
    Id: str
    Names: list[str] | None
    Labels: dict[str, str] | None
    Created: int
    ImageID: str
    Mounts: list[_Mount] | None


class _Network(TypedDict):
    Name: str
    Created: str


class _Counted(TypedDict):
    Images: list[_Image] | None
    Volumes: list[_Volume] | None


class Usages:
    """Asks the engine what there is, and to count."""

    def __init__(self, clients: Clients, instance: str) -> None:
        self._clients = clients
        self._instance = instance

    def measured(self) -> Usage:
        """What is ours, with its size. Raises EngineError."""
        counted, client = self._counted(), self._clients.control()
        # Podman counts volumes without telling their labels, so what is ours is listed apart.
        filters = {"label": f"{INSTANCE}={self._instance}"}
        with translate("listing images and volumes"):
            images = cast("list[_Image]", client.images(filters=filters))
            volumes = cast("list[_Volume]", client.volumes(filters=filters)["Volumes"] or [])
        shared = {image["Id"]: image["SharedSize"] for image in counted["Images"] or []}
        sizes = {volume["Name"]: volume.get("UsageData") for volume in counted["Volumes"] or []}
        with translate("listing containers"):
            containers = cast("list[_Container]", client.containers(all=True))
        mine = [each for each in containers if self._is_mine(each)]
        others = [each for each in containers if not self._is_mine(each)]
        held_images = {each["ImageID"] for each in others}
        held_volumes = {name for each in others for name in _volumes_of(each)}
        return Usage(
            tuple(made for image in images if (made := self._image(image, shared, held_images)) is not None),
            tuple(_volume(volume, sizes.get(volume["Name"]), held_volumes) for volume in volumes),
            tuple(_container(each) for each in mine),
            self._networks(),
        )

    def _is_mine(self, container: _Container) -> bool:
        # What a person started from one of our images has our label, and another container's name on it.
        labels = container["Labels"] or {}
        return ours(labels, self._instance) and f"/{labels.get(CONTAINER)}" in (container["Names"] or [])

    def _networks(self) -> tuple[NetworkUsage, ...]:
        filters = {"label": f"{INSTANCE}={self._instance}"}
        with translate("listing networks"):
            found = cast("list[_Network]", self._clients.control().networks(filters=filters))
        made = ((each["Name"], moment(each["Created"])) for each in found)
        return tuple(NetworkUsage(name, at) for name, at in made if at is not None)

    def _counted(self) -> _Counted:
        """What the engine counts; it refuses while it counts for somebody else, whom this waits for."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                with (
                    closing(self._clients.stream()) as client,
                    translate("counting the room of images and volumes"),
                ):
                    # Engines that cannot be asked for some kinds alone count all.
                    response = client.get(
                        endpoint(client, "/system/df"),
                        params={"type": ["image", "volume"]},
                        timeout=(self._clients.timeout, _PATIENCE),
                    )
                    check(response)
                    return cast(_Counted, response.json())
            except Refused as error:
                if error.status < _OUT_OF_ORDER or time.monotonic() > until:
                    raise
            time.sleep(_AGAIN)

    def _image(self, image: _Image, shared: Mapping[str, int], held: AbstractSet[str]) -> ImageUsage | None:
        tags = [tag for tag in image["RepoTags"] or [] if tag != "<none>:<none>"]
        own = (image["Labels"] or {}).get(IMAGE)
        # Under another's tag it is another's, whatever it is made of.
        if tags and own not in tags:
            return None
        try:
            with translate(f"looking at the image {image['Id']}"):
                found = self._clients.control().inspect_image(image["Id"])  # type: ignore[no-untyped-call]
        except Refused as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return ImageUsage(
            name=str(own) if tags else image["Id"],
            id=image["Id"],
            created_at=datetime.fromtimestamp(image["Created"], UTC),
            size=image["Size"] - max(shared.get(image["Id"], 0), 0),
            layers=tuple(found["RootFS"].get("Layers") or ()),
            held=image["Id"] in held,
        )


def _container(container: _Container) -> ContainerUsage:
    labels = container["Labels"] or {}
    at = datetime.fromtimestamp(container["Created"], UTC)
    volumes = _volumes_of(container)
    return ContainerUsage(labels[CONTAINER], container["Id"], at, labels, container["ImageID"], volumes)


def _volumes_of(container: _Container) -> tuple[str, ...]:
    return tuple(mount["Name"] for mount in container["Mounts"] or [] if mount.get("Name"))


def _volume(volume: _Volume, data: _VolumeSize | None, held: AbstractSet[str]) -> VolumeUsage:
    size = data["Size"] if data is not None else -1
    return VolumeUsage(
        name=volume["Name"],
        created_at=datetime.fromisoformat(volume["CreatedAt"]).astimezone(UTC),
        size=size if size >= 0 else None,
        held=volume["Name"] in held,
    )
