"""What retention asks about what is remembered of repositories and of data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.domain.pipeline import SourceSpec
from orchestrator.domain.retention import Going
from orchestrator.domain.upkeep import MirrorFacts, VersionFacts


@dataclass(frozen=True, slots=True)
class Uses:
    """What runs, branches and looks name: ``fingerprints`` of data, and ``commits``.

    ``change`` is the newest change that was asked.
    """

    fingerprints: AbstractSet[str]
    commits: AbstractSet[str]
    change: int


class Upkeep(Protocol):
    """The database. Removals are short transactions, each with its entries in the journal."""

    def versions(self) -> Sequence[VersionFacts]:
        """All versions of datasets, the oldest of each dataset first."""

    def uses(self) -> Uses:
        """What is named by the changes of runs, by the heads of pipelines and by looks."""

    def remembered(self) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """The pipelines of which something is remembered and no change is left, and the keys of the datasets
        that were looked at.
        """

    def gone_since(self) -> Mapping[str, datetime]:
        """Since when names are known to be gone, as :meth:`note_gone` wrote it down."""

    def note_gone(self, names: AbstractSet[str], at: datetime) -> None:
        """Write down that these are gone since now, unless it is known already, and that no others are."""

    def remove_versions(self, going: Sequence[Going], change: int, who: str, at: datetime) -> int:
        """Remove versions with the lists of their files; how many. One that a change after that one names,
        or that is looked at now, stays.
        """

    def remove_pipelines(self, going: Sequence[Going], who: str, at: datetime) -> int:
        """Forget what was seen for pipelines; how many. One that has a change stays."""

    def remove_watches(self, keys: Collection[str], unseen_since: datetime) -> int:
        """Forget looks at datasets of these keys, and how looks at anything went that ended before then."""


class Mirrors(Protocol):
    """Copies of watched repositories. Thread-safe, also against other processes."""

    def names(self, source: SourceSpec) -> Collection[str]:
        """What the mirrors of a source are called. SourceError when that cannot be found out."""

    def all(self) -> Sequence[MirrorFacts]:
        """The mirrors that there are."""

    def pins(self, name: str, before: datetime) -> Sequence[str]:
        """The commits that a mirror keeps since before then."""

    def unpin(self, name: str, commits: Collection[str]) -> int:
        """Keep commits no more; how many were kept. Their room is made within days."""

    def tidy(self, name: str) -> None:
        """Make room of what is not kept any more, at most once a day."""

    def drop(self, name: str, unused_since: datetime) -> int | None:
        """Remove a mirror unless it was used after then; its bytes, None if it stays."""
