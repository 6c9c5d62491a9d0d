"""Folders in which contents lie by their MD5: the cache of a DVC repository, or a remote of it.

Whoever writes to such a folder, as everybody does who can push to its repository, can put links there that
lead to any file of this machine. So on the way to a content no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_OPENED: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_PATH: Final = "it is no path below a folder"
_NO_FILE: Final = "it is behind a link, or no regular file"


@dataclass(frozen=True, slots=True)
class Shelf:
    """The root of a cache or remote: a folder that the administrator named, and a path below it that is not
    theirs.
    """

    root: Path
    inner: str = ""

    def open(self, md5: str, old: bool) -> BinaryIO | None:
        """A content; None when it is not there. OSError when it cannot be read, or is a link."""
        return open_below(self.root, "/".join(filter(None, (self.inner, named(md5, old)))))


def named(md5: str, old: bool) -> str:
    """The name of a content below the root of a cache or remote; ``old`` as DVC 2 laid them out."""
    return f"{'' if old else 'files/md5/'}{md5[:2]}/{md5[2:]}"


def inside(tree: Path, path: str) -> str | None:
    """A path of a repository's configuration as one below its tree; None when it is elsewhere."""
    found = os.path.relpath(tree / ".dvc" / path, tree)
    return None if found == ".." or found.startswith("../") else found


def open_below(root: Path, path: str) -> BinaryIO | None:
    """Open a regular file below a folder without following a link; None when there is none.

    The folder itself may be a link. OSError when the file cannot be read, is a link or behind one.
    """
    *folders, name = parts = path.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise OSError(errno.EINVAL, _NO_PATH)
    try:
        held = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        for folder in folders:
            inner = os.open(folder, _OPENED | os.O_DIRECTORY, dir_fd=held)
            os.close(held)
            held = inner
        # A pipe that nobody writes to must not keep us waiting.
        file = os.open(name, _OPENED | os.O_NONBLOCK, dir_fd=held)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise OSError(errno.ELOOP, _NO_FILE) from error
        raise
    finally:
        os.close(held)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.ELOOP, _NO_FILE)
    return os.fdopen(file, "rb")
