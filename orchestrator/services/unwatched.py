"""Telling of pushes to what is not watched, so that nobody wonders why nothing runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from orchestrator.domain.change import TAGS, Refs
from orchestrator.domain.pipeline import SourceSpec

PAUSE: Final = 300.0
"""Seconds between two lines of one source: what was pushed meanwhile is told together."""
_NAMED: Final = 5


@dataclass(slots=True)
class _Memory:
    known: Mapping[str, str]
    moved: dict[str, str] = field(default_factory=dict)
    told_at: float = float("-inf")


class Unwatched:
    """Remembers where refs are that nobody watches. Thread-safe.

    Only in memory: what was pushed before the first look of a process is not told.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memories: dict[str, _Memory] = {}

    def look(self, name: str, source: SourceSpec, refs: Refs, now: float) -> str:
        """What to tell of the pushes since the last line, or nothing. ``now`` is monotonic."""
        there = unwatched_refs(source, refs)
        with self._lock:
            memory = self._memories.setdefault(name, _Memory(there))
            memory.moved |= {ref: commit for ref, commit in there.items() if memory.known.get(ref) != commit}
            memory.known = there
            moved = {ref: commit for ref, commit in memory.moved.items() if ref in there}
            if not moved or now - memory.told_at < PAUSE:
                return ""
            memory.moved, memory.told_at = {}, now
        return _told(source, moved)


def unwatched_refs(source: SourceSpec, refs: Refs) -> dict[str, str]:
    """The refs that nobody watches, with their commits."""
    return dict(_unwatched(source, refs))


def _unwatched(source: SourceSpec, refs: Refs) -> Iterator[tuple[str, str]]:
    for branch, commit in refs.branches.items():
        if not source.watches(branch):
            yield branch, commit
    for tag, commit in refs.tags.items():
        if not source.watches_tag(tag):
            yield f"{TAGS}{tag}", commit
    for pull in refs.pulls:
        if not source.watches_pull(pull):
            yield pull.ref, pull.commit


def _told(source: SourceSpec, moved: Mapping[str, str]) -> str:
    named = [f"{ref} at {moved[ref][:8]}" for ref in sorted(moved)[:_NAMED]]
    if len(moved) > _NAMED:
        named.append(f"{len(moved) - _NAMED} more")
    rules = [f"branches: {', '.join(source.branches)}"]
    if source.tags:
        rules.append(f"tags: {', '.join(source.tags)}")
    if source.pull_requests is not None:
        rules.append("and some pull requests")
    verb = "is" if len(moved) == 1 else "are"
    return f"no run of {', '.join(named)}, which {verb} not watched ({'; '.join(rules)})"
