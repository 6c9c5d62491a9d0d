"""Images on an engine: found, pulled, built, committed, removed."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict, cast
from urllib.parse import quote

from orchestrator.adapters.docker.builds import build
from orchestrator.adapters.docker.clients import Clients, endpoint
from orchestrator.adapters.docker.convert import ContainerJson, container_of, moment
from orchestrator.adapters.docker.errors import NOT_FOUND, Refused, check, disk_full, says_full, translate
from orchestrator.adapters.docker.labels import IMAGE, INSTANCE, with_instance
from orchestrator.adapters.docker.messages import Detail, Message, messages
from orchestrator.adapters.docker.registries import Logins, not_pulled, registry_of
from orchestrator.adapters.docker.storage import foreign
from orchestrator.adapters.docker.streams import archive_stream
from orchestrator.domain.errors import EngineError, ImageNotFound
from orchestrator.ports.engine import ContainerState, ImageFacts, Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

_SILENCE = 300.0
"""Seconds that a registry may keep us waiting between two messages, or an engine over one large layer."""

ConfigValue = str | bool | list[str] | dict[str, str] | dict[str, dict[str, str]] | None


class _RootFs(TypedDict):
    Type: str
    Layers: list[str] | None


class _ImageJson(TypedDict):
    Id: str
    RepoTags: list[str] | None
    Created: str
    Size: int
    Architecture: str
    Os: str
    RootFS: _RootFs
    Config: dict[str, ConfigValue]


class Images:
    """The images that runs execute in."""

    def __init__(self, clients: Clients, instance: str, logins: Logins) -> None:
        self._clients = clients
        self._instance = instance
        self._logins = logins

    def find(self, name: str) -> str | None:
        """The id of an image on the host, or None."""
        image = self._inspect(name)
        return None if image is None else image["Id"]

    def describe(self, name: str) -> ImageFacts | None:
        """What the engine tells of an image, or None."""
        image = self._inspect(name)
        if image is None:
            return None
        return ImageFacts(
            image["Id"],
            _created(image),
            image["Size"],
            tuple(image["RootFS"]["Layers"] or ()),
            _labels(image),
            f"{image['Os']}/{image['Architecture']}",
        )

    def environment(self, name: str) -> dict[str, str]:
        """The variables that an image sets; none when it is not there."""
        image = self._inspect(name)
        pairs = _strings(image["Config"].get("Env")) if image is not None else []
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def import_(self, tar: BinaryIO) -> str:
        """Make an image of a root file system's plain tar; its id."""
        client = self._clients.stream()
        what = "importing a root file system"
        try:
            response = self._send(client, "/images/create", {"fromSrc": "-"}, tar, what)
            told = ""
            for message in messages(response, what):
                if "error" in message:
                    raise disk_full(what) if says_full(message["error"]) else EngineError(message["error"])
                told = message.get("status", "") or told
        finally:
            client.close()
        if not told.startswith("sha256:"):
            raise EngineError(f"{what}: {self._clients.url} did not say what it made")
        return told

    def export(self, name: str) -> BinaryIO:
        """A stream of an image with its name. ImageNotFound."""
        what = f"reading the image {name}"
        client = self._clients.stream()
        try:
            with translate(what):
                response = client.get(
                    endpoint(client, f"/images/{quote(name, safe='/:@')}/get"),
                    stream=True,
                    timeout=(self._clients.timeout, _SILENCE),
                )
                check(response)
        except EngineError as error:
            client.close()
            if isinstance(error, Refused) and error.status == NOT_FOUND:
                raise ImageNotFound(f"{self._clients.url} has no image {name}") from error
            raise
        return archive_stream(response, what, client)

    def load(self, chunks: Iterator[bytes], what: str) -> None:
        """Have the images of a stream that :meth:`export` of another engine gave."""
        client = self._clients.stream()
        try:
            response = self._send(client, "/images/load", {"quiet": "1"}, chunks, what)
            for message in messages(response, what):
                if "error" in message:
                    raise disk_full(what) if says_full(message["error"]) else EngineError(message["error"])
        finally:
            client.close()

    def pull(self, name: str, progress: ProgressSink) -> str:
        """Fetch an image; its id. ImageNotFound, RegistryDenied, RegistryUnavailable, SecretMissing."""
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        client = self._clients.stream()
        what, registry = f"pulling {name}", registry_of(name)
        try:
            with translate(what):
                response = client.post(
                    endpoint(client, "/images/create"),
                    params={"fromImage": repository, "tag": tag or "latest"},
                    headers=self._logins.for_pull(client, registry),
                    stream=True,
                    timeout=(self._clients.timeout, _SILENCE),
                )
                check(response)
            layers: dict[str, Detail] = {}
            for message in messages(response, what):
                if "error" in message:
                    if says_full(message["error"]):
                        raise disk_full(what)
                    raise not_pulled(what, registry, 0, message["error"], self._logins)
                progress(_pulled(layers, message))
        except Refused as error:
            said = error.message.removeprefix(f"{what}: ")
            raise not_pulled(what, registry, error.status, said, self._logins) from error
        finally:
            client.close()
        found = self.find(name)
        if found is None:
            raise ImageNotFound(f"{what}: the image is not there although nothing failed")
        return found

    def build(
        self,
        context: Path,
        dockerfile: str,
        tag: str,
        labels: Mapping[str, str],
        limits: Mapping[str, str],
        progress: ProgressSink,
        *,
        credentials: bool,
        interrupt: Interrupt | None,
        shared: bool,
    ) -> str:
        """Make an image from a folder; its id."""
        build(
            self._clients,
            context,
            dockerfile,
            tag,
            labels if shared else self._labels(labels, tag),
            limits,
            progress,
            logins=self._logins if credentials else None,
            interrupt=interrupt,
        )
        found = self.find(tag)
        if found is None:
            raise EngineError(f"{self._clients.url} has built {tag}, and yet it is not there")
        return found

    def commit(
        self, container: ContainerJson, tag: str, labels: Mapping[str, str], env_to_drop: Iterable[str]
    ) -> str:
        """Keep a stopped container's files as an image with its base image's configuration; its id.

        Nothing of the container's environment is kept. ``env_to_drop`` names variables for which that is
        checked on the image that was made: one that has them is removed again, and EngineError raised.
        """
        name = container["Name"].removeprefix("/")
        if container_of(container).state is ContainerState.RUNNING:
            raise EngineError(
                f"the container {name} is running", "an image is made of a container that has ended"
            )
        base = self._inspect(container["Image"])
        if base is None:
            raise ImageNotFound(f"the image of the container {name} is no longer on {self._clients.url}")
        base_env = _strings(base["Config"].get("Env"))
        config = {**base["Config"], "Labels": {**_labels(base), **self._labels(labels, tag)}}
        kept = {entry.partition("=")[0] for entry in base_env}
        blank = [
            f"{variable}="
            for variable in (entry.partition("=")[0] for entry in container["Config"]["Env"] or [])
            if variable not in kept
        ]
        client = self._clients.stream()
        try:
            # The engine adds what the container has and this configuration lacks, so nothing can be left out
            # here, only emptied.
            with translate(f"committing the container {name}"):
                response = client.post(
                    endpoint(client, "/commit"),
                    params={"container": container["Id"]},
                    json={**config, "Env": [*base_env, *blank]},
                    timeout=(self._clients.timeout, _SILENCE),
                )
                check(response)
                committed: str = response.json()["Id"]
            self._reconfigure(client, committed, config, tag)
        finally:
            client.close()
        return self._without(tag, set(env_to_drop), base_env)

    def remove(self, name: str) -> None:
        """Remove a tag (or an untagged image) of ours; one that is gone is fine."""
        image = self._inspect(name)
        if image is None:
            return
        if not self._is_ours(image, name):
            raise foreign("image", name, self._clients.url)
        try:
            with translate(f"removing the image {name}"):
                self._clients.control().remove_image(name)
        except Refused as error:
            if error.status != NOT_FOUND:
                raise

    def names(self) -> tuple[str, ...]:
        """The tags of ours; the ids of those of ours that have none."""
        with translate("listing images"):
            found = self._clients.control().images(filters={"label": f"{INSTANCE}={self._instance}"})
        names: list[str] = []
        for image in found:
            tags = [tag for tag in image["RepoTags"] or [] if tag != "<none>:<none>"]
            own = (image["Labels"] or {}).get(IMAGE)
            names += [tag for tag in tags if tag == own] if tags else [image["Id"]]
        return tuple(sorted(names))

    def _labels(self, labels: Mapping[str, str], tag: str) -> dict[str, str]:
        return {**with_instance(labels, self._instance), IMAGE: _full(tag)}

    def _is_ours(self, image: _ImageJson, name: str) -> bool:
        labels = _labels(image)
        own = labels.get(IMAGE)
        return labels.get(INSTANCE) == self._instance and (own == _full(name) or not image["RepoTags"])

    def _reconfigure(
        self, client: APIClient, committed: str, config: Mapping[str, ConfigValue], tag: str
    ) -> None:
        """Give a committed image exactly ``config``: load an image of the same layers, none of which is sent.

        An engine whose image store wants the layers as well refuses; there the committed image itself is
        tagged, in which the container's variables are empty.
        """
        image = self._inspect(committed)
        if image is None:
            raise EngineError(f"the image {committed} vanished as soon as it was made")
        if self._load(client, _archive(image, config, _full(tag)), f"configuring {tag}"):
            with translate(f"removing the unfinished image {committed}"):
                client.remove_image(committed, noprune=True)
        else:
            repository, _, name = _full(tag).rpartition(":")
            with translate(f"tagging {tag}"):
                client.tag(committed, repository, name)

    def _send(
        self,
        client: APIClient,
        path: str,
        params: Mapping[str, str],
        tar: BinaryIO | bytes | Iterator[bytes],
        what: str,
    ) -> Response:
        """Send a tar; the engine's answer, which comes while it works."""
        with translate(what):
            response = client.post(
                endpoint(client, path),
                params=params,
                data=tar,
                headers={"Content-Type": "application/x-tar"},
                stream=True,
                timeout=(self._clients.timeout, _SILENCE),
            )
            check(response)
        return response

    def _load(self, client: APIClient, archive: bytes, what: str) -> bool:
        try:
            response = self._send(client, "/images/load", {"quiet": "1"}, archive, what)
        except Refused:
            return False
        said = list(messages(response, what))
        if any(says_full(message.get("error", "")) for message in said):
            raise disk_full(what)
        return not any("error" in message for message in said)

    def _without(self, tag: str, names: set[str], base_env: list[str]) -> str:
        image = self._inspect(tag)
        if image is None:
            raise EngineError(f"{self._clients.url} has made {tag}, and yet it is not there")
        added = (entry for entry in _strings(image["Config"].get("Env")) if entry not in base_env)
        split = (entry.partition("=") for entry in added)
        baked = sorted(name for name, _, value in split if name in names and value)
        if baked:
            self.remove(tag)
            raise EngineError(
                f"the engine kept {', '.join(baked)} in the image {tag}, which was removed again"
            )
        return image["Id"]

    def _inspect(self, name: str) -> _ImageJson | None:
        try:
            with translate(f"looking for the image {name}"):
                found = self._clients.control().inspect_image(name)  # type: ignore[no-untyped-call]
                return cast(_ImageJson, found)
        except Refused as error:
            if error.status == NOT_FOUND:
                return None
            raise


