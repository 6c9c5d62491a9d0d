"""The orchestrator's own known_hosts: which host keys are trusted."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.domain.pipeline import SshSpec
from orchestrator.ports.links import HostKey


def fingerprint(blob: str) -> str:
    """The fingerprint of a public key in base64, as ssh shows it: ``SHA256:…``."""
    try:
        digest = hashlib.sha256(base64.b64decode(blob, validate=True)).digest()
    except (binascii.Error, ValueError):
        return "damaged"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class KnownHosts:
    """A file of trusted keys, shared with other processes. It is not there before the first key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fingerprints(self, name: str) -> tuple[str, ...]:
        """Those of a machine's trusted keys."""
        return tuple(fingerprint(blob) for known, _, blob in self._entries() if known == name)

    def trust(self, key: HostKey) -> None:
        """Trust this key of a machine, and no other. Durable, and whole for who reads meanwhile."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        with self._alone():
            lines = [" ".join(entry) for entry in self._entries() if entry[0] != key.name]
            lines.append(f"{key.name} {key.kind} {key.blob}")
            descriptor, made = tempfile.mkstemp(dir=self.path.parent, prefix=".known_hosts-")
            with os.fdopen(descriptor, "w") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(made).replace(self.path)

    def _entries(self) -> Iterator[tuple[str, str, str]]:
        return read_keys(self.path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.path.parent / ".known_hosts.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def trusted_by(spec: SshSpec, own: Path) -> KnownHosts:
    """The keys that count for a host: those of the file it names, else our own ones."""
    return KnownHosts(Path(spec.known_hosts) if spec.known_hosts else own)


def read_keys(path: Path) -> Iterator[tuple[str, str, str]]:
    """The entries of a file of keys: name, type, key. Comments and markers are left out."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 3 and not line.startswith(("#", "@")):
            yield fields[0], fields[1], fields[2]
