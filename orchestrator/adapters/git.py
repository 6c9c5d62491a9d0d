"""Watched repositories by the git command.

Passes argument lists, never a shell's text. Refs are taken from what the remote lists, hashes are checked. No
hooks, no submodules and no filters of a repository's attributes are run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from orchestrator.adapters.git_mirror import SEEN, Mirror, MirrorChange
from orchestrator.adapters.git_process import REMOTE, GitFailed, Location, reaching, run_git
from orchestrator.domain.change import Commit, Refs, Revision
from orchestrator.domain.errors import InvalidInput, NotFound, RevisionGone, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-fA-F]{4,64}")
_FORMAT: Final = "--format=%H%x00%s%x00%an%x00%ae%x00%ct"
_HEADS: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"
_DEPTH = 3

T = TypeVar("T")


class GitCommand:
    """SourceControl with mirrors below ``mirrors``. Seconds: ``quick`` to list, ``timeout`` to fetch."""

    def __init__(self, mirrors: Path, timeout: float = 1800.0, quick: float = 60.0) -> None:
        self._mirrors = mirrors
        self._timeout = timeout
        self._quick = quick

    def heads(self, source: SourceSpec) -> Mapping[str, str]:
        """All branches of the remote with their commits, without fetching."""
        return {
            name.removeprefix(_HEADS): commit
            for name, commit in self._list(Location.parse(source.location), "--heads").items()
            if name.startswith(_HEADS)
        }

    def refs(self, source: SourceSpec) -> Refs:
        """All branches and tags, and what the remote's HEAD names."""
        location = Location.parse(source.location)
        with reaching(location):
            listed = run_git(["ls-remote", "--symref", "--", REMOTE], timeout=self._quick, location=location)
        branches: dict[str, str] = {}
        tags: dict[str, str] = {}
        default = None
        for line in listed.splitlines():
            value, _, name = line.partition("\t")
            if name == "HEAD" and value.startswith(f"ref: {_HEADS}"):
                default = value.removeprefix(f"ref: {_HEADS}")
            elif not _COMMIT.fullmatch(value):
                continue
            elif name.startswith(_HEADS):
                branches[name.removeprefix(_HEADS)] = value
            elif name.startswith(_TAGS):
                # The commit that an annotated tag stands for comes after the tag, with this ending.
                tags[name.removeprefix(_TAGS).removesuffix("^{}")] = value
        return Refs(branches, tags, default=default)

    def default_branch(self, source: SourceSpec) -> str | None:
        """What the remote's HEAD points to, or None when it says nothing."""
        location = Location.parse(source.location)
        with reaching(location):
            listed = run_git(
                ["ls-remote", "--symref", "--", REMOTE, "HEAD"], timeout=self._quick, location=location
            )
        for line in listed.splitlines():
            target, _, name = line.partition("\t")
            if name == "HEAD" and target.startswith(f"ref: {_HEADS}"):
                return target.removeprefix(f"ref: {_HEADS}")
        return None

    def fetch(self, source: SourceSpec, commit: str, branch: str) -> Revision:
        """Bring a commit into the mirror and describe it."""
        return self._with(source, commit, branch, lambda mirror: _describe(source, mirror, commit, branch))

    def resolve(self, source: SourceSpec, ref: str) -> Revision:
        """The commit that a person named; its branch is that one, or one that contains it, or empty."""
        location = Location.parse(source.location)
        listed = self._list(location)
        heads = {name.removeprefix(_HEADS): c for name, c in listed.items() if name.startswith(_HEADS)}
        name = ref.removeprefix(_HEADS)
        if name in heads:
            return self.fetch(source, heads[name], name)
        tag = ref if ref.startswith(_TAGS) else f"{_TAGS}{ref}"
        commit = listed.get(f"{tag}^{{}}") or listed.get(tag)
        if commit is None and _ABBREVIATED.fullmatch(ref):
            commit = self._by_hash(source, location, ref.lower())
        if commit is None:
            raise NotFound(
                f"{location.shown} has no branch, tag or commit {ref[:80]!r}",
                "give a branch, a tag or at least 4 digits of a commit's hash that no other commit shares",
            )
        return self.fetch(source, commit, self._branch_of(source, commit))

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        """Make ``into`` (empty, or not there) the working tree at the commit; a failure leaves it empty."""
        if into.exists() and any(into.iterdir()):
            raise SourceUnavailable(f"cannot check out into {into}: it is not empty")
        self._with(source, commit, "", lambda mirror: self._check_out(mirror, commit, into))

    def is_ancestor(self, source: SourceSpec, older: str, newer: str) -> bool:
        """Whether ``newer`` descends from ``older``; False also when ``older`` is unknown."""
        return self._with(source, newer, "", lambda mirror: _contains(mirror, older, newer))

    def subjects(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[str]:
        """``short-hash subject`` of the commits in ``older..newer``; none when ``older`` is unknown."""
        selected = (f"--max-count={max(limit, 0)}", "--abbrev=8", "--format=%h %s", f"{older}..{newer}", "--")

        def read(mirror: Mirror) -> tuple[str, ...]:
            if not _COMMIT.fullmatch(older) or mirror.find(older) is None:
                return ()
            return tuple(mirror.read("log", "--no-show-signature", *selected).split("\n")[:-1])

        return self._with(source, newer, "", read)

    def commits(self, source: SourceSpec, older: str | None, newer: str, limit: int) -> Sequence[Commit]:
        """The commits in ``older..newer`` along first parents; ``newer`` alone without an older one."""

        def read(mirror: Mirror) -> tuple[Commit, ...]:
            known = older is not None and _COMMIT.fullmatch(older) and mirror.find(older) is not None
            options = ("--first-parent", "--no-show-signature", "-z", "--format=%H%x00%B")
            chosen = (f"--max-count={max(limit, 0)}", f"{older}..{newer}") if known else ("-1", newer)
            parts = mirror.read("log", *options, *chosen, "--").split("\0")
            return tuple(Commit(parts[i], parts[i + 1].strip()) for i in range(0, len(parts) - 1, 2))

        return self._with(source, newer, "", read)

    def changed_paths(self, source: SourceSpec, older: str, newer: str) -> Sequence[str] | None:
        """The paths that differ between two commits."""

        def read(mirror: Mirror) -> tuple[str, ...] | None:
            if not _COMMIT.fullmatch(older) or mirror.find(older) is None:
                return None
            options = ("-z", "-r", "--name-only", "--no-renames", "--no-ext-diff")
            return tuple(mirror.read("diff-tree", *options, older, newer, "--").split("\0")[:-1])

        return self._with(source, newer, "", read)

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        """A file of a commit."""

        def read(mirror: Mirror) -> bytes | None:
            listed = mirror.read("ls-tree", "-z", "--long", "--full-tree", commit, "--", path)
            if not listed:
                return None
            mode, kind, name, size = listed.split("\t", 1)[0].split()
            if kind != "blob" or mode not in ("100644", "100755"):
                raise InvalidInput(f"{path} at {commit[:12]} is no plain file", "a plain file of that name")
            if int(size) > limit:
                raise InvalidInput(f"{path} at {commit[:12]} has {size} bytes", f"at most {limit} bytes")
            return mirror.read("cat-file", "blob", name).encode("utf-8", "surrogateescape")

        return self._with(source, commit, "", read)

    def merge_base(self, source: SourceSpec, one: str, other: str) -> str | None:
        """The best common ancestor."""

        def read(mirror: Mirror) -> str | None:
            if not all(_COMMIT.fullmatch(c) and mirror.find(c) for c in (one, other)):
                return None
            try:
                return mirror.read("merge-base", one, other).strip() or None
            except GitFailed as error:
                if error.code == 1:
                    return None
                raise

        return self._with(source, one, "", read)

    def _with(self, source: SourceSpec, commit: str, branch: str, work: Callable[[Mirror], T]) -> T:
        """Do something with a commit in the mirror, or in a new mirror when this one proves broken."""
        location = Location.parse(source.location)
        if not _COMMIT.fullmatch(commit):
            raise RevisionGone(f"{commit[:80]!r} is not the full hash of a commit")
        mirror = Mirror(self._mirrors, location, self._timeout)
        with reaching(location):
            self._provide(mirror, location, commit, branch)
            try:
                return work(mirror)
            except GitFailed:
                with mirror.changing() as change:
                    if change.healthy():
                        raise
                    change.renew()
            self._provide(mirror, location, commit, branch)
            return work(mirror)

    def _provide(self, mirror: Mirror, location: Location, commit: str, branch: str) -> None:
        if mirror.has(commit):
            return
        with mirror.changing() as change:
            if mirror.has(commit) or _fetch(change, commit, branch):
                return
            if not change.healthy():
                change.renew()
                if _fetch(change, commit, branch):
                    return
        raise RevisionGone(
            f"commit {commit[:12]} is no longer at {location.shown}",
            "it was probably replaced by a forced push; run the branch's present commit instead",
        )

    def _check_out(self, mirror: Mirror, commit: str, into: Path) -> None:
        try:
            _begin_repository(into)
            mirror.send(commit, into)
            options = ("--quiet", "--detach", "--no-recurse-submodules")
            run_git(["-C", str(into), "checkout", *options, commit, "--"], timeout=self._timeout)
        except BaseException:
            _empty(into)
            raise

    def _list(self, location: Location, *options: str) -> dict[str, str]:
        with reaching(location):
            listed = run_git(["ls-remote", *options, "--", REMOTE], timeout=self._quick, location=location)
        lines = (line.partition("\t") for line in listed.splitlines())
        return {name: commit for commit, _, name in lines if _COMMIT.fullmatch(commit)}

    def _by_hash(self, source: SourceSpec, location: Location, ref: str) -> str | None:
        if _COMMIT.fullmatch(ref):
            try:
                return self.fetch(source, ref, "").commit
            except RevisionGone:
                return None
        return self._after_fetching_all(location, lambda mirror: mirror.find(ref))

    def _branch_of(self, source: SourceSpec, commit: str) -> str:
        """A branch that contains the commit: the default branch before other watched ones before the rest."""
        default = self.default_branch(source)
        listing = (
            "for-each-ref",
            f"--contains={commit}",
            f"--format=%(refname:lstrip={_DEPTH})",
            f"{SEEN}heads/",
        )

        def first(mirror: Mirror) -> str:
            names = mirror.read(*listing).split("\n")[:-1]
            return min(names, key=lambda name: (name != default, not source.watches(name), name), default="")

        self._with(source, commit, "", lambda _: None)
        return self._after_fetching_all(Location.parse(source.location), first)

    def _after_fetching_all(self, location: Location, work: Callable[[Mirror], T]) -> T:
        mirror = Mirror(self._mirrors, location, self._timeout)
        with reaching(location):
            with mirror.changing() as change:
                change.fetch_all()
            return work(mirror)


def _fetch(change: MirrorChange, commit: str, branch: str) -> bool:
    """Fetch as little as gives the commit: its branch, else itself, else everything. Raises GitFailed."""
    for ref in (f"{_HEADS}{branch}" if branch and _plain(branch) else "", commit):
        if ref and change.fetch(ref) and change.pin(commit):
            change.tidy()
            return True
    try:
        change.fetch_all()
    except GitFailed:
        if change.healthy():
            raise
        return False
    return change.pin(commit)


def _contains(mirror: Mirror, older: str, newer: str) -> bool:
    if not _COMMIT.fullmatch(older) or mirror.find(older) is None:
        return False
    try:
        mirror.read("merge-base", "--is-ancestor", older, newer)
    except GitFailed as error:
        if error.code == 1:
            return False
        raise
    return True


def _describe(source: SourceSpec, mirror: Mirror, commit: str, branch: str) -> Revision:
    shown = mirror.read("log", "--max-count=1", "--no-show-signature", _FORMAT, commit, "--")
    found, subject, author, email, seconds = shown.rstrip("\n").split("\0")
    try:
        when = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        when = None
    return Revision(source.name, branch, found, subject, author, email, when)


def _plain(branch: str) -> bool:
    """Whether a branch's name can be one: nothing that means more than itself in a refspec."""
    return branch.isprintable() and not re.search(r"[\s:*?\[\\^~]|\.\.|@\{", branch)


def _begin_repository(folder: Path) -> None:
    """What ``git init`` makes of an empty folder, without a process."""
    git = folder / ".git"
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags"):
        (git / name).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n")


def _empty(folder: Path) -> None:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
