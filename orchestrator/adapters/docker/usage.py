"""The room that what is ours takes on an engine's disk."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TypedDict, cast

from orchestrator.adapters.docker.clients import Clients, endpoint
from orchestrator.adapters.docker.errors import NOT_FOUND, Refused, check, translate
from orchestrator.adapters.docker.labels import IMAGE, ours
from orchestrator.ports.engine import ImageUsage, Usage, VolumeUsage

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
    Containers: int


class _VolumeSize(TypedDict):
    Size: int
    RefCount: int


class _Volume(TypedDict, total=False):
    Name: str
    Labels: dict[str, str] | None
    CreatedAt: str
    UsageData: _VolumeSize | None


class _Counted(TypedDict):
    Images: list[_Image] | None
    Volumes: list[_Volume] | None


class Usages:
    """Asks the engine to count."""

    def __init__(self, clients: Clients, instance: str) -> None:
        self._clients = clients
        self._instance = instance

    def measured(self) -> Usage:
        """What is ours, with its size. Raises EngineError."""
        counted = self._counted()
        images = [i for i in counted["Images"] or [] if ours(i["Labels"], self._instance)]
        volumes = [v for v in counted["Volumes"] or [] if ours(v.get("Labels"), self._instance)]
        return Usage(
            tuple(made for image in images if (made := self._image(image)) is not None),
            tuple(_volume(volume) for volume in volumes),
        )

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

    def _image(self, image: _Image) -> ImageUsage | None:
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
            size=image["Size"] - max(image["SharedSize"], 0),
            layers=tuple(found["RootFS"].get("Layers") or ()),
            in_use=image["Containers"] > 0,
        )


def _volume(volume: _Volume) -> VolumeUsage:
    data = volume.get("UsageData")
    size = data["Size"] if data is not None else -1
    return VolumeUsage(
        name=volume["Name"],
        created_at=datetime.fromisoformat(volume["CreatedAt"]).astimezone(UTC),
        size=size if size >= 0 else None,
        in_use=data is not None and data["RefCount"] > 0,
    )
