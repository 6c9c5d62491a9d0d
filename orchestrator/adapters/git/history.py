"""What a mirror's commits hold and how they follow each other. Each raises GitFailed or GitTimeout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from orchestrator.adapters.git.mirror import Mirror
from orchestrator.adapters.git.process import GitFailed
from orchestrator.domain.change import Commit, LoggedCommit, Revision
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.pipeline import SourceSpec

COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
READABLE: Final = "backslashreplace"
"""How names that are not UTF-8 are read: a byte as ``\\xe9``. No ref has a backslash, so none is confused."""

_FORMAT: Final = "--format=%H%x00%s%x00%an%x00%ae%x00%ct"
_PLAIN_FILES: Final = ("100644", "100755")


def known(mirror: Mirror, commit: str) -> bool:
    """Whether that is the full hash of a commit that is here."""
    return COMMIT.fullmatch(commit) is not None and mirror.find(commit) is not None


def describe(source: SourceSpec, mirror: Mirror, commit: str, branch: str) -> Revision:
    """A commit as people see it."""
    shown = mirror.read("log", "--max-count=1", "--no-show-signature", _FORMAT, commit, "--")
    found, subject, author, email, seconds = shown.rstrip("\n").split("\0")
    try:
        when = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        when = None
    return Revision(source.name, branch, found, subject, author, email, when)


def contains(mirror: Mirror, older: str, newer: str) -> bool:
    """Whether ``newer`` descends from ``older``; False also when that is not here."""
    if not known(mirror, older):
        return False
    try:
        mirror.read("merge-base", "--is-ancestor", older, newer)
    except GitFailed as error:
        if error.code == 1:
            return False
        raise
    return True


def logged(mirror: Mirror, older: str, newer: str, limit: int) -> tuple[LoggedCommit, ...]:
    """The commits of ``older..newer``, newest first; none when ``older`` is not here."""
    if not known(mirror, older):
        return ()
    options = (f"--max-count={max(limit, 0)}", "--no-show-signature", "-z", "--format=%H%x00%an%x00%s")
    parts = mirror.read("log", *options, f"{older}..{newer}", "--").split("\0")
    return tuple(LoggedCommit(parts[i], parts[i + 2], parts[i + 1]) for i in range(0, len(parts) - 2, 3))


def commits(mirror: Mirror, older: str | None, newer: str, limit: int) -> tuple[Commit, ...]:
    """``older..newer`` along first parents, newest first; ``newer`` alone without an older one."""
    chosen = (f"--max-count={max(limit, 0)}", f"{older}..{newer}")
    if older is None or not known(mirror, older):
        chosen = ("--max-count=1", newer)
    options = ("--first-parent", "--no-show-signature", "-z", "--format=%H%x00%B")
    parts = mirror.read("log", *options, *chosen, "--").split("\0")
    return tuple(Commit(parts[i], parts[i + 1].strip()) for i in range(0, len(parts) - 1, 2))


def changed_paths(mirror: Mirror, older: str, newer: str) -> tuple[str, ...] | None:
    """The paths that differ; None when ``older`` is not here."""
    if not known(mirror, older):
        return None
    options = ("-z", "-r", "--name-only", "--no-renames", "--no-ext-diff", "--ignore-submodules=none")
    return tuple(mirror.read("diff-tree", *options, older, newer, "--", errors=READABLE).split("\0")[:-1])


def content(mirror: Mirror, commit: str, path: str, limit: int) -> bytes | None:
    """A file of a commit. InvalidInput when it is too large or no plain file."""
    listed = mirror.read("--literal-pathspecs", "ls-tree", "-z", "--long", "--full-tree", commit, "--", path)
    if not listed:
        return None
    mode, kind, name, size = listed.split("\t", 1)[0].split()
    if kind != "blob" or mode not in _PLAIN_FILES:
        raise InvalidInput(f"{path} at {commit[:12]} is no plain file", "a plain file of that name")
    if int(size) > limit:
        raise InvalidInput(f"{path} at {commit[:12]} has {size} bytes", f"at most {limit} bytes")
    return mirror.read_raw("cat-file", "blob", name)


def merge_base(mirror: Mirror, one: str, other: str) -> str | None:
    """The best common ancestor of two commits that are here."""
    try:
        return mirror.read("merge-base", one, other).strip() or None
    except GitFailed as error:
        if error.code == 1:
            return None
        raise


def branches_with(mirror: Mirror, commit: str, seen: str) -> Sequence[str]:
    """The branches that held the commit when all were last fetched; they are below the ref ``seen``."""
    depth = seen.count("/")
    listing = ("for-each-ref", f"--contains={commit}", f"--format=%(refname:lstrip={depth})", seen)
    return mirror.read(*listing, errors=READABLE).split("\n")[:-1]
