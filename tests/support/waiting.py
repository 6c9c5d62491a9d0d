"""Waiting for something that gives no signal: short polls against a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(look: Callable[[], Seen | None], what: str, seconds: float = 10.0) -> Seen:
    """Return the first true thing that ``look`` returns; fail the test, naming ``what``, after ``seconds``.

    For events that can be awaited (a thread, a queue, a process), await them instead.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)
