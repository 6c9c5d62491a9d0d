"""Cleaning up after an act, whatever became of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.domain.errors import EngineError

log = logging.getLogger(__name__)


@contextmanager
def cleaned_up(*steps: Callable[[], None]) -> Iterator[None]:
    """Carry out every step afterwards, in any case. One that fails is logged: it never replaces a result."""
    try:
        yield
    finally:
        for step in steps:
            try:
                step()
            except EngineError as error:
                log.warning("left behind for now: %s", error)
