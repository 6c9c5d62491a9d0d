"""What an action takes from a run, as a tar for a container."""

from __future__ import annotations

import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from orchestrator.services.archive import EMPTY_SINCE
from orchestrator.services.contents import Contents


def packed(contents: Contents, folder: str, uid: int, gid: int, scratch: Path, head: bytes = b"") -> BinaryIO:
    """A plain tar with the files below a folder, to be unpacked at the root; it deletes itself on close.

    ``head`` is the beginning of a tar, without its end, that comes before. The folders belong to the user.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    spool = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - the caller closes it
    spool.write(head)
    with tarfile.open(fileobj=spool, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        made = set[str]()
        _add_folder(tar, folder.strip("/"), uid, gid, made)
        for file in contents.files:
            path = f"{folder.strip('/')}/{file.path}"
            _add_folder(tar, path.rpartition("/")[0], uid, gid, made, folder.strip("/"))
            entry = _entry(path, uid, gid, tarfile.REGTYPE, 0o644)
            entry.size = file.size
            with closing(contents.open(file)) as stream:
                tar.addfile(entry, stream)
    spool.seek(0)
    return spool


def _add_folder(tar: tarfile.TarFile, path: str, uid: int, gid: int, made: set[str], top: str = "") -> None:
    parts = path.split("/")
    for length in range(len(top.split("/")) if top else len(parts), len(parts) + 1):
        folder = "/".join(parts[:length])
        if folder not in made:
            made.add(folder)
            tar.addfile(_entry(folder, uid, gid, tarfile.DIRTYPE, 0o755))


def _entry(path: str, uid: int, gid: int, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.uid, entry.gid = kind, mode, uid, gid
    entry.mtime = int(EMPTY_SINCE.timestamp())
    return entry
