"""One server's folder of releases, over SSH."""

from __future__ import annotations

import posixpath
import secrets
import shlex
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import paramiko

from orchestrator.adapters.sftp.client import Reply, Space
from orchestrator.adapters.sftp.commands import run_command
from orchestrator.adapters.sftp.connection import Connection
from orchestrator.adapters.sftp.lock import ServerLock
from orchestrator.adapters.sftp.probes import ask_service
from orchestrator.adapters.sftp.settings import SshServer
from orchestrator.adapters.sftp.shared import Shared
from orchestrator.adapters.sftp.transfer import FOLDER_MODE, Transfer, check_names, parents
from orchestrator.domain.activation import Answer, Command, HttpRequest, TcpConnect
from orchestrator.domain.deployment import RELEASE_PATTERN, ReleaseFile
from orchestrator.domain.errors import DeploymentError, ServerRejected, ServerUnavailable
from orchestrator.domain.report import format_size
from orchestrator.ports.progress import ProgressEvent, ProgressSink

_UNVERIFIED = 0o700
_PATIENCE = 20.0
_FULL = 1024 * 1024


class SftpTarget:
    """Implements ReleaseTarget. Entering it connects and locks the folder; leaving gives both back.

    A release is readable by us alone until it is verified, and only a verified one can be activated.
    """

    def __init__(
        self,
        server: SshServer,
        owner: str,
        patience: float = _PATIENCE,
        slots: threading.BoundedSemaphore | None = None,
    ) -> None:
        self._server = server
        self._slots = slots
        self._owner = owner
        self._patience = patience
        self._open: tuple[Connection, ServerLock] | None = None
        self._user = 0
        self._path = server.path.rstrip("/")
        self._releases = posixpath.join(self._path, "releases")
        self._link = posixpath.join(self._path, "current")

    def __enter__(self) -> SftpTarget:
        if self._slots is not None and not self._slots.acquire(timeout=self._patience):
            raise ServerUnavailable(
                f"{self._server}: as many deployments as it may have at once are under way"
            )
        try:
            connection = Connection(self._server)
            try:
                with connection.errors(f"prepare {self._path}"):
                    lock = self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._free()
            raise
        self._open = connection, lock
        connection.beat = lock.refresh
        return self

    def __exit__(self, *exc: object) -> None:
        connection, lock = self._there
        self._open = None
        try:
            with connection.errors("give the lock back"):
                lock.release()
        except DeploymentError:
            # The work is done or has failed for a reason of its own; a lock that stays behind runs out.
            return
        finally:
            connection.close()
            self._free()

    def _free(self) -> None:
        if self._slots is not None:
            self._slots.release()

    def current(self) -> str | None:
        """The name of the release that ``current`` points to, or None."""
        with self._doing(f"read {self._link}") as connection:
            self._there[1].refresh()
            return self._current(connection)

    def upload(
        self,
        release: str,
        files: Sequence[ReleaseFile],
        read: Callable[[ReleaseFile], BinaryIO],
        progress: ProgressSink,
    ) -> None:
        """Put the files into a fresh folder, or go on where an earlier try broke off; a release that is
        current already stays as it is.
        """
        folder = self._folder(release)
        check_names(files)
        with self._doing(f"upload release {release}") as connection:
            begun = self._begin(connection, folder, files)
            if begun is None:
                progress(ProgressEvent("upload", line=f"{release} is current already"))
                return
            try:
                Transfer(connection, folder, self._there[1].refresh).send(files, read, progress, begun)
            except (OSError, ServerRejected):
                # A full disk shows itself as a nameless failure: look again before passing that on.
                self._blame_full_disk(connection)
                raise

    def verify(self, release: str, files: Sequence[ReleaseFile]) -> None:
        """Compare the hashes on the far side, then let others read the release."""
        folder = self._folder(release)
        check_names(files)
        with self._doing(f"verify release {release}") as connection:
            self._require(connection, folder)
            shared = self._server.shared
            Transfer(connection, folder, self._there[1].refresh).compare(files, shared)
            if shared:
                Shared(connection, self._path, folder, self._server).link([file.path for file in files])
            connection.sftp.chmod(folder, FOLDER_MODE)

    def activate(self, release: str) -> str | None:
        """Point ``current`` at the release in one atomic step; the name it pointed to before."""
        folder = self._folder(release)
        with self._doing(f"activate release {release}") as connection:
            asked, current = connection.sftp.ask_lstat(folder), self._ask_current(connection)
            self._there[1].check()
            entry = self._required(folder, self._owned(folder, asked.found()))
            if stat.S_IMODE(entry.st_mode or 0) == _UNVERIFIED:
                raise ServerRejected(
                    f"{self._server}: release {release} was never verified", "deploy it again"
                )
            before = current()
            if before != release:
                self._switch(connection, release)
            if self._current(connection) != release:
                raise ServerRejected(
                    f"{self._server}: {self._link} was changed by somebody else at the same moment"
                )
            return before

    def discard(self, release: str) -> None:
        """Remove a release that is not current; one that is not there is fine."""
        folder = self._folder(release)
        with self._doing(f"remove release {release}") as connection:
            if self._current(connection) == release:
                raise ServerRejected(f"{self._server}: release {release} is current and stays")
            self._remove(connection, folder)

    def verified(self) -> Sequence[str]:
        """The names of all verified releases, the oldest first."""
        with self._doing("list the releases") as connection:
            return tuple(self._listed(connection)[0])

    def withdraw(self, release: str) -> None:
        """Remove ``current`` if it points to the release."""
        with self._doing(f"take {self._link} away") as connection:
            if self._current(connection) == release:
                self._there[1].check()
                connection.sftp.remove(self._link)

    @property
    def shell(self) -> bool:
        """Whether commands can be run."""
        with self._doing("ask for a shell") as connection:
            return connection.shell

    def run(self, command: Command, release: str, variables: Mapping[str, str]) -> Answer:
        """Run a command in a release's folder."""
        folder = self._folder(release)
        places = {"MLCI_PATH": self._path, "MLCI_RELEASE_PATH": folder}
        with self._doing(f"run {command}") as connection:
            self._there[1].refresh()
            return run_command(connection, command, folder, {**variables, **places})

    def ask(self, probe: HttpRequest | TcpConnect, timeout: float) -> Answer:
        """Ask a service on the server, or one that the server reaches."""
        with self._doing(f"ask {probe}") as connection:
            self._there[1].refresh()
            return ask_service(connection, probe, timeout)

    def prune(self, keep: int, spare: Collection[str] = ()) -> Sequence[str]:
        """Remove all but the newest ``keep`` verified releases, never the current one or ``spare``; their
        names.
        """
        with self._doing("remove old releases") as connection:
            current = self._current(connection)
            verified, unfinished = self._listed(connection)
            verified.reverse()
            old = [name for name in (*verified[keep:], *unfinished) if name not in (current, *spare)]
            for name in old:
                self._there[1].refresh()
                connection.remove_tree(posixpath.join(self._releases, name))
            return tuple(old)

    def _listed(self, connection: Connection) -> tuple[list[str], list[str]]:
        """The verified releases and the unfinished ones, the oldest first."""
        verified: list[str] = []
        unfinished: list[str] = []
        for entry in connection.sftp.listdir_attr(self._releases):
            if RELEASE_PATTERN.fullmatch(entry.filename) and stat.S_ISDIR(entry.st_mode or 0):
                ready = stat.S_IMODE(entry.st_mode or 0) != _UNVERIFIED
                (verified if ready else unfinished).append(entry.filename)
        return sorted(verified, key=_age), sorted(unfinished, key=_age)

    @property
    def _there(self) -> tuple[Connection, ServerLock]:
        if self._open is None:
            raise RuntimeError("an SftpTarget is used inside a with statement")
        return self._open

    @contextmanager
    def _doing(self, what: str) -> Iterator[Connection]:
        connection, _ = self._there
        with connection.errors(what):
            yield connection

    def _prepare(self, connection: Connection) -> ServerLock:
        """Have ``path`` and ``releases`` as folders that nobody else can change, and the lock."""
        asked = connection.sftp.ask_lstat(self._path), connection.sftp.ask_lstat(self._releases)
        path, releases = (reply.found() for reply in asked)
        if path is None:
            self._make_path(connection)
        else:
            self._check_folder(self._path, path)
        if releases is not None:
            self._check_folder(self._releases, releases)
        lock = ServerLock(connection, self._path, self._owner, self._patience)
        self._user = lock.acquire(lambda: self._ask_releases(connection, releases is not None))
        return lock

    def _ask_releases(self, connection: Connection, there: bool) -> Callable[[], None]:
        sftp = connection.sftp
        if not there:
            sftp.ask_mkdir(self._releases, FOLDER_MODE)
            sftp.ask_chmod(self._releases, FOLDER_MODE)
        seen = sftp.ask_lstat(self._releases)
        return lambda: self._check_folder(self._releases, seen.get())

    def _make_path(self, connection: Connection) -> None:
        parent = posixpath.dirname(self._path)
        if connection.lstat(parent) is None:
            raise ServerRejected(
                f"{self._server}: there is no folder {parent} for {self._path}",
                "on the server: "
                f"sudo install -d -o {shlex.quote(self._server.user)} {shlex.quote(self._path)}",
            )
        connection.sftp.mkdir(self._path, FOLDER_MODE)
        connection.sftp.chmod(self._path, FOLDER_MODE)

    def _check_folder(self, path: str, entry: paramiko.SFTPAttributes) -> None:
        mode = entry.st_mode or 0
        if stat.S_ISLNK(mode):
            raise ServerRejected(
                f"{self._server}: {path} is a symbolic link, which could lead anywhere; nothing was sent",
                "write the folder it leads to as the server's path, or remove the link",
            )
        if not stat.S_ISDIR(mode):
            raise ServerRejected(
                f"{self._server}: {path} is no folder", "move it away or choose another path"
            )
        if mode & stat.S_IWOTH:
            raise ServerRejected(
                f"{self._server}: everybody on the server may write in {path}, and so replace the model",
                f"on the server: chmod o-w {shlex.quote(path)}",
            )

    def _folder(self, release: str) -> str:
        if not RELEASE_PATTERN.fullmatch(release):
            raise ServerRejected(f"{release!r} is no name of a release")
        return posixpath.join(self._releases, release)

    def _begin(self, connection: Connection, folder: str, files: Sequence[ReleaseFile]) -> bool | None:
        """Have the release's folder, closed to others: whether it was there. None when it is current."""
        sftp = connection.sftp
        current, entry = self._ask_current(connection), sftp.ask_lstat(folder)
        space = sftp.ask_space(self._path)
        # Where something is, this is refused; what is looked at above says what it is.
        made, seen = sftp.ask_mkdir(folder, _UNVERIFIED), sftp.ask_lstat(folder)
        before = self._owned(folder, entry.found())
        fresh = before is None and made.worked()
        try:
            live = current() == posixpath.basename(folder)
            if before is None and not live:
                self._check_room(space(), files)
        except ServerRejected:
            if fresh:
                sftp.rmdir(folder)
            raise
        if live:
            if fresh:
                sftp.rmdir(folder)
            return None
        if before is None:
            made.get()
        if stat.S_IMODE(seen.get().st_mode or 0) != _UNVERIFIED:
            sftp.chmod(folder, _UNVERIFIED)
        return before is not None

    def _require(self, connection: Connection, folder: str) -> paramiko.SFTPAttributes:
        return self._required(folder, self._own_folder(connection, folder))

    def _required(self, folder: str, entry: paramiko.SFTPAttributes | None) -> paramiko.SFTPAttributes:
        if entry is None:
            raise ServerRejected(
                f"{self._server}: there is no release {posixpath.basename(folder)}", "deploy it again"
            )
        return entry

    def _own_folder(self, connection: Connection, folder: str) -> paramiko.SFTPAttributes | None:
        """The folder, which has to be one and ours; None when nothing is there."""
        return self._owned(folder, connection.lstat(folder))

    def _owned(self, folder: str, entry: paramiko.SFTPAttributes | None) -> paramiko.SFTPAttributes | None:
        if entry is None:
            return None
        if not stat.S_ISDIR(entry.st_mode or 0) or entry.st_uid != self._user:
            what = "belongs to another user" if stat.S_ISDIR(entry.st_mode or 0) else "is no folder"
            raise ServerRejected(
                f"{self._server}: {folder} was put there by somebody else: it {what}",
                f"look at it on the server, then remove it: rm {shlex.quote(folder)}",
            )
        return entry

    def _remove(self, connection: Connection, folder: str) -> None:
        if self._own_folder(connection, folder) is not None:
            connection.remove_tree(folder)

    def _current(self, connection: Connection) -> str | None:
        return self._ask_current(connection)()

    def _ask_current(self, connection: Connection) -> Callable[[], str | None]:
        """Ask for the release that is current; call what is returned to know it."""
        link, target = connection.sftp.ask_lstat(self._link), connection.sftp.ask_readlink(self._link)
        return lambda: self._release_of(link, target)

    def _release_of(self, link: Reply[paramiko.SFTPAttributes], target: Reply[str]) -> str | None:
        entry = link.found()
        if entry is None:
            return None
        if not stat.S_ISLNK(entry.st_mode or 0):
            raise ServerRejected(
                f"{self._server}: {self._link} is no symbolic link, and is not replaced",
                f"on the server: mv {shlex.quote(self._link)} {shlex.quote(self._link + '.old')}",
            )
        leads = posixpath.normpath(posixpath.join(self._path, target.get()))
        if posixpath.dirname(leads) != posixpath.normpath(self._releases):
            raise ServerRejected(
                f"{self._server}: {self._link} leads to {leads}, which is no release, and is not replaced",
                f"on the server: rm {shlex.quote(self._link)}",
            )
        return posixpath.basename(leads)

    def _switch(self, connection: Connection, release: str) -> None:
        temporary = posixpath.join(self._path, f".mlci-current-{secrets.token_hex(8)}")
        sftp = connection.sftp
        linked = sftp.ask_symlink(f"releases/{release}", temporary)
        renamed = sftp.ask_rename(temporary, self._link)
        linked.get()
        try:
            renamed.get()
        except OSError:
            sftp.remove(temporary)
            raise
        if connection.shell:
            connection.run(f"sync -f -- {shlex.quote(self._path)} 2>/dev/null || true")

    def _check_room(self, space: Space | None, files: Sequence[ReleaseFile]) -> None:
        if space is None:
            return
        need = sum(file.size for file in files) + len(files) * space.block
        if space.free < need:
            raise ServerRejected(
                f"{self._server}: the release needs {format_size(need)} in {self._path}, "
                f"and {format_size(space.free)} are free",
                "make room on the server, or lower the server's keep",
            )
        entries = len(files) + len({parent for file in files for parent in parents(file.path)}) + 1
        if space.files is not None and space.files < entries:
            raise ServerRejected(
                f"{self._server}: the release has {entries} files and folders, and the file system of "
                f"{self._path} takes {space.files} more",
                "remove files that nobody needs there (df -i), or lower the server's keep",
            )

    def _blame_full_disk(self, connection: Connection) -> None:
        space = connection.sftp.space(self._path)
        if space is not None and (space.free < _FULL or space.files == 0):
            raise ServerRejected(
                f"{self._server}: the disk of {self._path} ran full while the release was sent",
                "make room on the server, or lower the server's keep",
            )


def _age(name: str) -> tuple[str, int]:
    when, _, run = name.partition("-")
    return when, int(run)
