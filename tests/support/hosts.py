"""Remote hosts: machines with a sshd and a Docker engine of their own, on a private network.

They are containers, and as far as a client can tell, machines: stock sshd limits, a user ``ci`` who is in the
group docker and has no other right, a disk that outlives a power cut, a boot id that does not.
``python -m tests.support.hosts [COUNT]`` brings some up to be tried by hand.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import docker
from docker.errors import APIError
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from tests.support.engine import ROOT, TEST_LABEL, built
from tests.support.enginehost import (
    DATA_ROOT,
    HOST_FOLDER,
    EngineHost,
    machine_folder,
    machine_limits,
    saved,
    showing_the_engines_log,
)
from tests.support.link import Link
from tests.support.smalldisk import mounted
from tests.support.sshd import make_key, tar_of_private
from tests.support.waiting import wait_until

MACHINE_FOLDER = ROOT / "tests" / "support" / "hostmachine"
USER = "ci"
DISK = 1500
"""MiB of an engine's data root: memory, as far as it is used."""
_HOST_KEY = "ssh_host_ed25519_key"
_ARGUMENTS = "/etc/engine-arguments"


@dataclass
class Host(EngineHost):
    """A remote host. ``client()`` and ``run()`` reach it past its network, whatever becomes of that."""

    name: str
    address: str
    key_path: Path
    """The private key that its user ``ci`` is let in with."""
    host_key_path: Path
    port: int = 22
    user: str = USER
    _cut: bool = field(default=False, init=False)

    @property
    def hostname(self) -> str:
        """What the machine calls itself."""
        return str(self.container.attrs["Config"]["Hostname"])

    @property
    def ssh(self) -> dict[str, object]:
        """The host's ``ssh:`` in orchestrator.yaml."""
        return {
            "hostname": self.address,
            "port": self.port,
            "user": self.user,
            "identity_file": str(self.key_path),
        }

    @property
    def host_key(self) -> str:
        """Type and public key of its sshd."""
        return " ".join(self.host_key_path.with_suffix(".pub").read_text().split()[:2])

    @property
    def host_key_line(self) -> str:
        """Its line in a known_hosts file."""
        return self.line_at(self.address, self.port)

    @property
    def boot_id(self) -> str:
        """What its /proc says."""
        return self.run("cat", "/proc/sys/kernel/random/boot_id").strip()

    def line_at(self, address: str, port: int) -> str:
        """Its line in a known_hosts file when it is reached at another address, such as a link's."""
        return f"{address if port == 22 else f'[{address}]:{port}'} {self.host_key}"

    def cut(self) -> None:
        """Cut its network: nothing arrives or leaves, and nobody is told; addresses and TCP's state stay."""
        if not self._cut:
            for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
                self.run("iptables", "-I", chain, way, "eth0", "-j", "DROP")
            self._cut = True

    def restore(self) -> None:
        """Undo the cut."""
        if self._cut:
            for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
                self.run("iptables", "-D", chain, way, "eth0", "-j", "DROP")
            self._cut = False

    def freeze(self) -> None:
        """Stop every process of the machine, as a machine does that hangs."""
        self.container.pause()

    def thaw(self) -> None:
        """Let them go on."""
        self.container.unpause()

    def freeze_logins(self) -> None:
        """SIGSTOP the sshd of each login; new logins work."""
        self.run("pkill", "-STOP", "-f", f"^sshd: {self.user}", check=False)

    def thaw_logins(self) -> None:
        """Let them go on."""
        self.run("pkill", "-CONT", "-f", f"^sshd: {self.user}", check=False)

    def drop_logins(self) -> None:
        """End each login at once."""
        self.run("pkill", "-KILL", "-f", f"^sshd: {self.user}", check=False)

    def stop_sshd(self) -> None:
        """End sshd: logins stay, new ones are refused."""
        self.run("pkill", "-TERM", "-f", "^sshd: .*listener", check=False)
        wait_until(lambda: not self._greets(), f"sshd of {self.name} to end")

    def start_sshd(self) -> None:
        """Start it again."""
        self.run("/usr/sbin/sshd")
        wait_until(self._greets, f"sshd of {self.name}")

    def swap_host_key(self) -> str:
        """Give its sshd another key, as a machine does that was set up anew; the new :attr:`host_key`."""
        folder = Path(tempfile.mkdtemp(dir=self.host_key_path.parent))
        self.host_key_path = make_key(folder / self.host_key_path.name)
        self._put_host_key()
        self.stop_sshd()
        self.start_sshd()
        return self.host_key

    def power_off(self) -> None:
        """Cut the power: everything that runs is gone, and nothing was told of it."""
        self.container.kill()

    def power_on(self) -> None:
        """Boot it. Its containers are there, and ended; links are whole again."""
        self.container.start()
        self._cut = False
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Return once sshd and the engine do."""
        wait_until(self._greets, f"sshd of {self.name} at {self.address}", 30)
        self.wait_until_the_engine_answers()

    @contextmanager
    def over_a_link(self, delay: float = 0.0) -> Iterator[Link]:
        """A link to its sshd, at 127.0.0.1 and the link's port, with a delay in seconds for each way."""
        with Link((self.address, self.port), delay) as link:
            yield link

    def heal(self) -> None:
        """Make it whole again after a test: power, network, logins, sshd, engine, room on the disk."""
        self.container.reload()
        if self.container.status == "paused":
            self.thaw()
        elif self.container.status != "running":
            self.power_on()
        self.restore()
        self.thaw_logins()
        self.empty()
        if not self._greets():
            self.start_sshd()
        if not self.run("pgrep", "-x", "dockerd", check=False):
            self.start()

    def clear(self) -> None:
        """Remove all containers, networks and volumes that its engine has; images stay."""
        everything: dict[str, str | list[str] | bool] = {"type": "custom"}
        with contextlib.closing(self.client()) as inside:
            for container in inside.containers.list(all=True, ignore_removed=True):
                with contextlib.suppress(docker.errors.NotFound):
                    container.remove(force=True, v=True)
            for network in inside.networks.list(filters=everything):
                network.remove()
            for volume in inside.volumes.list():
                volume.remove(force=True)

    def _put_host_key(self) -> None:
        packed = tar_of_private({_HOST_KEY: self.host_key_path.read_bytes()})
        self.container.put_archive("/etc/ssh", packed)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


