"""Sandboxes: the networks of runs, each held by a small container of ours that shuts the ways to the host.

A sandbox's container is the only one that is given a capability (NET_ADMIN, within its own network), and runs
no program but ours. What joins its network has no capability, and so cannot open again what is shut.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Required, TypedDict, cast

from orchestrator.adapters.docker.annexes import annex
from orchestrator.adapters.docker.clients import Clients
from orchestrator.adapters.docker.convert import ContainerJson, is_ours
from orchestrator.adapters.docker.errors import CONFLICT, NOT_FOUND, Refused, translate
from orchestrator.adapters.docker.helpers import look
from orchestrator.adapters.docker.labels import CONTAINER, with_instance
from orchestrator.adapters.docker.storage import Networks, foreign
from orchestrator.domain.errors import ContainerGone, EngineError, ImageNotFound
from orchestrator.ports.engine import Sandbox, SandboxSpec

if TYPE_CHECKING:
    from docker import APIClient

_RECIPE = "mlci.sandbox"
"""On a sandbox's container; the value tells from what it was made."""
_KEPT = "/run/mlci"
_TABLE = 77
_HOP = "192.0.0.8"
"""The dummy address of RFC 7600 as next hop: nothing on the host has it."""
_NOBODY = "02:00:00:00:00:01"
"""A hardware address that nobody has."""
_TAMPERED = 9
_MEMORY = 32 << 20
_SYSCTLS = {"net.ipv4.ip_forward": "1"}
"""For its annex."""

# A route that is prohibited is not enough: of a program that names the interface (SO_BINDTODEVICE, IP_PKTINFO
# need no rights) the kernel then takes the address for one on the link, and the host answers for all of its
# addresses on each link; and broadcasts and multicasts need no route. So no frame goes anywhere but to the
# gateway's hardware address, and that belongs to a made-up next hop alone: broadcasts, the questions of ARP
# among them, go to a hardware address that nobody has, and so does what is for an address of the host itself.
# There is no IPv6 within, not even the route of its multicasts, which an engine may leave there: any address
# that was made up (IPV6_FREEBIND) would do to send them. Protocols go by number: a small image has no
# /etc/protocols. A lookup that finds nothing in our table, or "throw", goes on to the main one.
_SHUT = f"""set -eu
device() {{
  set -- $(ip -4 route show default)
  [ "${{4:-}}" = dev ] || {{ echo 'there is no default route'; exit 1; }}
  gateway=$3 device=$5
}}
shut() {{
  device
  for address; do
    echo "route replace prohibit $address table {_TABLE}"
    case $address in
      */32) echo "neigh replace ${{address%/32}} lladdr {_NOBODY} nud permanent dev $device";;
    esac
  done | ip -4 -batch -
}}
"""
_ADD = _SHUT + 'shut "$@"\n'
# Those files are shared with all that join, and a root user without capabilities still owns them: what a
# build or a run changed there would reach the next one.
_FILES = "/etc/hosts /etc/resolv.conf /etc/hostname"
_MAKE = (
    _SHUT
    + f"""reachable=$1; shift
cd {_KEPT}
if [ -e ready ]; then
  for file in {_FILES}; do cmp -s "$file" "${{file##*/}}" || exit {_TAMPERED}; done
  shut "$@"
  exit 0
fi
find_mac() {{
  mac=
  set -- $(ip -4 neigh show "$gateway" dev "$device")
  while [ $# -gt 1 ]; do if [ "$1" = lladdr ]; then mac=$2; fi; shift; done
}}
device
ip neigh replace "$gateway" dev "$device" use
tries=0
until find_mac; [ -n "$mac" ]; do
  tries=$((tries + 1))
  [ $tries -lt 60 ] || {{ echo "the gateway $gateway does not answer"; exit 1; }}
  sleep 0.05
done
ip link set dev "$device" brd {_NOBODY}
ip neigh replace {_HOP} lladdr "$mac" nud permanent dev "$device"
ip -4 route replace default via {_HOP} dev "$device" onlink
ip -4 route show scope link | while read -r range rest; do
  case $range in default) ;; *) ip -4 route del "$range" dev "$device";; esac
done
if [ -e /proc/net/if_inet6 ]; then
  ip -6 addr flush dev "$device"
  ip link set dev "$device" addrgenmode none
  ip -6 route flush table local dev "$device"
  ip -6 rule add pref 20 prohibit
fi
ip -4 rule add pref 10 ipproto 17 dport 53 lookup main
ip -4 rule add pref 11 ipproto 6 dport 53 lookup main
ip -4 rule add pref 20 lookup {_TABLE}
shut "$gateway/32" "$@"
for address in $reachable; do ip -4 route replace throw "$address" table {_TABLE}; done
cp {_FILES} .
: > ready
"""
)
_LOOK = "cat /proc/net/fib_trie /proc/net/igmp"
_LEAF = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\s*")
_GROUP = re.compile(r"\s+([0-9A-F]{8})\s+\d+ \d:[0-9A-F]{8}\s+\d+\s*")


