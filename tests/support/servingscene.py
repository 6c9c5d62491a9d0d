"""A scene for deployments that are broken: a server behind a link that breaks, and what it serves meanwhile.

``MLCI_FAULTS`` says how often a deployment is broken in each way (36): 102 make hundreds of deployments.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import paramiko

from orchestrator.domain.deployment import DeploymentState
from tests.support.deploying import Deployments, deployments, server_entry, whole
from tests.support.sshd import SshServer as Machine
from tests.support.tcplink import TcpLink

FAULTS = int(os.environ.get("MLCI_FAULTS", "36"))
"""How often a deployment is broken in each way, spread over all that it sends and is sent."""
BY_ACCOUNT = {"deploy": FAULTS - FAULTS * 3 // 10, "files": FAULTS * 3 // 10}

Look = paramiko.SFTPClient


def files_of(number: int) -> dict[str, bytes]:
    """A model that shows whether it is whole, and files beside it that only fit their own release."""
    notes = {f"notes/{n} of {number}.txt": f"{n} of {number}".encode() * 50 for n in range(8)}
    return {"model.bin": whole(os.urandom(40_000)), **notes}


class Scene:
    """One folder of releases on a server behind a link that breaks, and a reader of what it serves."""

    def __init__(
        self, machine: Machine, link: TcpLink, made: Deployments, path: str, look: Look, user: str
    ) -> None:
        self.machine, self.link, self.made, self.path, self._look = machine, link, made, path, look
        self.user, self.faults = user, BY_ACCOUNT[user]
        self.activated: list[str] = []
        self.failed: list[str] = []
        self.broken = 0

    def on_the_server(self) -> str:
        return (self._look.readlink(f"{self.path}/current") or "").removeprefix("releases/")

    def deploy(self) -> None:
        """Deploy without a fault."""
        self.link.arm()
        run = self.made.passed(files_of(len(self.activated)))
        self.made.finish(run)
        (deployment,) = self.made.of(run)
        assert (deployment.state.value, self.made.live()) == ("active", deployment.release)
        assert self.on_the_server() == deployment.release
        self.activated.append(deployment.release)

    def deploy_broken(
        self, at: int, fault: Callable[[], None], heal: Callable[[], None] | None = None
    ) -> None:
        """Deploy, with a fault at a byte: what is live is what the record says, then and at the end.

        Another try brings it live; with ``heal``, which then ends the fault, it may have failed for good.
        """
        run = self.made.passed(files_of(len(self.activated)))
        self.link.arm(at, fault)
        self.made.carry_out()
        self.broken += self.link.sprung.is_set()
        self.link.arm()
        assert self.on_the_server() in self.made.may_be_live(), f"after the fault at byte {at}"
        if heal is not None:
            heal()
        self.made.finish(run)
        (deployment,) = self.made.of(run)
        told = f"after the fault at byte {at}: {deployment.message}"
        if heal is not None and deployment.state is DeploymentState.FAILED:
            self.failed.append(deployment.message)
        else:
            assert deployment.state is DeploymentState.ACTIVE, told
            self.activated.append(deployment.release)
        assert self.on_the_server() == self.made.live() == self.activated[-1], told

    def points(self) -> Sequence[int]:
        """Bytes at which to break, one in each of as many stretches of what a deployment sends and gets."""
        count = self.faults
        self.deploy()
        self.deploy()
        chunks = self.link.chunks
        # The first byte of a message, and one in the middle of it, in turn.
        places = [chunks[len(chunks) * n // count] for n in range(count)]
        return [place + 1 + 40 * (n % 2) for n, place in enumerate(places)]


@contextmanager
def look_at(machine: Machine) -> Iterator[Look]:
    """A way past the product and its link, as starting a command in the container takes too long."""
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(machine.known_hosts_path))
        client.connect(
            machine.host, machine.port, machine.user, key_filename=str(machine.key_path), look_for_keys=False
        )
        yield client.open_sftp()


@contextmanager
def scene_at(
    machine: Machine, look: Look, folder: Path, path: str, user: str, **proof: object
) -> Iterator[Scene]:
    """A scene; ``proof`` holds the server's keys of activation and proof."""
    with TcpLink(machine.host, machine.port) as link:
        entry = server_entry(machine, path, link.port, **proof)
        assert isinstance(entry["ssh"], dict)
        entry["ssh"]["user"] = user
        with deployments(folder, {"prod": entry}) as made:
            yield Scene(machine, link, made, path, look, user)
