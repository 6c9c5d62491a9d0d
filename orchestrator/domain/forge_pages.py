"""Where the forge of a repository shows commits: addresses as the known forges make them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from orchestrator.domain.pipeline import SourceSpec

_BY_SSH = re.compile(r"(?:[\w.+-]+@)?(?P<host>[\w.-]+):(?P<path>[^/\\:][^:]*)")
_HASH = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class _Forge:
    commit: str
    compare: str


_GITHUB = _Forge("commit/{new}", "compare/{old}...{new}")
_GITLAB = _Forge("-/commit/{new}", "-/compare/{old}...{new}")
_BITBUCKET = _Forge("commits/{new}", "branches/compare/{new}%0D{old}#diff")
_KNOWN = {
    "github.com": _GITHUB,
    "gitlab.com": _GITLAB,
    "codeberg.org": _GITHUB,
    "gitea.com": _GITHUB,
    "bitbucket.org": _BITBUCKET,
}


def commit_page(source: SourceSpec, commit: str, github: str) -> str:
    """The page of a commit; empty where the forge is not known.

    ``github`` is where GitHub's pages are: ``https://github.com``, or an own server's.
    """
    found = _forge_of(source, github)
    if found is None or not _HASH.fullmatch(commit):
        return ""
    base, forge = found
    return f"{base}/{forge.commit.format(new=commit)}"


def compare_page(source: SourceSpec, old: str, new: str, github: str) -> str:
    """The page of all that changed between two commits; empty where the forge is not known."""
    found = _forge_of(source, github)
    if found is None or not _HASH.fullmatch(old) or not _HASH.fullmatch(new):
        return ""
    base, forge = found
    return f"{base}/{forge.compare.format(old=old, new=new)}"


def _forge_of(source: SourceSpec, github: str) -> tuple[str, _Forge] | None:
    """Where a repository's pages begin, and how its forge calls them."""
    if source.github:
        return f"{github.rstrip('/')}/{quote(source.github)}", _GITHUB
    host, path = _place(source.location)
    known = _KNOWN.get(host) or (_GITLAB if host.startswith("gitlab.") else None)
    return None if known is None or not path else (f"https://{host}/{quote(path)}", known)


def _place(location: str) -> tuple[str, str]:
    """Host and path of a repository that is elsewhere, without what one logs in with; else nothing."""
    if "://" in location:
        try:
            parts = urlsplit(location)
        except ValueError:
            return "", ""
        if parts.scheme not in ("http", "https", "ssh"):
            return "", ""
        host, path = parts.hostname or "", parts.path
    else:
        found = _BY_SSH.fullmatch(location)
        if found is None:
            return "", ""
        host, path = found["host"], found["path"]
    return host.lower(), path.strip("/").removesuffix(".git")
