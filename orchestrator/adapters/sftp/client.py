"""SFTP with requests that are sent ahead of the answers to earlier ones, and with OpenSSH's extensions."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import paramiko
from paramiko.sftp import (
    CMD_ATTRS,
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_HANDLE,
    CMD_LSTAT,
    CMD_MKDIR,
    CMD_NAME,
    CMD_OPENDIR,
    CMD_READDIR,
    CMD_READLINK,
    CMD_REMOVE,
    CMD_RMDIR,
    CMD_SETSTAT,
    CMD_STATUS,
    CMD_SYMLINK,
    CMD_WRITE,
    SFTPError,
    int64,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Space:
    """A file system's room in bytes, and how many more files it takes; None where it does not count them."""

    free: int
    block: int
    files: int | None = None


class Reply(Generic[T]):
    """The answer to a request that was sent. Requests are carried out in the order they were sent in, whether
    those before them succeed or not.
    """

    def __init__(self, sftp: Sftp, expected: int, parse: Callable[[paramiko.Message], T]) -> None:
        self._sftp = sftp
        self._expected = expected
        self._parse = parse
        self._answer: tuple[int, paramiko.Message] | None = None

    def get(self) -> T:
        """Wait for it. Raises OSError when the server refused, as the library's own calls do."""
        while self._answer is None:
            self._sftp._read_response()  # type: ignore[attr-defined]
        kind, message = self._answer
        if kind == CMD_STATUS:
            message.rewind()
            message.get_int()
            self._sftp._convert_status(message)  # type: ignore[attr-defined]
        elif kind != self._expected:
            raise SFTPError(f"an answer of the kind {kind}, and {self._expected} was expected")
        return self._parse(message)

    def found(self) -> T | None:
        """As ``get``; None when nothing is there."""
        try:
            return self.get()
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def worked(self) -> bool:
        """Whether the server did it, whatever the reason is when it did not."""
        try:
            self.get()
        except (OSError, EOFError):
            return False
        return True

    def _async_response(self, kind: int, message: paramiko.Message, number: int) -> None:
        """What the library calls with an answer that nobody waits for at the moment."""
        self._answer = kind, message


class Sftp(paramiko.SFTPClient):
    """The library's client, and requests whose answers are fetched later."""

    def space(self, path: str) -> Space | None:
        """Room for an ordinary user where ``path`` lies; None when the server cannot tell."""
        return self.ask_space(path)()

    def flush_to_disk(self, file: paramiko.SFTPFile) -> None:
        """Ask for the file to be on disk; a server without the extension is left alone."""
        self._ask(CMD_STATUS, _nothing, CMD_EXTENDED, "fsync@openssh.com", file.handle).worked()

    def ask_lstat(self, path: str) -> Reply[paramiko.SFTPAttributes]:
        """What lies at a path, links not followed."""
        return self._ask(CMD_ATTRS, paramiko.SFTPAttributes._from_msg, CMD_LSTAT, path)  # type: ignore[attr-defined]

    def ask_readlink(self, path: str) -> Reply[str]:
        """Where a link leads."""
        return self._ask(CMD_NAME, _first_name, CMD_READLINK, path)

    def ask_mkdir(self, path: str, mode: int) -> Reply[None]:
        """Make a folder."""
        return self._ask(CMD_STATUS, _nothing, CMD_MKDIR, path, _with_mode(mode))

    def ask_chmod(self, path: str, mode: int) -> Reply[None]:
        """Change permissions."""
        return self._ask(CMD_STATUS, _nothing, CMD_SETSTAT, path, _with_mode(mode))

    def ask_symlink(self, leads: str, path: str) -> Reply[None]:
        """Make a link at ``path``."""
        return self._ask(CMD_STATUS, _nothing, CMD_SYMLINK, leads, path)

    def ask_rename(self, old: str, new: str) -> Reply[None]:
        """Rename in one atomic step, over what is there."""
        return self._ask(CMD_STATUS, _nothing, CMD_EXTENDED, "posix-rename@openssh.com", old, new)

    def ask_remove(self, path: str) -> Reply[None]:
        """Remove a file or link."""
        return self._ask(CMD_STATUS, _nothing, CMD_REMOVE, path)

    def ask_rmdir(self, path: str) -> Reply[None]:
        """Remove an empty folder."""
        return self._ask(CMD_STATUS, _nothing, CMD_RMDIR, path)

    def ask_opendir(self, path: str) -> Reply[bytes]:
        """A handle to list a folder with."""
        return self._ask(CMD_HANDLE, _handle, CMD_OPENDIR, path)

    def ask_close(self, handle: bytes) -> Reply[None]:
        """Close a file or folder."""
        return self._ask(CMD_STATUS, _nothing, CMD_CLOSE, handle)

    def ask_entries(self, handle: bytes) -> Reply[list[paramiko.SFTPAttributes]]:
        """The next entries of a folder, ``.`` and ``..`` among them. EOFError when there are no more."""
        return self._ask(CMD_NAME, _entries, CMD_READDIR, handle)

    def ask_write(self, file: paramiko.SFTPFile, offset: int, data: bytes) -> Reply[None]:
        """Write to an open file."""
        return self._ask(CMD_STATUS, _nothing, CMD_WRITE, file.handle, int64(offset), data)

    def ask_space(self, path: str) -> Callable[[], Space | None]:
        """What ``space`` tells, once it is called."""
        reply = self._ask(CMD_EXTENDED_REPLY, _space, CMD_EXTENDED, "statvfs@openssh.com", path)

        def told() -> Space | None:
            try:
                return reply.get()
            except OSError:
                return None

        return told

    def _ask(
        self, expected: int, parse: Callable[[paramiko.Message], T], kind: int, *arguments: object
    ) -> Reply[T]:
        reply = Reply(self, expected, parse)
        self._async_request(reply, kind, *arguments)  # type: ignore[attr-defined]
        return reply


def _with_mode(mode: int) -> paramiko.SFTPAttributes:
    attributes = paramiko.SFTPAttributes()
    attributes.st_mode = mode
    return attributes


def _nothing(message: paramiko.Message) -> None:
    return None


def _handle(message: paramiko.Message) -> bytes:
    return message.get_binary()


def _first_name(message: paramiko.Message) -> str:
    message.get_int()
    return message.get_text()


def _entries(message: paramiko.Message) -> list[paramiko.SFTPAttributes]:
    found = []
    for _ in range(message.get_int()):
        name, long_name = message.get_text(), message.get_text()
        found.append(paramiko.SFTPAttributes._from_msg(message, name, long_name))  # type: ignore[attr-defined]
    return found


def _space(message: paramiko.Message) -> Space:
    _, fragment, _, _, available, inodes, _, free_inodes = (message.get_int64() for _ in range(8))
    # Some file systems make inodes as they need them, and count none.
    return Space(int(available * fragment), int(fragment), int(free_inodes) if inodes else None)
