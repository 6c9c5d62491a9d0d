"""Where a repository is and how it lets us in: addresses that git may be given, and no others."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from orchestrator.domain.errors import SourceRefused
from orchestrator.domain.pipeline import SshSpec

PROTOCOLS: Final = ("https", "http", "ssh", "file")
REMOTE: Final = "mlci-remote"
"""The name under which git sees a location, so that no URL has to be an argument."""
ANY_USER: Final = "x-access-token"
"""Who logs in with a token: GitHub wants this name for an App's, all others take any."""

_TRANSPORT_HELPER: Final = re.compile(r"[A-Za-z0-9+.-]*::")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP_LIKE: Final = re.compile(
    r"(?:(?P<user>[^@/:\s-][^@/:\s]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/:\s\[-][^@/:\s]*):(?P<path>[^\s].*)"
)
USER_INFO: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
# Fixed text: git runs it with a shell, and the values come by the environment.
_CREDENTIAL_HELPER: Final = (
    '!f() { test "$1" = get && '
    'printf "username=%s\\npassword=%s\\n" "$MLCI_GIT_USER" "$MLCI_GIT_PASSWORD"; }; f'
)


@dataclass(frozen=True, slots=True)
class Access:
    """How a source lets us in. Of its values none is stored; the paths are absolute.

    ``password`` is a password or a token, for https alone. ``known_hosts`` replaces the host keys that the
    orchestrator keeps itself, in the file ``keys``. ``anonymous``: neither this nor anything that the
    orchestrator's own user has may be used to log in. ``login`` tells it from others, and is no secret.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_file: str | None = None
    known_hosts: str | None = None
    keys: str = os.devnull
    anonymous: bool = False
    login: str = ""


NOBODY: Final = Access()


@dataclass(frozen=True, slots=True)
class Location:
    """A repository's address. ``url`` is what git gets; ``shown`` is for people; the password is apart.

    ``source`` is what people call it. ``ssh`` is the way where there is SSH in it, and ``keys`` the file of
    host keys that count unless that names another. ``pinned`` holds the
    ``host:port:address`` that alone may be asked; where there is one, redirections are not followed.
    ``strangers``: what is fetched was written by people who are not to be trusted. ``within`` is for whom a
    submodule is fetched: what others may read is none of theirs. ``bounded``: strangers chose the address, so
    only so much is fetched. ``login`` is as in Access.
    """

    url: str
    shown: str
    user: str = ""
    password: str = field(default="", repr=False)
    source: str = ""
    ssh: SshSpec | None = None
    keys: str = os.devnull
    anonymous: bool = False
    pinned: str = ""
    login: str = ""
    strangers: bool = False
    within: str = ""
    bounded: bool = False

    @classmethod
    def parse(cls, text: str, access: Access = NOBODY, source: str = "") -> Location:
        """Understand an address. SourceRefused for what git is not trusted with."""
        shown = USER_INFO.sub(r"\1***@", printable(text))
        if text.startswith("-") or not text or not text.isprintable() or _TRANSPORT_HELPER.match(text):
            raise _refused(shown)
        if "\n" in access.password or "\0" in access.password:
            raise SourceRefused(
                f"the password or token for {shown} has more than one line", "one line, without a line break"
            )
        scheme = _SCHEME.match(text)
        if scheme is None:
            found = _SCP_LIKE.fullmatch(text)
            if not text.startswith("/") and found is None:
                raise _refused(shown)
            ssh = None
            if found is not None and not text.startswith("/"):
                ssh = _way(found["host"].strip("[]"), found["user"], None, access)
            return cls(text, shown, source=source, ssh=ssh, keys=access.keys, anonymous=access.anonymous)
        if scheme[1].lower() not in PROTOCOLS:
            raise _refused(shown)
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise _refused(shown) from None
        if host.startswith("-") or (not host and parts.scheme != "file"):
            raise _refused(shown)
        if parts.scheme in ("http", "https"):
            return _by_web(parts, shown, access, source)
        ssh = _way(host, parts.username, port, access) if parts.scheme == "ssh" else None
        return cls(text, shown, source=source, ssh=ssh, keys=access.keys, anonymous=access.anonymous)

    @property
    def mirror(self) -> str:
        """The name of the folder with what was fetched from here.

        What was fetched without a login, for strangers, or as a submodule is kept apart: else it would be got
        from what another login opened.
        """
        who = "\0anonymous" if self.anonymous else ""
        who += "\0strangers" if self.strangers else ""
        who += f"\0within\0{self.within}" if self.within else ""
        return hashlib.sha256(f"{self.url}{who}".encode()).hexdigest()[:16]

    def submodule(self, child: Location) -> Location:
        """A location as that of a submodule of this one."""
        identity = self.ssh.identity_file if self.ssh else None
        whom = "\0".join((self.mirror, self.source, self.login, self.user, identity or ""))
        return replace(child, within=whom, bounded=self.strangers or self.bounded)

    @property
    def scheme(self) -> str:
        """https, http, ssh or file."""
        if self.ssh is not None:
            return "ssh"
        return urlsplit(self.url).scheme if _SCHEME.match(self.url) else "file"

    @property
    def allowed(self) -> Sequence[str]:
        """The protocols that git may use: whoever asks for encryption is not sent on without it."""
        if self.pinned or self.anonymous or (self.within and self.scheme == "file"):
            # No setting of the user's may turn it into an address that their keys open.
            return (self.scheme,)
        return tuple(p for p in PROTOCOLS if p != "http" or self.scheme in ("http", "file"))

    @property
    def settings(self) -> Sequence[tuple[str, str]]:
        """Git configuration that makes the location known as REMOTE, and its password to that host alone."""
        found = [(f"remote.{REMOTE}.url", self.url)]
        if self.pinned:
            found += [("http.curloptResolve", self.pinned), ("http.followRedirects", "false")]
        if self.password:
            parts = urlsplit(self.url)
            helper = f"credential.{parts.scheme}://{parts.netloc}.helper"
            # The empty one takes back the user's helpers.
            found += [(helper, ""), (helper, _CREDENTIAL_HELPER)]
        return found


def _by_web(parts: SplitResult, shown: str, access: Access, source: str) -> Location:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if access.password:
        user, password = access.user or user or ANY_USER, access.password
    url = parts.geturl()
    if password or access.anonymous:
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if access.anonymous:
        user = password = ""
    return Location(url, shown, user, password, source, anonymous=access.anonymous)


def _way(host: str, user: str | None, port: int | None, access: Access) -> SshSpec:
    return SshSpec(host, user, port, access.identity_file, known_hosts=access.known_hosts)


def local_path(location: Location) -> Path | None:
    """Where a repository on this machine is; None for one that is elsewhere."""
    if location.scheme != "file":
        return None
    return Path(unquote(urlsplit(location.url).path)) if _SCHEME.match(location.url) else Path(location.url)


def scp_path(url: str) -> str | None:
    """The path in ``user@host:path``; None for another form."""
    found = None if _SCHEME.match(url) or url.startswith("/") else _SCP_LIKE.fullmatch(url)
    return found["path"] if found else None


def printable(text: str) -> str:
    """Without what could command a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _refused(shown: str) -> SourceRefused:
    return SourceRefused(
        f"{shown!r} is not an address of a repository that may be used",
        f"expected an absolute path, user@host:path, or a URL with {', '.join(PROTOCOLS)}",
    )
