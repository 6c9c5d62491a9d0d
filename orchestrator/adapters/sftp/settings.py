"""What is known of a deployment server before anybody connects to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SshServer:
    """A deployment server and how to log in.

    Exactly one of ``host_key`` (``ssh-ed25519 AAAA…``) and ``known_hosts`` pins its identity. Without an
    ``identity_file`` and a ``password`` the SSH agent is asked. ``path`` is the folder that gets
    ``releases/`` and ``current``; ``timeout`` (seconds) bounds connecting and each silence of the server.
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
    what: str = "server"
    """What it is called in messages, before its name."""

    @property
    def host_key_name(self) -> str:
        """What a known_hosts file calls it."""
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"

    def __str__(self) -> str:
        return f"{self.what} {self.name} ({self.user}@{self.hostname}:{self.port})"
