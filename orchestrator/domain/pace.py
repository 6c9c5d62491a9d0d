"""When something that is watched is looked at next. Durations are in seconds."""

from __future__ import annotations

from typing import Final

LONGEST_BACKOFF: Final = 300.0
"""After many failures it is asked this seldom, or as seldom as its own interval says."""
LONGEST_ASKED: Final = 86_400.0
"""A server that asks for more patience than this is asked again all the same."""
HOOKED: Final = 10.0
"""A repository that tells its pushes by webhook is asked by so much more seldom."""
LONGEST_HOOKED: Final = 1800.0
_DOUBLINGS: Final = 16
_SPREAD: Final = 0.25


def after_success(every: float, hooked: bool) -> float:
    """How long to wait after a look that went well."""
    return max(every, min(every * HOOKED, LONGEST_HOOKED)) if hooked else every


def after_failure(every: float, tries: int, retry_after: float | None, chance: float) -> float:
    """How long to wait after the failed look number ``tries`` in a row.

    Twice as long each time; ``chance`` (0 to 1) spreads it, so that those who failed together do not come
    back together. ``retry_after`` is what the other side asked for, and is not undercut unless it is absurd.
    """
    doubled = every * 2.0 ** min(max(tries - 1, 0), _DOUBLINGS)
    wait = min(doubled, max(LONGEST_BACKOFF, every)) * (1 + _SPREAD * chance)
    return wait if retry_after is None else max(wait, min(retry_after, LONGEST_ASKED))
