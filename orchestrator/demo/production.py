"""The demo's production server: a container with a stock sshd, to which the product deploys."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from pathlib import Path

from orchestrator.demo.docker_cli import build, docker, packed, unpacked
from orchestrator.demo.errors import DemoFailed, NotReady

IMAGE = "mlci-demo/server:1"
MODELS = "/srv/models"
USER = "deploy"


class Production:
    """A context manager: the container lives as long as it is entered. Its keys lie in ``keys``."""

    def __init__(self, folder: Path) -> None:
        self._keys = folder / "keys"
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.container = f"mlci-demo-server-{digest}"
        self.port = 0

    @property
    def identity(self) -> Path:
        """The private key that may log in."""
        return self._keys / "deploy"

    @property
    def host_key(self) -> str:
        """The server's public key, as the configuration pins it."""
        algorithm, public, *_ = (self._keys / "host.pub").read_text().split()
        return f"{algorithm} {public}"

    def __enter__(self) -> Production:
        build(Path(__file__).parent / "server", IMAGE)
        self._keys.mkdir(mode=0o700)
        for name in ("deploy", "host"):
            _make_key(self._keys / name)
        self.remove()
        public = self.identity.with_suffix(".pub").read_text().strip()
        docker(
            *(
                "create",
                "--name",
                self.container,
                "--hostname",
                "production",
                "--label",
                f"mlci.demo={self._keys.parent}",
            ),
            *("--publish", "127.0.0.1::22", "--env", f"AUTHORIZED_KEY={public}", IMAGE),
        )
        key = packed({"ssh_host_ed25519_key": (self._keys / "host").read_bytes()}, mode=0o600)
        docker("cp", "-", f"{self.container}:/etc/ssh", given=key)
        docker("start", self.container)
        address = docker("port", self.container, "22/tcp").decode().split()[0]
        self.port = int(address.rpartition(":")[2])
        self._wait_until_it_greets()
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the container, also one that an earlier demo left behind."""
        if self._exists():
            docker("rm", "--force", "--volumes", self.container)

    def releases(self) -> list[str]:
        """The release folders on the server, by name."""
        return sorted(self._said(f"ls {MODELS}/releases 2>/dev/null || true").split())

    def current(self) -> str:
        """The release that ``current`` points to; empty before the first."""
        return Path(self._said(f"readlink {MODELS}/current || true")).name

    def files(self, release: str) -> dict[str, bytes]:
        """All files of a release as they are on the server, by path."""
        return unpacked(
            docker("exec", self.container, "tar", "-C", f"{MODELS}/releases/{release}", "-c", ".")
        )

    def _said(self, line: str) -> str:
        return docker("exec", self.container, "sh", "-c", line).decode().strip()

    def _exists(self) -> bool:
        return bool(docker("ps", "--all", "--quiet", "--filter", f"name=^{self.container}$").strip())

    def _wait_until_it_greets(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            time.sleep(0.1)
        raise DemoFailed(f"the production server's sshd does not answer at 127.0.0.1:{self.port}")


def _make_key(path: Path) -> None:
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(path)]
    try:
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotReady("there is no ssh-keygen here; install openssh-client") from None
    if done.returncode != 0:
        raise NotReady(f"ssh-keygen could not make a key: {(done.stderr or done.stdout).strip()}")