def _full(name: str) -> str:
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(name)
    return f"{repository}:{tag or 'latest'}"


def _labels(image: _ImageJson) -> dict[str, str]:
    labels = image["Config"].get("Labels")
    return {key: str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}


def _created(image: _ImageJson) -> datetime:
    # An imported image may tell no time.
    return moment(image["Created"]) or datetime.fromtimestamp(0, UTC)


def _strings(value: ConfigValue) -> list[str]:
    return list(value) if isinstance(value, list) else []


def _archive(image: _ImageJson, config: Mapping[str, ConfigValue], tag: str) -> bytes:
    """A ``docker save`` archive that names its layers and has none of them."""
    layers = image["RootFS"]["Layers"] or []
    described = json.dumps(
        {
            "architecture": image["Architecture"],
            "os": image["Os"],
            "created": image["Created"],
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": [{"created": image["Created"], "created_by": "setup"} for _ in layers],
        }
    ).encode()
    name = hashlib.sha256(described).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": [f"{n}/layer.tar" for n in range(len(layers))]}]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in ((name, described), ("manifest.json", json.dumps(manifest).encode())):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _pulled(layers: dict[str, Detail], message: Message) -> ProgressEvent:
    detail = message.get("progressDetail", {})
    if message.get("status") == "Downloading" and "total" in detail:
        layers[message.get("id", "")] = detail
    line = " ".join(part for part in (message.get("id"), message.get("status")) if part)
    total = sum(layer["total"] for layer in layers.values())
    return ProgressEvent(
        "pull", sum(layer["current"] for layer in layers.values()), total or None, "bytes", line
    )
