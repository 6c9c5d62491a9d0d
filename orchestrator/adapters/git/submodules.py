"""Submodules: which ones a commit has, and which of their addresses may be followed.

A commit names any address that its author likes, and the orchestrator would go there with its own logins. So
a submodule is of the same server as the repository, where the source's own login counts, or it is public, at
another server, over https, and nothing is told to that server. A repository on this machine has submodules
beside itself alone.
"""

from __future__ import annotations

import re
import socket
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orchestrator.adapters.addresses import may_be_asked
from orchestrator.adapters.git.history import READABLE
from orchestrator.adapters.git.location import (
    USER_INFO,
    Access,
    Location,
    local_path,
    printable,
    scp_path,
)
from orchestrator.adapters.git.mirror import Mirror
from orchestrator.adapters.git.process import GitFailed
from orchestrator.domain.errors import SourceRefused, SourceUnavailable

_KEY: Final = re.compile(r"submodule\.(.+)\.(path|url|update)", re.DOTALL)
_GITLINK: Final = "160000"
_MODULES: Final = ".gitmodules"
_NO_SUCH_KEY: Final = 1


@dataclass(frozen=True, slots=True)
class Submodule:
    """A folder of a commit that is a commit of another repository; ``url`` as its author wrote it."""

    path: str
    commit: str
    url: str


def of(mirror: Mirror, commit: str) -> list[Submodule]:
    """The submodules of a commit, but for those that are not to be updated.

    Raises GitFailed, GitTimeout, and SourceRefused when the commit does not say where one is.
    """
    listed = mirror.read("ls-tree", "-r", "-z", "--full-tree", commit, errors="surrogateescape")
    links: dict[str, str] = {}
    modules = ""
    for line in listed.split("\0")[:-1]:
        about, _, path = line.partition("\t")
        mode, _, name = about.split(" ")
        if mode == _GITLINK:
            links[path] = name
        elif path == _MODULES:
            modules = name
    if not links:
        return []
    told = _told(mirror, modules, commit)
    urls = {entry["path"]: entry["url"] for entry in told if "path" in entry and "url" in entry}
    left_out = {entry.get("path") for entry in told if entry.get("update") == "none"}
    found = []
    for path, name in links.items():
        if path in left_out:
            continue
        if path not in urls:
            raise SourceRefused(
                f"commit {commit[:12]} has a submodule at {printable(path)}, and {_MODULES} does not say"
                " where it is",
                f"git submodule add URL {printable(path)}",
            )
        found.append(Submodule(path, name, urls[path]))
    return found


def _told(mirror: Mirror, modules: str, commit: str) -> list[dict[str, str]]:
    if not modules:
        return []
    try:
        text = mirror.read("config", f"--blob={modules}", "-z", "--list", errors=READABLE)
    except GitFailed as error:
        raise SourceRefused(f"{_MODULES} of commit {commit[:12]} cannot be read: {error.said}") from None
    entries: dict[str, dict[str, str]] = {}
    for line in text.split("\0"):
        key, _, value = line.partition("\n")
        if named := _KEY.fullmatch(key):
            entries.setdefault(named[1], {})[named[2]] = value
    return list(entries.values())


def folder(into: Path, submodule: Submodule) -> Path:
    """Where its files go: a real folder below ``into``, which the checkout has made."""
    place = into
    for part in submodule.path.split("/"):
        place = place / part
        if part in ("", ".", "..") or part.lower() == ".git" or place.is_symlink() or not place.is_dir():
            raise SourceRefused(f"the submodule at {printable(submodule.path)} has no folder of its own")
    return place


def locate(parent: Location, submodule: Submodule, *, strangers: bool = False) -> Location:
    """Where a submodule is. SourceRefused when that may not be asked for.

    One that ``strangers`` name is not logged in to.
    """
    found = _locate(parent, submodule)
    if not strangers or found.scheme == "file" or found.anonymous:
        return found
    if found.ssh is not None:
        raise _refused(f"submodule {printable(submodule.path)} of {parent.shown}", submodule.url)
    return Location.parse(found.url, Access(anonymous=True), parent.source)