class _HostConfigJson(TypedDict, total=False):
    NetworkMode: str


class _ListedJson(TypedDict, total=False):
    Id: Required[str]
    HostConfig: _HostConfigJson


class Sandboxes:
    """The sandboxes of one engine. Thread-safe."""

    def __init__(self, clients: Clients, instance: str, networks: Networks) -> None:
        self._clients = clients
        self._instance = instance
        self._networks = networks
        self._made: set[str] = set()

    def ensure(self, spec: SandboxSpec) -> Sandbox:
        """Have the sandbox, as described and untouched by what was in it before."""
        recipe, prohibited = self._recipe(spec), _checked(spec.prohibited)
        self._networks.ensure(spec.name, spec.labels)
        for _ in range(2):
            json = self._inspect(spec.name)
            if json is not None:
                free = self._usable(json, recipe) and not self._in_use(json["Id"])
                if free and self._shut(json["Id"], spec, prohibited):
                    return self._known(json["Id"], spec.name)
                self._remove(json["Id"])
            made = self._create(spec, recipe)
            if self._shut(made, spec, prohibited):
                return self._known(made, spec.name)
        raise EngineError(f"the sandbox {spec.name} on {self._clients.url} does not stay as it was made")

    def require(self, sandbox: Sandbox) -> None:
        """Raise EngineError unless it is a sandbox of ours."""
        if sandbox.id in self._made:
            return
        json = self._inspect(sandbox.id)
        if json is None or _RECIPE not in (json["Config"]["Labels"] or {}):
            raise EngineError(f"there is no sandbox {sandbox.name} on {self._clients.url}", "make it first")
        self._known(json["Id"], sandbox.name)

    @contextmanager
    def annex(self, sandbox: Sandbox) -> Iterator[Sandbox]:
        """Where what has NET_RAW may be, as an engine's builds have, for as long as the block lasts."""
        self.require(sandbox)
        run, remove = self._run, self._remove
        with annex(self._clients, self._instance, sandbox, _TABLE, run, remove) as behind:
            yield behind

    def prohibit(self, name: str, addresses: Iterable[str]) -> None:
        """Shut more ways in a sandbox that is in use. ContainerGone."""
        json = self._inspect(name)
        if json is None or json["State"]["Status"] != "running":
            raise ContainerGone(f"the sandbox {name} on {self._clients.url} is gone")
        self._run(json["Id"], _ADD, _checked(addresses))

    def host_addresses(self, image: str) -> tuple[str, ...]:
        """The IPv4 addresses of the host itself, loopback apart, and the groups that it listens to.

        Seen from a container in the host's network, which has no rights there.
        """
        what = "the host's addresses"
        said = look(self._clients, self._instance, image, _LOOK, what, network_mode="host")
        return addresses_in(said)

    def _known(self, identity: str, name: str) -> Sandbox:
        self._made.add(identity)
        return Sandbox(identity, name)

    def _recipe(self, spec: SandboxSpec) -> str:
        with _image_needed(spec.image, self._clients.url), translate(f"looking for the image {spec.image}"):
            image = self._clients.control().inspect_image(spec.image)["Id"]  # type: ignore[no-untyped-call]
        digest = hashlib.sha256()
        for part in (_MAKE, str(_SYSCTLS), str(image), *_checked(spec.reachable)):
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()[:40]

    def _usable(self, json: ContainerJson, recipe: str) -> bool:
        running = json["State"]["Status"] == "running"
        return running and (json["Config"]["Labels"] or {}).get(_RECIPE) == recipe

    def _create(self, spec: SandboxSpec, recipe: str) -> str:
        client = self._clients.control()
        labels = {**with_instance(spec.labels, self._instance), CONTAINER: spec.name, _RECIPE: recipe}
        with _image_needed(spec.image, self._clients.url), translate(f"making the sandbox {spec.name}"):
            made: str = client.create_container(
                spec.image,
                name=spec.name,
                entrypoint=["sleep", "infinity"],
                user="0:0",
                working_dir="/",
                labels=labels,
                host_config=client.create_host_config(
                    network_mode=spec.name,
                    cap_drop=["ALL"],
                    cap_add=["NET_ADMIN"],
                    security_opt=["no-new-privileges:true"],
                    read_only=True,
                    tmpfs={_KEPT: "size=256k,mode=0700"},
                    sysctls=_SYSCTLS,
                    init=True,
                    restart_policy={"Name": "no"},
                    pids_limit=32,
                    mem_limit=_MEMORY,
                ),
                use_config_proxy=False,
            )["Id"]
        with translate(f"starting the sandbox {spec.name}"):
            client.start(made)
        return made

    def _shut(self, identity: str, spec: SandboxSpec, prohibited: list[str]) -> bool:
        """Shut the ways; False when something in there was tampered with."""
        arguments = [" ".join(_checked(spec.reachable)), *prohibited]
        return self._run(identity, _MAKE, arguments) != _TAMPERED

    def _run(self, identity: str, script: str, arguments: list[str]) -> int:
        client = self._clients.control()
        with translate("shutting the ways to the host in a sandbox"):
            command = ["/bin/sh", "-c", script, "sandbox", *arguments]
            run = client.exec_create(identity, command, user="0:0")["Id"]
            said: bytes = client.exec_start(run)
            code: int = client.exec_inspect(run)["ExitCode"]
        if code not in (0, _TAMPERED):
            raise EngineError(
                f"the ways to the host cannot be shut on {self._clients.url} (exit code {code}):"
                f" {said.decode(errors='replace').strip()[-500:]}",
                "use an engine that lets its containers have NET_ADMIN and a helper image that has `ip`,"
                " or say `protect: none` for this host where whoever pushes may reach it",
            )
        return code

    def _in_use(self, identity: str) -> bool:
        """Whether something runs there that nobody waits for any more."""
        with translate("looking for what runs in a sandbox"):
            running = cast("list[_ListedJson]", self._clients.control().containers())
        return any(self._network_of(each) == f"container:{identity}" for each in running)

    def _network_of(self, container: _ListedJson) -> str:
        if "HostConfig" not in container:
            # Podman does not list it.
            try:
                with translate("looking at a container"):
                    container = cast(_ListedJson, self._clients.control().inspect_container(container["Id"]))
            except Refused as error:
                if error.status == NOT_FOUND:
                    return ""
                raise
        return container.get("HostConfig", {}).get("NetworkMode", "")

    def _inspect(self, name: str) -> ContainerJson | None:
        try:
            with translate(f"looking at the sandbox {name}"):
                json = cast(ContainerJson, self._clients.control().inspect_container(name))
        except Refused as error:
            if error.status == NOT_FOUND:
                return None
            raise
        if not is_ours(json, self._instance):
            raise foreign("container", name, self._clients.url)
        return json

    def _remove(self, identity: str) -> None:
        client: APIClient = self._clients.control()
        try:
            with translate("removing a container"):
                client.remove_container(identity, force=True, v=True)
        except Refused as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise


