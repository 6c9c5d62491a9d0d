"""Running git: what it may reach, what it inherits, and what of its words may be shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from orchestrator.domain.errors import DiskFull, SourceUnavailable
from orchestrator.domain.space import NO_ROOM

PROTOCOLS: Final = ("https", "http", "ssh", "file")
REMOTE: Final = "mlci-remote"
"""The name under which git sees a location, so that no URL has to be an argument."""

# What a user may have set to reach repositories. Other GIT_* variables name repositories or switch on traces.
_INHERITED = frozenset(
    {
        "GIT_ASKPASS",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_EXEC_PATH",
        "GIT_PROXY_COMMAND",
        "GIT_PROXY_SSL_CAINFO",
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
    }
)
_SAFE: Final = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.logAllRefUpdates=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "gc.auto=0"),
    *("-c", "fetch.unpackLimit=1"),
    *("-c", "http.lowSpeedLimit=1"),
    *("-c", "http.lowSpeedTime=60"),
)
_TRANSPORT_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP_LIKE = re.compile(r"(?:[^@/:\s-][^@/:\s]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^@/:\s\[-][^@/:\s]*):[^\s].*")
_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
# Fixed text: git runs it with a shell, and the values come by the environment.
_CREDENTIAL_HELPER = (
    '!f() { test "$1" = get && '
    'printf "username=%s\\npassword=%s\\n" "$MLCI_GIT_USER" "$MLCI_GIT_PASSWORD"; }; f'
)


@dataclass(frozen=True, slots=True)
class Location:
    """A repository's address. ``url`` is what git gets; ``shown`` is for people; the password is apart."""

    url: str
    shown: str
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Location:
        """Understand an address. SourceUnavailable for what git is not trusted with."""
        shown = _USER_INFO.sub(r"\1***@", _printable(text))
        if text.startswith("-") or not text or not text.isprintable():
            raise _refused(shown)
        if _TRANSPORT_HELPER.match(text):
            raise _refused(shown)
        scheme = _SCHEME.match(text)
        if scheme is None:
            if text.startswith("/") or _SCP_LIKE.fullmatch(text):
                return cls(text, shown)
            raise _refused(shown)
        if scheme[1].lower() not in PROTOCOLS:
            raise _refused(shown)
        try:
            parts = urlsplit(text)
            host = parts.hostname or ""
        except ValueError:
            raise _refused(shown) from None
        if host.startswith("-") or (not host and parts.scheme != "file"):
            raise _refused(shown)
        if parts.scheme in ("http", "https") and parts.password:
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            return cls(bare, shown, unquote(parts.username or ""), unquote(parts.password))
        return cls(text, shown)

    @property
    def settings(self) -> Sequence[tuple[str, str]]:
        """Git configuration that makes the location known as REMOTE, and its password to that host alone."""
        url = (f"remote.{REMOTE}.url", self.url)
        if not self.password:
            return (url,)
        parts = urlsplit(self.url)
        helper = f"credential.{parts.scheme}://{parts.netloc}.helper"
        return (
            url,
            (helper, ""),
            (helper, _CREDENTIAL_HELPER),
        )  # the empty one takes back the user's helpers


def _refused(shown: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{shown!r} is not an address of a repository that may be used",
        f"expected an absolute path, user@host:path, or a URL with {', '.join(PROTOCOLS)}",
    )


class GitFailed(Exception):
    """Git ended with another code than 0. ``said``: the end of its messages, fit to be shown."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"git ended with {code}: {said}")
        self.code = code
        self.said = said


_FULL = ("no space left on device", "disk quota exceeded")
"""What git says in the C library's words, after "remote:" where it is not our disk."""


class GitTimeout(Exception):
    """Git did not end in time and was killed, with all its children."""


def run_git(
    arguments: Sequence[str], *, timeout: float, location: Location | None = None, told: bytes | None = None
) -> str:
    """Run git and return what it printed; ``told`` is what it reads. Raises GitFailed, GitTimeout, or
    DiskFull when our own disk is full.

    With a ``location`` git reaches it as REMOTE and reads the user's configuration (ssh, certificates).
    Without one it works on our own files, where that configuration would only let the attributes of
    a repository start the user's programs.
    """
    process = subprocess.Popen(
        ["git", *_SAFE, *arguments],
        env=_environment(location),
        stdin=subprocess.DEVNULL if told is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(told, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise GitTimeout(f"git did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        said = err.decode("utf-8", "replace")
        if any(full in line.lower() for line in said.splitlines() for full in _FULL if _is_ours(line)):
            raise _no_room(_fit_to_show(said, location))
        raise GitFailed(process.returncode, _fit_to_show(said, location))
    return out.decode("utf-8", "replace")


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Turn what goes wrong with git into SourceUnavailable, or DiskFull where our disk is."""
    try:
        yield
    except GitFailed as error:
        raise SourceUnavailable(
            f"cannot read {location.shown}: {error.said or f'git ended with {error.code}'}",
            "check the address, and that the user who runs the orchestrator may read it",
        ) from None
    except GitTimeout as error:
        raise SourceUnavailable(f"cannot read {location.shown}: {error}", "check the network") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(str(error)) from None
        raise SourceUnavailable(
            f"cannot run git: {error.strerror or error}", "check that git is installed"
        ) from None


def _is_ours(line: str) -> bool:
    return not line.startswith("remote:")


def _no_room(said: str) -> DiskFull:
    return DiskFull(
        f"cannot store what git brings: {said}", "free space on the disk of storage.path in orchestrator.yaml"
    )


def _environment(location: Location | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or (location and k in _INHERITED)}
    kept.pop("SSH_ASKPASS", None)  # a desktop sets it, and git would open a window on it
    kept |= {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GCM_INTERACTIVE": "never",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS) if location else "file",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    if location is None:
        return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_NO_LAZY_FETCH": "1"}
    for index, (key, value) in enumerate(location.settings):
        kept |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    kept["GIT_CONFIG_COUNT"] = str(len(location.settings))
    if location.password:
        kept |= {"MLCI_GIT_USER": location.user, "MLCI_GIT_PASSWORD": location.password}
    return kept


def _fit_to_show(said: str, location: Location | None) -> str:
    """The last words of git without credentials, control characters and advice."""
    text = _USER_INFO.sub(r"\1***@", said)
    if location and location.password:
        text = text.replace(location.password, "***")
    lines = [_printable(line).strip() for line in text.splitlines()]
    useful = [line for line in lines if line and not line.startswith("hint:")]
    shown = "; ".join(useful[-3:])
    return shown if len(shown) <= 400 else f"...{shown[-397:]}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
