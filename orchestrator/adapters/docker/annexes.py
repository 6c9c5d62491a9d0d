"""Annexes: where a repository's Dockerfile is built, behind the sandbox of its slot as behind a router.

An engine's builder gives what it runs NET_RAW, which writes frames past all routes of the network it is in.
So that network must not be the sandbox's own: the annex has a link to the sandbox alone, whose kernel
forwards what its routes allow, and neither broadcasts nor multicasts.
"""

from __future__ import annotations

import ipaddress
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypedDict, cast

from orchestrator.adapters.docker.clients import Clients
from orchestrator.adapters.docker.convert import ContainerJson
from orchestrator.adapters.docker.errors import translate
from orchestrator.adapters.docker.labels import CONTAINER, with_instance
from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import Sandbox

if TYPE_CHECKING:
    from docker import APIClient

_NEAR = "192.0.0.9"
"""The sandbox's address on its link to the annex: one for special purposes, which nobody has."""
_MEMORY = 32 << 20
_HOSTNAME = "build"

# A process is known by its arguments: both containers see each other's, which is how the sandbox finds the
# network at the other end.
_FAR_END = f"""set -eu
address=$1 wanted="sleep $2 " table=$3 pid=
set -- $(ip -4 route show default)
device=$5
ip link delete annex 2>/dev/null || true
for process in /proc/[0-9]*; do
  said=$(tr '\\0' ' ' 2>/dev/null <"$process/cmdline" || true)
  if [ "$said" = "$wanted" ]; then pid=${{process#/proc/}}; fi
done
[ -n "$pid" ] || {{ echo 'the annex does not run'; exit 1; }}
ip link add annex type veth peer name eth0 netns "$pid"
ip -4 addr add {_NEAR}/32 dev annex
ip link set annex up
ip -4 route replace "$address/32" dev annex
ip -4 route replace "$address/32" dev annex table "$table"
ip -4 neigh replace proxy "$address" dev "$device"
"""
_NEAR_END = f"""set -eu
ip -4 addr add "$1/32" dev eth0
ip link set eth0 up
ip -4 route replace default via {_NEAR} dev eth0 onlink
"""

_LEAVE = "ip link delete annex 2>/dev/null || true"

Run = Callable[[str, str, list[str]], int]
"""Runs a script with arguments as root in a container; its exit code. EngineError where that fails."""


class _AddressJson(TypedDict):
    IPAddress: str
    IPPrefixLen: int
    Gateway: str


class _NetworksJson(TypedDict):
    Networks: dict[str, _AddressJson]


class _JoinedJson(ContainerJson):
    NetworkSettings: _NetworksJson


@contextmanager
def annex(
    clients: Clients, instance: str, sandbox: Sandbox, table: int, run: Run, remove: Callable[[str], None]
) -> Iterator[Sandbox]:
    """A network behind the sandbox's, for as long as the block lasts. ``table`` holds what is shut there."""
    client: APIClient = clients.control()
    with translate(f"looking at the sandbox {sandbox.name}"):
        json = cast(_JoinedJson, client.inspect_container(sandbox.id))
    address = _free_address(json, sandbox)
    name = f"mlci-{instance[:8]}-annex-{uuid.uuid4().hex[:12]}"
    mark = str(10**9 + secrets.randbelow(10**9))
    with translate(f"making the annex of {sandbox.name}"):
        made: str = client.create_container(
            json["Image"],
            name=name,
            entrypoint=["sleep", mark],
            user="0:0",
            working_dir="/",
            hostname=_HOSTNAME,
            labels={**with_instance({"mlci.role": "helper"}, instance), CONTAINER: name},
            host_config=client.create_host_config(
                network_mode="none",
                pid_mode=f"container:{sandbox.id}",
                extra_hosts={_HOSTNAME: address},
                cap_drop=["ALL"],
                cap_add=["NET_ADMIN"],
                security_opt=["no-new-privileges:true"],
                read_only=True,
                restart_policy={"Name": "no"},
                pids_limit=32,
                mem_limit=_MEMORY,
            ),
            use_config_proxy=False,
        )["Id"]
    try:
        with translate(f"starting the annex of {sandbox.name}"):
            client.start(made)
        run(sandbox.id, _FAR_END, [address, mark, str(table)])
        run(made, _NEAR_END, [address])
        yield Sandbox(made, name)
    finally:
        # First the link: what an interrupted build still does there must not meet the slot's next attempt.
        with suppress(EngineError):
            run(sandbox.id, _LEAVE, [])
        with suppress(EngineError):
            remove(made)


def _free_address(json: _JoinedJson, sandbox: Sandbox) -> str:
    """An address of the sandbox's range that nobody has: only the sandbox and the gateway are in there."""
    found = json["NetworkSettings"]["Networks"].get(sandbox.name)
    if found is None or not found["IPAddress"]:
        raise EngineError(f"the sandbox {sandbox.name} has no address", "try again")
    own = ipaddress.IPv4Interface(f"{found['IPAddress']}/{found['IPPrefixLen']}")
    for address in own.network.hosts():
        if str(address) not in (found["IPAddress"], found["Gateway"]):
            return str(address)
    raise EngineError(
        f"the range {own.network} of {sandbox.name} has no address left for a build",
        "let the engine give its networks ranges of 8 addresses and more (default-address-pools)",
    )
