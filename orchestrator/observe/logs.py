"""Structured logs, masked. structlog is loaded when the first line is logged."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from orchestrator.observe.masking import Masker

if TYPE_CHECKING:
    from structlog.typing import Processor


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Put values such as ``run=7`` on each line that this thread logs within the block."""
    import structlog

    with structlog.contextvars.bound_contextvars(**values):
        yield


def configure_logging(
    level: str = "INFO", *, json: bool = False, masker: Masker | None = None, stream: TextIO | None = None
) -> None:
    """Send all logs, those of libraries included, to standard error (or ``stream``), masked. May be repeated.

    ``json``: one object per line, else lines for people. The values are masked before anything renders them,
    and the rendered line is masked again, for what was no text before.
    """
    global _formatter
    out = stream or sys.stderr
    _formatter = _LazyFormatter(json, masker or Masker(), out)
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("docker", "uvicorn", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    # It calls a refused connection an error, which a health check expects; each reaches us as an exception.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    # It warns of every look that is skipped because the one before has not ended, which is as it should be.
    logging.getLogger("apscheduler").setLevel(max(logging.ERROR, root.level))
    # It warns of each try in its own words; what becomes of them is told by who asked.
    logging.getLogger("urllib3").setLevel(max(logging.ERROR, root.level))


class _LazyFormatter(logging.Formatter):
    """Loads and configures structlog when the first line is written: most short commands write none."""

    def __init__(self, json: bool, masker: Masker, out: TextIO) -> None:
        super().__init__()
        self._json = json
        self._masker = masker
        self._out = out
        self._lock = threading.Lock()
        self._made: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        return self.made().format(record)

    def made(self) -> logging.Formatter:
        with self._lock:
            if self._made is None:
                self._made = _structured(self._json, self._masker, self._out)
            return self._made


_formatter: _LazyFormatter | None = None


def _structured(json: bool, masker: Masker, out: TextIO) -> logging.Formatter:
    """Configure structlog; the formatter of its lines and of those that others log."""
    import structlog

    def mask_values(_: object, __: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
        return {key: _masked(masker, value) for key, value in event.items()}

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.ExceptionRenderer(),
        mask_values,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Processor = structlog.processors.JSONRenderer() if json else _ConsoleLine(_wants_colour(out))

    def render_masked(logger: object, name: str, event: MutableMapping[str, object]) -> str:
        return masker.mask_text(str(render(logger, name, event)))

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render_masked],
    )


def _masked(masker: Masker, value: object) -> object:
    if isinstance(value, str):
        return masker.mask_text(value)
    if isinstance(value, bytes):
        return masker.mask_bytes(value).decode("utf-8", "backslashreplace")
    return value


def _wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}


class _ConsoleLine:
    """One line per event: time, level, event, then values. Control characters show as escapes, never act."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _: object, __: str, event: MutableMapping[str, object]) -> str:
        level = str(event.pop("level", "info"))
        time = str(event.pop("timestamp", ""))[11:19]
        what = _printable(str(event.pop("event", "")))
        traceback = str(event.pop("exception", ""))
        event.pop("logger", None)
        values = " ".join(f"{key}={_value(value)}" for key, value in sorted(event.items()))
        shown = f"\x1b[{_COLOURS.get(level, '0')}m{level:<7}\x1b[0m" if self._colour else f"{level:<7}"
        line = f"{time} {shown} {what}  {values}".rstrip()
        return "\n".join((line, *(f"    {_printable(part)}" for part in traceback.splitlines())))


def _value(value: object) -> str:
    text = _printable(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or "=" in text else text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
