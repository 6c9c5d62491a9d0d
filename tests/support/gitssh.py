"""A Git server over SSH: the real sshd with a repository in it."""

import io
import tarfile
from pathlib import Path

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.adapters.ssh.keys import KnownHosts, fingerprint
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.links import HostKey
from tests.support.git import GitRepository
from tests.support.sshd import SshServer

HOME = "/home/deploy"


def with_repository(server: SshServer, repository: GitRepository) -> SshServer:
    """The same server, which has a copy of the repository as ``wine.git``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(repository.remote, "wine.git", filter=_deploys)
    server.container.put_archive(HOME, packed.getvalue())
    return server


def _deploys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 2000
    return member


def source_of(server: SshServer, name: str = "wine.git") -> SourceSpec:
    """A source for a repository of the server."""
    return SourceSpec("wine", f"ssh://{server.user}@{server.host}:{server.port}{HOME}/{name}")


def git_of(folder: Path, server: SshServer, key: Path | None = None) -> GitCommand:
    """Git that logs in with the server's key, or another one; trusted host keys lie in the folder."""
    access = Access(identity_file=str(key or server.key_path))
    return GitCommand(folder / "mirrors", keys=folder / "known_hosts", access=lambda _: access)


def believe(folder: Path, line: str) -> None:
    """Trust the key of a line of known_hosts."""
    name, kind, blob = line.split()
    KnownHosts(folder / "known_hosts").trust(HostKey(name, kind, blob, fingerprint(blob), ()))
