"""Telling of requests that were refused, without letting whoever sends them fill the log."""

from __future__ import annotations

import logging
import time
from typing import Final

from fastapi import Request

log = logging.getLogger(__name__)

_BETWEEN_WARNINGS: Final = 60.0


class Refusals:
    """Says in the log that something was refused, ``told``, but not again and again."""

    def __init__(self, told: str) -> None:
        self._told = told
        self._warned = float("-inf")

    def tell(self, request: Request) -> None:
        """A request was refused."""
        now = time.monotonic()
        if now - self._warned >= _BETWEEN_WARNINGS:
            self._warned = now
            log.warning("%s (sender: %s)", self._told, request.client.host if request.client else "unknown")