@dataclass
class HostNetwork:
    """The private network that hosts are on, and the key that all of them let in."""

    client: docker.DockerClient
    image: str
    network: Network
    prefix: str
    """The first three numbers of the addresses."""
    folder: Path
    key_path: Path
    _made: int = 0
    _archives: dict[str, BinaryIO] = field(default_factory=dict)

    @contextmanager
    def host(
        self, images: Sequence[str] = (), *, disk: int | None = DISK, arguments: Sequence[str] = ()
    ) -> Iterator[Host]:
        """One more host; it is gone afterwards.

        ``images`` are loaded into its engine, which has none otherwise. ``disk``: MiB of the memory that its
        engine takes for a disk; None: a real disk, and slower by that. ``arguments`` are more ones for
        dockerd, such as ``--live-restore``.
        """
        self._made += 1
        name = f"{self.network.name}-{self._made}"
        address = f"{self.prefix}.{10 + self._made}"
        with ExitStack() as stack:
            folder = stack.enter_context(machine_folder())
            binds = {}
            if disk is not None:
                # Mounted by this process, so that it outlives a power cut.
                data = stack.enter_context(machine_folder())
                stack.enter_context(mounted(data, f"{disk}m"))
                binds[str(data)] = DATA_ROOT
            limits = machine_limits(self.client, folder, binds, init=True)
            api = self.client.api
            endpoint = api.create_endpoint_config(ipv4_address=address, aliases=[f"host{self._made}"])
            made = api.create_container(
                self.image,
                name=name,
                hostname=f"host{self._made}",
                labels={TEST_LABEL: "host"},
                volumes=[] if binds else [DATA_ROOT],
                host_config=limits | {"NetworkMode": self.network.name},
                # The stubs take the mapping for one of its values.
                networking_config=api.create_networking_config({str(self.network.name): endpoint}),  # type: ignore[arg-type]
            )
            container = self.client.containers.get(made["Id"])
            dns = [word for server in _nameservers() for word in ("--dns", server)]
            host_key = make_key(self.folder / f"{name}-host")
            host = Host(
                container,
                folder,
                name,
                address,
                self.key_path,
                host_key,
                engine_arguments=("-H", "unix:///var/run/docker.sock", *dns, *arguments),
            )
            try:
                host._put_host_key()
                keys = {"authorized_keys": self.key_path.with_suffix(".pub").read_bytes()}
                container.put_archive("/home/ci/.ssh", tar_of_private(keys, uid=2000))
                words = " ".join(host.engine_arguments).encode()
                container.put_archive("/etc", tar_of_private({Path(_ARGUMENTS).name: words}))
                with showing_the_engines_log(host):
                    container.start()
                    host.wait_until_it_answers()
                    for image in images:
                        host.load(self._saved(image))
                    yield host
            finally:
                container.remove(force=True, v=True)

    def close(self) -> None:
        """Remove the network, and what was kept to be quick."""
        for archive in self._archives.values():
            archive.close()
        self.network.remove()

    def _saved(self, image: str) -> BinaryIO:
        if image not in self._archives:
            self._archives[image] = saved(self.client, image)
        return self._archives[image]