def _locate(parent: Location, submodule: Submodule) -> Location:
    shown = f"submodule {printable(submodule.path)} of {parent.shown}"
    url = _absolute(parent, submodule.url)
    if url is None:
        raise _refused(shown, submodule.url)
    child = replace(Location.parse(url), source=parent.source)
    if parent.scheme == "file":
        return _beside(parent, child, submodule, shown)
    if _server(child) == _server(parent):
        return _of_the_same(parent, child)
    if parent.scheme in ("https", "http") and child.ssh is not None and child.ssh.hostname == _host(parent):
        # Written for people with keys; the login of the source is one for the web.
        path = scp_path(child.url) or urlsplit(child.url).path
        at = urlsplit(parent.url)
        return _of_the_same(parent, Location.parse(f"{at.scheme}://{at.netloc}/{path.lstrip('/')}"))
    if child.scheme != "https":
        raise _refused(shown, submodule.url)
    return _public(child)


def _absolute(parent: Location, url: str) -> str | None:
    """The address that a submodule's means, as git understands it; None when it climbs out of its server."""
    if not url.startswith(("./", "../")):
        return url
    base, separator, path = _split(parent.url)
    parts = [part for part in path.split("/") if part]
    for step in [part for part in url.split("/") if part]:
        if step == "..":
            if not parts:
                return None
            parts.pop()
        elif step != ".":
            parts.append(step)
    return f"{base}{separator}{'/'.join(parts)}" if parts else None


def _split(url: str) -> tuple[str, str, str]:
    """What stands before the path of an address, what parts them, and the path."""
    path = scp_path(url)
    if path is not None:
        return url[: len(url) - len(path)], "/" if path.startswith("/") else "", path
    if "://" in url:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}", "/", parts.path
    return "", "/", url


def _beside(parent: Location, child: Location, submodule: Submodule, shown: str) -> Location:
    own, other = local_path(parent), local_path(child)
    if own is None or other is None or not submodule.url.startswith(("./", "../")):
        raise _refused(shown, submodule.url)
    if not other.resolve().is_relative_to(own.resolve().parent):
        raise _refused(shown, submodule.url)
    return child


def _of_the_same(parent: Location, child: Location) -> Location:
    if parent.ssh is not None and child.ssh is not None:
        way = replace(child.ssh, identity_file=parent.ssh.identity_file, known_hosts=parent.ssh.known_hosts)
        return replace(child, ssh=way, keys=parent.keys)
    access = Access(parent.user, parent.password, anonymous=parent.anonymous)
    return replace(Location.parse(child.url, access, parent.source), pinned=parent.pinned)


def _server(location: Location) -> tuple[str, str, int | None]:
    if location.ssh is not None:
        # Another user of the same machine is somebody else: root, say.
        return "ssh", f"{location.ssh.user or ''}@{location.ssh.hostname.lower()}", location.ssh.port
    parts = urlsplit(location.url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def _host(location: Location) -> str:
    return (urlsplit(location.url).hostname or "").lower()


def _public(child: Location) -> Location:
    """A repository of a stranger's server: asked without any login, at an address that is nobody's own."""
    parts = urlsplit(child.url)
    host, port = parts.hostname or "", parts.port or 443
    anonymous = Location.parse(child.url, Access(anonymous=True), child.source)
    if urllib.request.getproxies().get("https") and not urllib.request.proxy_bypass(host):
        # The proxy looks names up, and decides what may be reached.
        return anonymous
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceUnavailable(
            f"cannot read {child.shown}: {error.strerror or 'its name is not known'}",
            "see that the name is right",
        ) from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not all(may_be_asked(address, allow_private=False) for address in addresses):
        raise SourceRefused(
            f"cannot read {child.shown}: submodules of other servers are only followed to public addresses",
            "a repository on the same server as the source",
        )
    first = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    return replace(anonymous, pinned=f"{host}:{port}:{first}")


def _refused(shown: str, url: str) -> SourceRefused:
    written = USER_INFO.sub(r"\1***@", printable(url))
    return SourceRefused(
        f"{shown} is at {written!r}, which is not followed",
        "a repository of the same server (for one on this machine: ../NAME beside it), or over https",
    )
