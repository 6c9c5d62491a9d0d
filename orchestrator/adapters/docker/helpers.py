"""Short containers of ours that look at something on a host and say what they saw."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.adapters.docker.clients import Clients, endpoint
from orchestrator.adapters.docker.errors import CONFLICT, NOT_FOUND, Refused, check, translate
from orchestrator.adapters.docker.frames import contents
from orchestrator.adapters.docker.labels import CONTAINER, with_instance
from orchestrator.domain.errors import EngineError, ImageNotFound

if TYPE_CHECKING:
    from docker import APIClient
    from docker.types import DeviceRequest, Mount

ROLE = "look"
"""Not that of a container of a preparation: a look is no attempt's, and may be made at any time."""
NOBODY = "65534:65534"
_MOST = 1 << 20
"""Bytes that are read of what a helper says: an engine may not be what it seems."""


@dataclass(frozen=True, slots=True)
class Helper:
    """What a helper is given beside its script; without any of it, nothing. The modes are Docker's.

    ``memory`` in bytes; ``patience`` is how many seconds it may take.
    """

    user: str = NOBODY
    network_mode: str = "none"
    pid_mode: str | None = None
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()
    device_requests: tuple[DeviceRequest, ...] = ()
    pids: int = 16
    memory: int = 32 << 20
    patience: int = 30


NOTHING = Helper()


def look(
    clients: Clients,
    instance: str,
    image: str,
    script: str,
    what: str,
    network_mode: str = "none",
    pid_mode: str | None = None,
) -> str:
    """What a shell script prints in a container of the helper image, which has no rights at all.

    ``what`` says what is looked at, for messages: "the host's addresses". The modes are Docker's. Raises
    ImageNotFound without the image, EngineError when the script fails.
    """
    helper = Helper(network_mode=network_mode, pid_mode=pid_mode)
    code, said = ask(clients, instance, image, script, what, helper)
    if code != 0:
        raise EngineError(f"{what} cannot be looked at in {image}: {said[-500:]}")
    return said


def ask(
    clients: Clients, instance: str, image: str, script: str, what: str, helper: Helper = NOTHING
) -> tuple[int, str]:
    """As :func:`look`, for a helper that is given more: its exit code, and what it printed.

    Raises Refused where the engine does not give it that.
    """
    client = clients.control()
    name = f"mlci-{instance[:8]}-look-{uuid.uuid4().hex[:12]}"
    labels = {**with_instance({"mlci.role": ROLE}, instance), CONTAINER: name}
    try:
        with translate(f"looking at {what}"):
            made: str = client.create_container(
                image,
                name=name,
                entrypoint=["/bin/sh", "-c", script],
                user=helper.user,
                working_dir="/",
                labels=labels,
                host_config=client.create_host_config(
                    network_mode=helper.network_mode,
                    pid_mode=helper.pid_mode,
                    mounts=list(helper.mounts),
                    devices=list(helper.devices),
                    device_requests=list(helper.device_requests),
                    cap_drop=["ALL"],
                    security_opt=["no-new-privileges:true"],
                    read_only=True,
                    pids_limit=helper.pids,
                    mem_limit=helper.memory,
                ),
                use_config_proxy=False,
            )["Id"]
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        raise ImageNotFound(
            f"{clients.url} has no image {image}, in which {what} could be looked at",
            "make it with `orchestrator images build base`, or name another as `helper_image` of the host",
        ) from error
    try:
        with translate(f"looking at {what}"):
            client.start(made)
            code: int = client.wait(made, timeout=helper.patience)["StatusCode"]
            said = _said(client, made, what).decode(errors="replace")
    finally:
        with suppress(EngineError):
            _remove(client, made)
    return code, said


def _said(client: APIClient, identity: str, what: str) -> bytes:
    response = client.get(
        endpoint(client, f"/containers/{identity}/logs"),
        params={"stdout": "1", "stderr": "1"},
        stream=True,
        timeout=client.timeout,
    )
    with response:
        check(response)
        said: bytes = response.raw.read(_MOST + 1)
    if len(said) > _MOST:
        raise EngineError(f"looking at {what}: more than {_MOST >> 20} MiB were said, which is not believed")
    return contents(said)


def _remove(client: APIClient, identity: str) -> None:
    try:
        with translate("removing a container"):
            client.remove_container(identity, force=True, v=True)
    except Refused as error:
        if error.status not in (NOT_FOUND, CONFLICT):
            raise
