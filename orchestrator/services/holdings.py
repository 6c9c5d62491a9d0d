"""Which hosts have which images, so that runs go where nothing has to be built or pulled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from orchestrator.domain.errors import EngineError
from orchestrator.domain.pipeline import FolderImage, ImageSpec, NamedImage, RunnerSpec
from orchestrator.ports.engine import Engine
from orchestrator.ports.world import Clock
from orchestrator.services.images import tag_of

log = logging.getLogger(__name__)

_KNOWN = 60.0
"""Seconds for which it counts that a host has an image, or does not."""


def _in_a_thread(act: Callable[[], None]) -> None:
    threading.Thread(target=act, name="holdings", daemon=True).start()


class Holdings:
    """Remembers what hosts have. Thread-safe; never waits: what is not known yet is asked for aside.

    An image that a repository's own Dockerfile makes differs with each commit, and is not looked for.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        clock: Clock,
        aside: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        self._engines = engines
        self._clock = clock
        self._aside = aside
        self._known: dict[tuple[str, ImageSpec], tuple[float, bool]] = {}
        self._lock = threading.Lock()

    def image(self, runner: RunnerSpec, hosts: Sequence[str]) -> frozenset[str]:
        """Those of the hosts that are known to have a runner's image."""
        if not isinstance(runner.image, NamedImage | FolderImage):
            return frozenset()
        now = self._clock.monotonic()
        there = set()
        for host in hosts:
            key = (host, runner.image)
            with self._lock:
                asked, has = self._known.get(key, (None, False))
                stale = asked is None or now - asked >= _KNOWN
                if stale:
                    # Whatever the answer, it is not asked for again meanwhile.
                    self._known[key] = (now, has)
            if stale:
                self._aside(partial(self._ask, key))
            if has:
                there.add(host)
        return frozenset(there)

    def _ask(self, key: tuple[str, ImageSpec]) -> None:
        host, image = key
        try:
            name = tag_of(image)
            has = name != "" and self._engines[host].find_image(name) is not None
        except (EngineError, OSError, KeyError) as error:
            log.debug("whether %s has its image is not known: %s", host, error)
            return
        with self._lock:
            self._known[key] = (self._clock.monotonic(), has)
