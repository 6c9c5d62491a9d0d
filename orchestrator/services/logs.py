"""Following a container's log into a file, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing

from orchestrator.domain.errors import ContainerGone, EngineError, SecretMissing, StoreUnavailable
from orchestrator.ports.engine import Container, Engine, LogLine, LogStream
from orchestrator.ports.world import LogWriter

log = logging.getLogger(__name__)

_PAUSE = 0.5
_SHORT_PAUSE = 0.03
"""The first ones: a log often ends a moment before its container."""
_LEFT_OUT = (
    b"[orchestrator] the rest is left out: the log is longer than %d bytes, the pipeline's run.log_limit"
)


class LogFollower:
    """Copies one container's output until told that the container has ended.

    The end of a stream never means the end of the container: the log is resumed, each time by a writer of its
    own, until :meth:`finish` is called, which reads what is left and waits for the thread. While
    ``open_writer`` raises SecretMissing nothing is read, for it could not be masked. Of a log of more than
    ``limit`` bytes the rest is left out, and the log's end says so.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        open_writer: Callable[[], LogWriter],
        woken: threading.Event,
        limit: int,
    ) -> None:
        self._limit = limit
        self._engine = engine
        self._container = container
        self._open_writer = open_writer
        self._woken = woken
        self._ended = threading.Event()
        self._abandoned = threading.Event()
        self._stream: LogStream | None = None
        self.overflowed = False
        """Whether the log is longer than it may be."""
        self.not_stored: StoreUnavailable | None = None
        """Why the log could not be written at the last attempt to."""
        self._interrupted = ""
        self.ended: Container | None = None
        """The container as it ended, once its whole log has been copied."""
        self._thread = threading.Thread(target=self._follow, name=f"log-{container}", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def finish(self, timeout: float) -> bool:
        """The container has ended: read the rest; False when it is not read after ``timeout`` seconds.

        May be called again then, or :meth:`abandon`.
        """
        self._ended.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Stop now, without reading the rest."""
        self._abandoned.set()
        self._ended.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        self._thread.join(5.0)

    def _follow(self) -> None:
        try:
            pause = _SHORT_PAUSE
            while not self._abandoned.is_set():
                ended = self._ended.is_set()
                whole = self._copy()
                if ended and self.not_stored is not None:
                    # Whoever goes on with the attempt once there is room reads it again.
                    return
                # Tell whoever watches the container that it may have ended.
                self._woken.set()
                # Where there is too much, whoever watches the container ends it now.
                if whole and (ended or self.overflowed or self.ended is not None):
                    return
                # After the end only a failed copy comes here; it is not to be repeated without a pause.
                (self._abandoned if ended else self._ended).wait(pause)
                pause = min(pause * 2, _PAUSE)
        except ContainerGone:
            self._woken.set()

    def _copy(self) -> bool:
        """Copy what there is; False when that was cut short."""
        try:
            writer = self._open_writer()
            with (
                closing(writer),
                closing(self._engine.logs(self._container, writer.last_timestamp)) as stream,
            ):
                self.overflowed = writer.size > self._limit
                self._stream = stream
                if self._abandoned.is_set():
                    # Whoever abandoned us did not see this stream, so could not close it.
                    return False
                while not self.overflowed and (line := next(stream, None)) is not None:
                    if self._abandoned.is_set():
                        return False
                    writer.write(line)
                    if writer.size > self._limit:
                        self.overflowed = True
                        writer.write(LogLine(line.timestamp, _LEFT_OUT % self._limit))
                ended = stream.ended
            # Only now, for closing the writer may fail too.
            self.ended = ended
        except ContainerGone:
            raise
        except SecretMissing:
            # As complete as it may be: were this the end, there would be nothing to wait for.
            return True
        except EngineError as error:
            # Said once, not at each try: a host may be out of reach for long.
            if self._interrupted != str(error):
                log.info("log of %s interrupted: %s", self._container, error)
            self._interrupted = str(error)
            return False
        except StoreUnavailable as error:
            if self.not_stored is None:
                log.warning("log of %s interrupted: %s", self._container, error)
            self.not_stored = error
            return False
        self.not_stored, self._interrupted = None, ""
        return True
