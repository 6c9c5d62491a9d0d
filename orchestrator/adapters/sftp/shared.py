"""Links from a release to what outlives releases: ``logs`` in it leads to ``shared/logs`` beside them."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Sequence

from orchestrator.adapters.sftp.connection import Connection
from orchestrator.adapters.sftp.settings import SshServer
from orchestrator.domain.errors import ServerRejected

_FOLDER_MODE = 0o755


class Shared:
    """The links of one release."""

    def __init__(self, connection: Connection, path: str, release: str, server: SshServer) -> None:
        self._connection = connection
        self._path = path
        self._release = release
        self._server = server

    def link(self, files: Sequence[str]) -> None:
        """Make the links that are not there yet. What they lead to is made as an empty folder where nothing
        is. ServerRejected when the release has a file in the place of a link.
        """
        for name in self._server.shared:
            taken = next((file for file in files if file == name or file.startswith(f"{name}/")), None)
            if taken is not None:
                raise ServerRejected(
                    f"{self._server}: the release has {taken}, and {name} is to be a link to shared/{name}",
                    "take one of the two out: of the action's files, or of the server's shared",
                )
            self._ensure_folder(posixpath.join(self._path, "shared"), name)
            self._link(name)

    def _link(self, name: str) -> None:
        sftp = self._connection.sftp
        parents, _, _ = name.rpartition("/")
        if parents:
            self._ensure_folder(self._release, parents)
        # Counted from where the link lies, so that the folder of all releases may be moved as a whole.
        up = "../" * (2 + name.count("/"))
        leads = f"{up}shared/{name}"
        place = posixpath.join(self._release, name)
        entry = self._connection.lstat(place)
        if entry is None:
            sftp.symlink(leads, place)
        elif not stat.S_ISLNK(entry.st_mode or 0) or sftp.readlink(place) != leads:
            raise ServerRejected(f"{self._server}: {place} should be a link to {leads}, and is not")

    def _ensure_folder(self, base: str, name: str) -> None:
        place = base
        for part in ("", *name.split("/")):
            place = posixpath.join(place, part) if part else place
            entry = self._connection.lstat(place)
            if entry is None:
                self._connection.sftp.mkdir(place, _FOLDER_MODE)
            elif stat.S_ISLNK(entry.st_mode or 0):
                raise ServerRejected(
                    f"{self._server}: {place} is a symbolic link, which could lead anywhere",
                    "replace it by the folder that it leads to",
                )
            elif place != posixpath.join(base, name) and not stat.S_ISDIR(entry.st_mode or 0):
                raise ServerRejected(f"{self._server}: {place} is no folder")