def addresses_in(told: str) -> tuple[str, ...]:
    """The IPv4 addresses, loopback apart, in /proc/net/fib_trie, and the groups in /proc/net/igmp."""
    found: set[ipaddress.IPv4Address] = set()
    leaf = ""
    for line in told.splitlines():
        if match := _LEAF.search(line):
            leaf = match[1]
        elif line.strip() == "/32 host LOCAL" and leaf:
            found.add(ipaddress.IPv4Address(leaf))
        elif match := _GROUP.fullmatch(line):
            # The kernel prints the four bytes as one number of the machine's own byte order.
            found.add(ipaddress.IPv4Address(int(match[1], 16).to_bytes(4, sys.byteorder)))
    return tuple(sorted(str(address) for address in found if not address.is_loopback))


def _checked(addresses: Iterable[str]) -> list[str]:
    """IPv4 addresses as ``ip`` takes them, and nothing else, for they become words of a shell script."""
    try:
        return [str(ipaddress.IPv4Network(address, strict=False)) for address in addresses]
    except ValueError as error:
        raise EngineError(f"{error}", "write an IP address or a network such as 10.0.0.0/8") from error


@contextmanager
def _image_needed(image: str, url: str) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        raise ImageNotFound(
            f"{url} has no image {image}, without which a run's ways to its host cannot be shut",
            "make it with `orchestrator images build base`, or name another as `helper_image` of the host",
        ) from error
