"""The encrypted store of secrets as the services see it: rows that hold ciphertext, never a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A stored secret. ``version`` counts how often a value was set under this name since it was made."""

    name: str
    ciphertext: str
    version: int
    created_at: datetime
    updated_at: datetime
    updated_by: str


class SecretRows(Protocol):
    """Ciphertext by name. As all of the store: short transactions, thread-safe, StoreUnavailable."""

    def all(self) -> Sequence[SealedSecret]:
        """Every row, by name."""

    def get(self, name: str) -> SealedSecret | None:
        """One row, or None."""

    def put(self, name: str, ciphertext: str, who: str, at: datetime) -> SealedSecret:
        """Set a value, with a line in the journal; an older one of that name is replaced."""

    def remove(self, name: str, who: str, at: datetime) -> None:
        """Take one away, with a line in the journal. NotFound when there is none of that name."""

    def reseal(self, changes: Mapping[str, tuple[str, str]], who: str, at: datetime) -> int:
        """Replace ciphertext by other ciphertext of the same value, all in one transaction.

        ``changes`` maps a name to what its row must still hold and what it shall hold; rows that hold
        something else, or are gone, stay as they are. How many changed is returned, and stands in the
        journal when it is not 0.
        """