def trust(state: Path, *hosts: Host) -> None:
    """Trust the hosts' keys in a state folder, where ``orchestrator hosts trust`` keeps them."""
    known = state / "ssh" / "known_hosts"
    known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with known.open("a") as file:
        file.writelines(f"{host.host_key_line}\n" for host in hosts)


def host_image(client: docker.DockerClient) -> str:
    """The tag of the hosts' image, built when its content is new."""
    return built(client, MACHINE_FOLDER, base=built(client, HOST_FOLDER))


@contextmanager
def host_network(client: docker.DockerClient, image: str, folder: Path) -> Iterator[HostNetwork]:
    """A network for hosts of ``image``; ``folder`` gets their keys."""
    name = f"mlci-test-hosts-{uuid.uuid4().hex[:8]}"
    network, prefix = _a_network(client, name)
    with contextlib.closing(
        HostNetwork(client, image, network, prefix, folder, make_key(folder / f"{name}-client"))
    ) as made:
        yield made


def _a_network(client: docker.DockerClient, name: str) -> tuple[Network, str]:
    """A network with addresses that nobody has, and its first three numbers."""
    for remaining in reversed(range(10)):
        prefix = f"10.77.{random.randrange(256)}"  # noqa: S311 - to meet no other test's
        pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{prefix}.0/24")])
        try:
            return client.networks.create(name, labels={TEST_LABEL: "hosts"}, ipam=pool), prefix
        except APIError:
            if not remaining:
                raise
    raise AssertionError("not reached")


def _nameservers() -> list[str]:
    """This machine's, as far as containers reach them; Docker's own fallback is a public one."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        words = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
        servers = [word[1] for word in words if word[:1] == ["nameserver"] and len(word) > 1]
        found = [server for server in servers if not ipaddress.ip_address(server).is_loopback]
        if found:
            return found
    return []


def main(count: int) -> None:
    """Bring hosts up, say how to use them, and end them at the end of the input."""
    from tests.support.engine import BASE_IMAGE

    with ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(docker.from_env(timeout=60)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlci-hosts-")))
        network = stack.enter_context(host_network(client, host_image(client), folder))
        hosts = [stack.enter_context(network.host([BASE_IMAGE])) for _ in range(count)]
        known = folder / "known_hosts"
        known.write_text("".join(f"{host.host_key_line}\n" for host in hosts))
        for number, host in enumerate(hosts, 1):
            sys.stdout.write(
                f"  lab{number}: {{ssh: {{hostname: {host.address}, user: {host.user},"
                f" identity_file: {host.key_path}}}}}  # {host.host_key}\n"
                f"  ssh -i {host.key_path} -o UserKnownHostsFile={known} {host.user}@{host.address}\n"
                f"  docker exec -it {host.name} bash;  DOCKER_HOST={host.url}\n"
            )
        sys.stdout.write("Enter, or the end of the input, ends them.\n")
        sys.stdout.flush()
        sys.stdin.readline()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
