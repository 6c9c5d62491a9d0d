"""Mails and who has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """A recipient that a mail server did not take a message for, while it took it for others.

    ``told`` is what it said; ``permanent`` whether asking again is of no use.
    """

    address: str
    told: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a mail has come. Addresses are bare.

    ``reached`` have it, ``refused`` never will, each with what was said, and ``waiting`` were put off: only
    these are to be tried again.
    """

    reached: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    waiting: tuple[Refusal, ...] = ()

    def after(self, tried: Sequence[str], refusals: Sequence[Refusal]) -> Delivery:
        """How far it has come when a server took it for all that were ``tried`` but the refused ones."""
        unreached = {refusal.address for refusal in refusals}
        final = tuple((r.address, r.told) for r in refusals if r.permanent)
        return Delivery(
            (*self.reached, *(address for address in tried if address not in unreached)),
            (*self.refused, *final),
            tuple(refusal for refusal in refusals if not refusal.permanent),
        )

    @property
    def told(self) -> str:
        """What became of those who do not have it, in one line; empty when all have it."""
        never = [f"{address} is refused: {told}" for address, told in self.refused]
        later = [f"{refusal.address} is put off: {refusal.told}" for refusal in self.waiting]
        return "; ".join([*never, *later])
