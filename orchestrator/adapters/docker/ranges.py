"""Ranges of addresses for many networks.

An engine gives each network a range for thousands of machines, and has some thirty of them. So from the
ninth network on, ours share what the engine gives for one: each gets a part for a dozen. The engine chooses
the whole, because it knows which ranges its host needs itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Final

WHOLE: Final = 8
"""So many networks get a range of their own, as the engine gives it: most hosts never need more."""
_PART: Final = 28
"""Length of a part's prefix: 13 addresses beside the gateway's, of which a slot's network needs one."""


def free_part(wholes: Iterable[str], taken: Iterable[str]) -> tuple[str, str] | None:
    """A part of one of these ranges that overlaps no range that is taken, and its whole.

    Ranges of IPv6 take nothing. ValueError for what is no range.
    """
    others = [IPv4Network(text) for text in taken if ":" not in text]
    for whole in sorted(IPv4Network(text) for text in set(wholes)):
        for part in whole.subnets(new_prefix=max(_PART, whole.prefixlen)):
            if not any(part.overlaps(other) for other in others):
                return str(part), str(whole)
    return None
