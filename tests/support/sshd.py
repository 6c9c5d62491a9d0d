"""A production server in a container: a real OpenSSH sshd with stock limits, to deploy to."""

import io
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError
from docker.models.containers import Container

from tests.support.engine import ROOT, TEST_LABEL
from tests.support.network import free_port
from tests.support.waiting import wait_until

_ALL_OF_IT = "-- that is all"
FEW_FILES = "/srv/few"
"""A file system on each server that takes few files."""
SERVER_FOLDER = ROOT / "orchestrator" / "demo" / "server"


@dataclass(frozen=True)
class SshServer:
    """Where the server listens, who may log in, and the container, to kill or restart (the port stays)."""

    host: str
    port: int
    user: str
    key_path: Path
    host_key_line: str
    """The server's line in a known_hosts file."""
    known_hosts_path: Path
    container: Container
    models_path: str = "/srv/models"

    def run(self, *command: str) -> str:
        """Run a command on the server as root, past sshd, and return what it printed; it has to succeed."""
        # A busy engine may lose the output of a command that ends at once: it is kept, and asked for again.
        kept = f"/tmp/said-{uuid.uuid4().hex}"
        code, _ = self._as_root("sh", "-c", f'"$@" >{kept} 2>&1', "sh", *command)
        output = b""
        for _ in range(10):
            _, output = self._as_root("sh", "-c", f"cat {kept} && echo {_ALL_OF_IT}")
            if output.endswith(_ALL_OF_IT.encode() + b"\n"):
                break
        else:
            raise AssertionError(f"what {command} printed on the server did not arrive: {output!r}")
        self._as_root("rm", kept)
        text = output.removesuffix(_ALL_OF_IT.encode() + b"\n").decode()
        if code != 0:
            raise AssertionError(f"{command} ended with {code} on the server: {text}")
        return text

    def _as_root(self, *command: str) -> tuple[int | None, bytes]:
        done = self.container.exec_run(list(command), user="root")
        return done.exit_code, done.output if isinstance(done.output, bytes) else b"".join(done.output)

    def wait_until_it_answers(self) -> None:
        """Return once sshd greets, after a start or a restart."""
        wait_until(self._greets, f"sshd at {self.host}:{self.port}")

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def make_key(path: Path) -> Path:
    """Make an ed25519 key pair at ``path`` and ``path.pub``."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


@contextmanager
def ssh_server(client: docker.DockerClient, image: str, folder: Path) -> Iterator[SshServer]:
    """Start a server with fresh keys, which lie in ``folder``, and remove it afterwards."""
    name = f"mlci-test-sshd-{uuid.uuid4().hex[:8]}"
    key = make_key(folder / f"{name}-client")
    host_key = make_key(folder / f"{name}-host")
    for remaining in (2, 1, 0):
        port = free_port()
        container = client.containers.create(
            image,
            name=name,
            hostname="production",
            labels={TEST_LABEL: "sshd"},
            environment={"AUTHORIZED_KEY": key.with_suffix(".pub").read_text().strip()},
            ports={"22/tcp": ("127.0.0.1", port)},
            tmpfs={FEW_FILES: "nr_inodes=32"},
        )
        try:
            container.put_archive("/etc/ssh", tar_of_private({"ssh_host_ed25519_key": host_key.read_bytes()}))
            container.start()
            break
        except APIError:
            container.remove(force=True, v=True)
            if not remaining:
                raise
    try:
        algorithm, public, *_ = host_key.with_suffix(".pub").read_text().split()
        line = f"[127.0.0.1]:{port} {algorithm} {public}"
        known_hosts = folder / f"{name}-known_hosts"
        known_hosts.write_text(line + "\n")
        server = SshServer("127.0.0.1", port, "deploy", key, line, known_hosts, container)
        server.wait_until_it_answers()
        yield server
    finally:
        container.remove(force=True, v=True)


def tar_of_private(files: dict[str, bytes], uid: int = 0) -> bytes:
    """A tar of files that only their owner may read, as sshd wants its keys."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode, member.uid, member.gid = 0o600, uid, uid
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
