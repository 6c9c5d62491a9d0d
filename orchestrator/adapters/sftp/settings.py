"""What is known of a deployment server before anybody connects to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SshServer:
    """A deployment server and how to log in.

    Exactly one of ``host_key`` (``ssh-ed25519 AAAA…``) and ``known_hosts`` pins its identity. Without an
    ``identity_file`` and a ``password`` the SSH agent is asked. ``certificate_file`` is an OpenSSH
    certificate of the key; without it, the ``-cert.pub`` beside the key is used where there is one.
    ``jumps`` are logins to go through, the nearest first. ``path`` is the folder that gets ``releases/`` and
    ``current``; ``timeout`` (seconds) bounds connecting and each silence of the server; ``keepalive``
    (seconds) is how often an idle connection shows that it is there; ``rate`` bounds what is sent, in bytes
    a second; ``concurrency`` is how many connections deployments may have to it at once.
    """

    name: str
    hostname: str
    user: str
    path: str
    port: int = 22
    identity_file: Path | None = None
    host_key: str | None = None
    known_hosts: Path | None = None
    keep: int = 5
    timeout: float = 30.0
    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    certificate_file: Path | None = None
    jumps: tuple[SshServer, ...] = ()
    keepalive: int = 15
    rate: int | None = None
    concurrency: int | None = None
    shared: tuple[str, ...] = ()
    """Paths in a release that are links to the same path in ``shared/``, which outlives releases."""
    what: str = "server"
    """What it is called in messages, before its name."""

    @property
    def host_key_name(self) -> str:
        """What a known_hosts file calls it."""
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"

    def __str__(self) -> str:
        return f"{self.what} {self.name} ({self.user}@{self.hostname}:{self.port})"
