"""Images that no registry has, brought to the hosts that lack them.

The small containers of the orchestrator run in the helper image, and most runners begin with the base image.
A machine that somebody has just added has neither. They are copied from an engine on the orchestrator's own
machine, never from one host to another: one that somebody has broken into would else hand on what it likes.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import BinaryIO

from orchestrator.domain.errors import EngineError, EngineUnavailable, ImageNotFound
from orchestrator.domain.pipeline import HELPER_IMAGE
from orchestrator.ports.engine import Engine, ImageFacts, Interrupt
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.services.bounds import carry_on, held

log = logging.getLogger(__name__)

OWN_NAMES = "mlci/"
"""What the names of images begin with that are made here. No registry is asked for them: there they would be
a stranger's.
"""
_CHUNK = 1 << 20

MakeBase = Callable[[Engine, ProgressSink], None]
"""Makes the base image on an engine, from a registry or from packages. Raises EngineError."""


class ImageSupply:
    """Has images on hosts. Thread-safe: one image goes to a host once, whoever asks first.

    ``sources`` tells the engines that may be copied from, by name, as they are now; ``make_base`` makes the
    base image where none of them has it.
    """

    def __init__(
        self,
        sources: Callable[[], Mapping[str, Engine]] = dict,
        make_base: MakeBase | None = None,
    ) -> None:
        self._sources = sources
        self._make_base = make_base
        self._locks: defaultdict[tuple[int, str], threading.Lock] = defaultdict(threading.Lock)

    def have(self, engine: Engine, name: str, progress: ProgressSink, interrupt: Interrupt = carry_on) -> str:
        """Have an image on an engine without a registry; its id.

        Raises ImageNotFound where nobody has it, EngineError, and what ``interrupt`` raises, which ends a
        copy.
        """
        with held(self._locks[id(engine), name], interrupt):
            found = engine.find_image(name)
            if found is not None:
                return found
            if self.copy(engine, name, progress, interrupt) or self._made(engine, name, progress):
                found = engine.find_image(name)
            if found is None:
                raise ImageNotFound(
                    f"neither the host nor an engine on the orchestrator's machine has the image {name}",
                    "make it with `orchestrator images build`"
                    if name.startswith(OWN_NAMES)
                    else "name an image that a registry has",
                )
            return found

    def copy(self, engine: Engine, name: str, progress: ProgressSink, interrupt: Interrupt = carry_on) -> str:
        """Copy an image from another engine that may be copied from; its name, empty where none has it."""
        platform: str | None = None
        for where, source in self._sources().items():
            if source is engine:
                continue
            try:
                facts = source.describe_image(name)
            except EngineError as error:
                log.info("the image %s is not looked for on %s: %s", name, where, error)
                continue
            if facts is None:
                continue
            if platform is None:
                platform = engine.info().platform
            if facts.platform != platform:
                log.info("the image %s on %s is for %s, not for %s", name, where, facts.platform, platform)
                continue
            _copy(source, engine, name, facts, where, progress, interrupt)
            return where
        return ""

    def _made(self, engine: Engine, name: str, progress: ProgressSink) -> bool:
        if name != HELPER_IMAGE or self._make_base is None:
            return False
        self._make_base(engine, progress)
        return True


def _copy(
    source: Engine,
    engine: Engine,
    name: str,
    facts: ImageFacts,
    where: str,
    progress: ProgressSink,
    interrupt: Interrupt,
) -> None:
    what = f"copying {name} from {where}"
    progress(ProgressEvent(what, 0, facts.size, "bytes"))
    with closing(source.export_image(name)) as stream:
        engine.load_image(_chunks(stream, what, facts.size, progress, interrupt), what)


def _chunks(
    stream: BinaryIO, what: str, total: int, progress: ProgressSink, interrupt: Interrupt
) -> Iterator[bytes]:
    done = 0
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except EngineUnavailable as error:
            # It is not the host that does not answer: its attempts need not wait for it to come back.
            raise EngineError(f"{what} broke off: {error.message}", error.remedy) from error
        if not chunk:
            return
        interrupt()
        yield chunk
        done += len(chunk)
        progress(ProgressEvent(what, min(done, total), total, "bytes"))
