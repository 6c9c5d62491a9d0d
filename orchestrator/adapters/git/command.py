"""Watched repositories by the git command.

Passes argument lists, never a shell's text. Refs are taken from what the remote lists, hashes are checked. No
hooks and no filters of a repository's attributes are run; submodules and large files are got when asked for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from orchestrator.adapters.git import history, lfs
from orchestrator.adapters.git.checkout import Checkout
from orchestrator.adapters.git.history import COMMIT, READABLE
from orchestrator.adapters.git.location import NOBODY, REMOTE, Access, Location
from orchestrator.adapters.git.mirror import SEEN, Mirror, MirrorChange
from orchestrator.adapters.git.process import GitFailed, reaching, run_git
from orchestrator.domain.change import Commit, LoggedCommit, Refs, Revision
from orchestrator.domain.errors import (
    NotFound,
    RevisionGone,
    SecretMissing,
    SourceRefused,
    SourceUnavailable,
)
from orchestrator.domain.pipeline import SourceSpec

_ABBREVIATED = re.compile(r"[0-9a-fA-F]{4,64}")
_REFS: Final = "refs/"
_HEADS: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"
_POINTS: Final = f"ref: {_HEADS}"
_DEFAULT_KEPT: Final = 3600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Default:
    """The branch that a HEAD named when it was asked for, and which branches there were then."""

    branch: str | None
    asked: float
    names: frozenset[str]

    def outdated(self, names: frozenset[str]) -> bool:
        return self.branch not in names and names != self.names


def _nobody(source: SourceSpec) -> Access:
    return NOBODY


class GitCommand:
    """SourceControl with mirrors below ``mirrors``. Seconds: ``quick`` to list, ``timeout`` to fetch.

    ``keys`` is the file with the host keys that are trusted, ``access`` tells how a source lets us in; it may
    raise SecretMissing.
    """

    def __init__(
        self,
        mirrors: Path,
        timeout: float = 1800.0,
        quick: float = 60.0,
        *,
        keys: Path | None = None,
        access: Callable[[SourceSpec], Access] = _nobody,
    ) -> None:
        self._mirrors = mirrors
        self._timeout = timeout
        self._quick = quick
        self._keys = keys
        self._access = access
        self._defaults: dict[str, _Default] = {}

    def location(self, source: SourceSpec) -> Location:
        """Where a source is, with what it takes to get in. SourceRefused when that cannot be had."""
        try:
            access = self._access(source)
        except SecretMissing as error:
            raise SourceRefused(f"cannot log in to {source.name}: {error.message}", error.remedy) from error
        if self._keys is not None:
            access = replace(access, keys=str(self._keys))
        found = Location.parse(source.location, access, source.name)
        return replace(found, login=access.login, strangers=source.strangers)

    def heads(self, source: SourceSpec) -> Mapping[str, str]:
        """All branches of the remote with their commits, without fetching."""
        return _branches(self._list(self.location(source), "--heads"))

    def refs(self, source: SourceSpec) -> Refs:
        """All branches, and the tags of a source of which some are watched.

        The server is asked for no other refs: there may be a hundred thousand of pull requests. What its HEAD
        names can only be asked for together with all of them, and so at most once an hour, unless that branch
        goes.
        """
        if source.lfs:
            lfs.require()
        listed = self._list(self.location(source), "--heads", *(["--tags"] if source.tags else []))
        branches = _branches(listed)
        tags = {name.removeprefix(_TAGS): c for name, c in listed.items() if name.startswith(_TAGS)}
        # The commit that an annotated tag stands for comes after the tag, with this ending.
        plain = {name.removesuffix("^{}"): commit for name, commit in tags.items()}
        return Refs(branches, plain, default=self._default(source, branches))

    def _default(self, source: SourceSpec, branches: Mapping[str, str]) -> str | None:
        known = self._defaults.get(source.location)
        now, names = time.monotonic(), frozenset(branches)
        if known is None or now - known.asked > _DEFAULT_KEPT or known.outdated(names):
            known = _Default(self.default_branch(source) if branches else None, now, names)
            self._defaults[source.location] = known
        return known.branch

    def default_branch(self, source: SourceSpec) -> str | None:
        """What the remote's HEAD points to, or None when it says nothing."""
        location = self.location(source)
        arguments = ["ls-remote", "--symref", "--", REMOTE, "HEAD"]
        with reaching(location):
            listed = run_git(arguments, timeout=self._quick, location=location, errors=READABLE)
        for line in listed.splitlines():
            target, _, name = line.partition("\t")
            if name == "HEAD" and target.startswith(_POINTS):
                return target.removeprefix(_POINTS)
        return None

    def fetch(self, source: SourceSpec, commit: str, branch: str) -> Revision:
        """Bring a commit into the mirror and describe it."""
        if source.lfs:
            lfs.require()
        work = partial(history.describe, source, commit=commit, branch=branch)
        return self._with(self.location(source), commit, branch, work)

    def resolve(self, source: SourceSpec, ref: str) -> Revision:
        """The commit that a person named; its branch is that one, or one that contains it, or empty.

        Of a tag whose commit is on a branch it is the tag's full name; of a full name that is neither a
        branch's nor a tag's, such as a pull request's, it is that name.
        """
        location = self.location(source)
        listed = self._list(location)
        heads = _branches(listed)
        name = ref.removeprefix(_HEADS)
        if name in heads:
            return self.fetch(source, heads[name], name)
        if ref.startswith(_REFS) and not ref.startswith((_HEADS, _TAGS)) and ref in listed:
            return self.fetch(source, listed[ref], ref)
        tag = ref if ref.startswith(_TAGS) else f"{_TAGS}{ref}"
        commit = listed.get(f"{tag}^{{}}") or listed.get(tag)
        if commit is not None:
            on_a_branch = self._branch_of(source, location, commit)
            return self.fetch(source, commit, tag if on_a_branch else "")
        if _ABBREVIATED.fullmatch(ref):
            commit = self._by_hash(source, location, ref.lower(), next(iter(listed.values()), ""))
        if commit is None:
            raise NotFound(
                f"{location.shown} has no branch, tag or commit {ref[:80]!r}",
                "give a branch, a tag or at least 4 digits of a commit's hash that no other commit shares",
            )
        return self.fetch(source, commit, self._branch_of(source, location, commit))

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        """Make ``into`` (empty, or not there) the working tree at the commit; a failure leaves it empty."""
        if into.exists() and any(into.iterdir()):
            raise SourceUnavailable(f"cannot check out into {into}: it is not empty")
        if source.lfs:
            lfs.require()
        Checkout(self._mirrors, self._timeout, source, self._with).fill(self.location(source), commit, into)

    @contextmanager
    def mirrored(self, source: SourceSpec, commit: str) -> Iterator[Path]:
        """A bare repository that has the commit with its history, for reading. Raises SourceError."""
        location = self.location(source)
        yield self._with(location, commit, "", lambda mirror: mirror.path.absolute())

    def is_ancestor(self, source: SourceSpec, older: str, newer: str) -> bool:
        """Whether ``newer`` descends from ``older``; False also when ``older`` is unknown."""
        work = partial(history.contains, older=older, newer=newer)
        return self._with(self.location(source), newer, "", work)

    def logged(self, source: SourceSpec, older: str, newer: str, limit: int) -> Sequence[LoggedCommit]:
        """The commits in ``older..newer``, newest first; none when ``older`` is unknown."""
        work = partial(history.logged, older=older, newer=newer, limit=limit)
        return self._with(self.location(source), newer, "", work)

    def commits(self, source: SourceSpec, older: str | None, newer: str, limit: int) -> Sequence[Commit]:
        """The commits in ``older..newer`` along first parents; ``newer`` alone without an older one."""
        work = partial(history.commits, older=older, newer=newer, limit=limit)
        return self._with(self.location(source), newer, "", work)

    def changed_paths(self, source: SourceSpec, older: str, newer: str) -> Sequence[str] | None:
        """The paths that differ between two commits; bytes that are not UTF-8 are shown as ``\\xe9``."""
        work = partial(history.changed_paths, older=older, newer=newer)
        return self._with(self.location(source), newer, "", work)

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        """A file of a commit."""
        work = partial(history.content, commit=commit, path=path, limit=limit)
        return self._with(self.location(source), commit, "", work)

    def merge_base(self, source: SourceSpec, one: str, other: str) -> str | None:
        """The best common ancestor; commits that are not here yet are fetched."""
        location = self.location(source)
        try:
            self._with(location, other, "", lambda _: None)
            return self._with(location, one, "", partial(history.merge_base, one=one, other=other))
        except RevisionGone:
            return None

    def _with(self, location: Location, commit: str, branch: str, work: Callable[[Mirror], T]) -> T:
        """Do something with a commit in the mirror, or in a new mirror when this one proves broken."""
        if not COMMIT.fullmatch(commit):
            raise RevisionGone(f"{commit[:80]!r} is not the full hash of a commit")
        mirror = Mirror(self._mirrors, location, self._timeout, commit)
        with reaching(location):
            self._provide(mirror, location, commit, branch)
            try:
                return work(mirror)
            except GitFailed as error:
                if error.trouble is not None:
                    raise
                with mirror.changing() as change:
                    if not change.healthy():
                        change.renew()
                    elif mirror.has(commit):
                        raise
            self._provide(mirror, location, commit, branch)
            return work(mirror)

    def _provide(self, mirror: Mirror, location: Location, commit: str, branch: str) -> None:
        if mirror.has(commit):
            return
        if location.strangers:
            self._bring_own(location, commit)
        with mirror.changing() as change:
            if mirror.has(commit):
                return
            change.bound()
            if _fetch(change, commit, branch):
                return
            if not change.healthy():
                change.renew()
                if _fetch(change, commit, branch):
                    return
        raise RevisionGone(
            f"commit {commit[:12]} is no longer at {location.shown}",
            "it was probably replaced by a forced push; run the branch's present commit instead",
        )

    def _bring_own(self, location: Location, commit: str) -> None:
        """Bring what the repository itself has, on which rests what strangers propose to it."""
        own = Mirror(self._mirrors, replace(location, strangers=False), self._timeout, commit)
        with own.changing() as change:
            change.fetch_all()

    def _list(self, location: Location, *options: str) -> dict[str, str]:
        arguments = ["ls-remote", *options, "--", REMOTE]
        with reaching(location):
            listed = run_git(arguments, timeout=self._quick, location=location, errors=READABLE)
        lines = (line.partition("\t") for line in listed.split("\n"))
        return {name: commit for commit, _, name in lines if COMMIT.fullmatch(commit)}

    def _by_hash(self, source: SourceSpec, location: Location, ref: str, other: str) -> str | None:
        if COMMIT.fullmatch(ref):
            try:
                return self.fetch(source, ref, "").commit
            except RevisionGone:
                return None
        return self._after_fetching_all(location, other, lambda mirror: mirror.find(ref))

    def _branch_of(self, source: SourceSpec, location: Location, commit: str) -> str:
        """A branch that contains the commit: the default branch before other watched ones before the rest."""
        default = self.default_branch(source)

        def first(mirror: Mirror) -> str:
            names = history.branches_with(mirror, commit, f"{SEEN}heads/")
            return min(names, key=lambda name: (name != default, not source.watches(name), name), default="")

        self._with(location, commit, "", lambda _: None)
        return self._after_fetching_all(location, commit, first)

    def _after_fetching_all(self, location: Location, commit: str, work: Callable[[Mirror], T]) -> T:
        mirror = Mirror(self._mirrors, location, self._timeout, commit)
        with reaching(location):
            with mirror.changing() as change:
                change.fetch_all()
            return work(mirror)


def _branches(listed: Mapping[str, str]) -> dict[str, str]:
    """The branches among refs. One that is called as tags and pull requests are here is left out."""
    named = ((name.removeprefix(_HEADS), c) for name, c in listed.items() if name.startswith(_HEADS))
    return {name: commit for name, commit in named if not name.startswith(_REFS)}


def _fetch(change: MirrorChange, commit: str, branch: str) -> bool:
    """Fetch as little as gives the commit: its branch, else itself, else everything. Raises GitFailed."""
    full = branch if branch.startswith(_REFS) else f"{_HEADS}{branch}"
    for ref in (full if branch and _plain(branch) else "", commit):
        if ref and change.fetch(ref) and change.pin(commit):
            change.tidy()
            return True
    try:
        change.fetch_all()
    except GitFailed as error:
        if error.trouble is not None or change.healthy():
            raise
        return False
    return change.pin(commit)


def _plain(branch: str) -> bool:
    """Whether a branch's name can be one: nothing that means more than itself in a refspec."""
    return branch.isprintable() and not re.search(r"[\s:*?\[\\^~]|\.\.|@\{", branch)
