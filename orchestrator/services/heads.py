"""Heads: which of a repository's refs are watched, which of them moved, and when a move is ripe for a run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.domain.change import PULLS, TAGS, PullRequest, Refs
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.records import HeadMove

LONGEST_BURST: Final = 30.0
"""A branch that is never still runs after so many settle times all the same."""


@dataclass(frozen=True, slots=True)
class Head:
    """A watched ref and its commit: a branch by its plain name, a tag or a pull request by its full one."""

    ref: str
    commit: str
    pull: PullRequest | None = None

    @property
    def is_branch(self) -> bool:
        return is_branch(self.ref)


class Seen:
    """What a pipeline has seen of a source: commits by ref, and how often each has moved."""

    def __init__(self, source: str, counted: Mapping[str, tuple[str | None, int]]) -> None:
        self._source = source
        self._counts = {ref: count for ref, (_, count) in counted.items()}
        self.commits = {ref: commit for ref, (commit, _) in counted.items() if commit is not None}

    def move(self, ref: str, commit: str) -> HeadMove:
        """A ref comes from where it was seen to a commit."""
        return HeadMove(self._source, ref, self.commits.get(ref), commit, self._counts.get(ref, 0))

    def counted(self, moves: Iterable[HeadMove]) -> list[HeadMove]:
        """The same moves, each only as long as its ref has not moved again."""
        return [replace(move, count=self._counts.get(move.branch, 0)) for move in moves]

    def follow(self, moves: Iterable[HeadMove]) -> None:
        """These moves were made."""
        for move in moves:
            self._counts[move.branch] = self._counts.get(move.branch, 0) + 1
            if move.new is not None:
                self.commits[move.branch] = move.new


def watched(source: SourceSpec, refs: Refs) -> dict[str, Head]:
    """The refs of a source that matter."""
    heads = [Head(name, commit) for name, commit in refs.branches.items() if source.watches(name)]
    heads += [Head(f"{TAGS}{name}", commit) for name, commit in refs.tags.items() if source.watches_tag(name)]
    heads += [Head(pull.ref, pull.commit, pull) for pull in refs.pulls if source.watches_pull(pull)]
    return {head.ref: head for head in heads}


def branches_of(seen: Mapping[str, str]) -> dict[str, str]:
    """Of the refs that were seen, the branches."""
    return {ref: commit for ref, commit in seen.items() if is_branch(ref)}


def is_branch(ref: str) -> bool:
    """Whether it is neither a tag nor a pull request."""
    return not ref.startswith((TAGS, PULLS))


def is_mark(ref: str) -> bool:
    """Whether it stands for rules, as :func:`marks` makes them, and not for a ref."""
    return ref in (TAGS, PULLS)


def marks(source: SourceSpec) -> dict[str, str]:
    """What stands for the rules by which tags and pull requests are watched, as heads of their own.

    No ref can have such a name. With other rules come refs that are new to us and to nobody else.
    """
    found = {}
    if source.tags:
        found[TAGS] = _digest(*source.tags)
    if (rules := source.pull_requests) is not None:
        bases = rules.bases or source.branches
        found[PULLS] = _digest(str(rules.forks), str(rules.drafts), *bases)
    return found


def adopted(source: SourceSpec, seen: Mapping[str, str], heads: Mapping[str, Head]) -> list[HeadMove]:
    """The moves by which tags and pull requests that were there before anybody watched them become known.

    Nothing runs because of them: they are not new, only the rule is by which they are watched.
    """
    moves: list[HeadMove] = []
    for prefix, digest in marks(source).items():
        if seen.get(prefix) != digest:
            moves.append(HeadMove(source.name, prefix, seen.get(prefix), digest))
            moves += [
                HeadMove(source.name, ref, None, heads[ref].commit)
                for ref in sorted(heads)
                if ref.startswith(prefix) and ref not in seen
            ]
    return moves


def gone(source: SourceSpec, seen: Mapping[str, str], heads: Collection[str]) -> list[HeadMove]:
    """The moves of refs that are not there any more, or not watched."""
    kept = marks(source)
    return [
        HeadMove(source.name, ref, seen[ref], None)
        for ref in sorted(seen)
        if ref not in heads and ref not in kept
    ]


def told_adopted(moves: Sequence[HeadMove]) -> list[str]:
    """What to tell of the tags and pull requests that were there already when they were watched first."""
    refs = [move.branch for move in moves if not move.branch.endswith("/")]
    if not refs:
        return []
    shown = ", ".join(refs[:5]) + (f" and {len(refs) - 5} more" if len(refs) > 5 else "")
    return [f"no runs of what was there before it was watched: {shown}"]


def told_gone(ref: str, refs: Refs) -> str:
    """What to tell of a ref that was seen and is not watched any more."""
    if ref.startswith(PULLS):
        number = ref.removeprefix(PULLS).partition("/")[0]
        known = any(pull.ref == ref for pull in refs.pulls)
        return f"pull request {number} is {'not watched any more' if known else 'closed'}"
    known = ref in refs.branches or ref.removeprefix("refs/tags/") in refs.tags
    return f"{ref} is {'not watched any more' if known else 'gone'}"


def nothing_new(source: SourceSpec, seen: Mapping[str, str], refs: Refs) -> bool:
    """Whether all that is watched is where it was seen."""
    heads = {ref: head.commit for ref, head in watched(source, refs).items()}
    return bool(seen) and {**marks(source), **heads} == seen


def main_of(branches: Iterable[str], default: str | None) -> str:
    """The branch that stands for a repository: what its HEAD names, else main or master, else the first."""
    known = set(branches)
    for branch in (default, "main", "master"):
        if branch is not None and branch in known:
            return branch
    return min(known)


class Doubts:
    """Does not believe at once that all branches of a repository have gone.

    So it looks as well while it is moved to another place, and the first sight after that would forget what
    was pushed meanwhile.
    """

    def __init__(self) -> None:
        self._bare: set[str] = set()

    def look(self, name: str, source: SourceSpec, seen: Seen, refs: Refs) -> None:
        """Raise SourceUnavailable at the first look that shows no branch where there were some."""
        if refs.branches or not branches_of(seen.commits):
            self._bare.discard(name)
        elif name not in self._bare:
            self._bare.add(name)
            raise SourceUnavailable(
                f"{source.location} shows no branch any more", "this is believed once it is so at two looks"
            )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class _Still:
    commit: str
    since: float
    first: float


class Bursts:
    """Remembers since when a ref has been still. Thread-safe.

    Only in memory: a server that starts anew begins to wait anew, and forgets nothing but the waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], dict[str, _Still]] = {}

    def wait(self, pipeline: str, source: SourceSpec, head: Head, now: float) -> float:
        """Seconds until a move of this head may run; 0: it may. Tags do not burst. ``now`` is monotonic."""
        if source.settle <= 0 or head.ref.startswith(TAGS):
            return 0.0
        with self._lock:
            mine = self._seen.setdefault((pipeline, source.name), {})
            before = mine.get(head.ref)
            if before is None:
                before = mine[head.ref] = _Still(head.commit, now, now)
            elif before.commit != head.commit:
                before = mine[head.ref] = _Still(head.commit, now, before.first)
        ripe = min(before.since + source.settle, before.first + LONGEST_BURST * source.settle)
        return max(ripe - now, 0.0)

    def keep(self, pipeline: str, source: SourceSpec, refs: Collection[str]) -> None:
        """Forget all refs of a source but these, which still wait."""
        with self._lock:
            mine = self._seen.get((pipeline, source.name), {})
            kept = {ref: seen for ref, seen in mine.items() if ref in refs}
            if kept:
                self._seen[pipeline, source.name] = kept
            else:
                self._seen.pop((pipeline, source.name), None)
