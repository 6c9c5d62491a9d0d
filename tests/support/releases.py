"""Releases to deploy, and a production server with an account of each kind."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from orchestrator.adapters.sftp import SshServer
from orchestrator.adapters.sftp.target import SftpTarget
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.ports.progress import ProgressEvent
from tests.support.sshd import SshServer as Machine

FILES_ONLY = """
set -e
id files >/dev/null 2>&1 && exit 0
useradd --uid 2001 --user-group --create-home --shell /usr/sbin/nologin files
install -d -m 700 -o files -g files /home/files/.ssh
install -m 600 -o files -g files /home/deploy/.ssh/authorized_keys /home/files/.ssh/authorized_keys
printf 'Match User files\\n  ForceCommand internal-sftp\\n' >/etc/ssh/sshd_config.d/zz-files.conf
kill -HUP 1
"""


@dataclass
class Contents:
    """File contents as a blob store would keep them."""

    blobs: dict[str, bytes] = field(default_factory=dict)

    def files(self, contents: dict[str, bytes]) -> list[ReleaseFile]:
        """Keep the contents; the files that name them."""
        listed = []
        for path, content in contents.items():
            digest = hashlib.sha256(content).hexdigest()
            self.blobs[digest] = content
            listed.append(ReleaseFile(path, len(content), digest))
        return listed

    def read(self, file: ReleaseFile) -> BinaryIO:
        return io.BytesIO(self.blobs[file.sha256])


def ignore(event: ProgressEvent) -> None:
    """Progress that nobody looks at."""


def with_files_only_account(machine: Machine) -> None:
    """Add the user ``files``, who may move files and run nothing."""
    machine.run("sh", "-c", FILES_ONLY)
    machine.wait_until_it_answers()


def fresh_folder(machine: Machine, user: str) -> str:
    """A folder of that user's own for releases."""
    folder = f"/srv/models/{uuid.uuid4().hex[:8]}"
    machine.run("install", "-d", "-o", user, "-g", user, folder)
    return folder


def settings(machine: Machine, path: str, user: str = "deploy") -> SshServer:
    """How the product would be configured for that machine."""
    return SshServer(
        name="prod",
        hostname=machine.host,
        port=machine.port,
        user=user,
        path=path,
        identity_file=machine.key_path,
        host_key=machine.host_key_line.split(" ", 1)[1],
        timeout=10.0,
    )


@dataclass
class Site:
    """One folder of releases on a real server, and ways to look at it past the product."""

    machine: Machine
    server: SshServer
    contents: Contents = field(default_factory=Contents)

    def target(self, owner: str = "tests", patience: float = 0.0) -> SftpTarget:
        return SftpTarget(self.server, owner, patience)

    def with_settings(self, **changes: str | float | tuple[str, ...]) -> Site:
        return Site(self.machine, replace(self.server, **changes), self.contents)  # type: ignore[arg-type]

    def deploy(self, release: str, contents: dict[str, bytes]) -> str | None:
        """Put a release live as the product does it; what was live before."""
        files = self.contents.files(contents)
        with self.target() as target:
            target.upload(release, files, self.contents.read, ignore)
            target.verify(release, files)
            return target.activate(release)

    def path(self, *parts: str) -> str:
        return "/".join((self.server.path, *parts))

    def live(self, file: str = "model") -> str:
        """What a reader of the live release finds."""
        return self.machine.run("cat", self.path("current", file))

    def names(self, folder: str = "releases") -> Sequence[str]:
        return sorted(self.machine.run("ls", "-A", self.path(folder)).split())

    def shell(self, script: str) -> str:
        """Run a script as root in the folder of the site."""
        return self.machine.run("sh", "-c", f"cd {self.server.path} && {script}")


SiteMaker = Callable[..., Site]
