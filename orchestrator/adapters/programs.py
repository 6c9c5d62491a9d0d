"""Starts programs without a shell, within a time, and keeps the end of their output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from orchestrator.domain.errors import ActionRejected, NotFound
from orchestrator.ports.messengers import Ended

KEPT: Final = 64 << 10
"""Bytes of output that are kept."""
_MARGIN: Final = 8 << 10
"""Bytes before them that are masked along, so that no secret shows because its begin was cut off."""
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TZ")
_LOOK: Final = 0.2
_LAST_WORDS: Final = 1.0
"""Seconds in which what a program has left behind may still write."""


@dataclass(frozen=True, slots=True)
class Executable:
    """A program with its secrets, as it is at the moment of a start. ``timeout`` in seconds."""

    path: str
    timeout: float
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


class LocalPrograms:
    """Implements ``ports.messengers.Programs``. ``executables`` are read anew for each start."""

    def __init__(
        self, executables: Mapping[str, Callable[[], Executable]], mask: Callable[[bytes], bytes]
    ) -> None:
        self._executables = executables
        self._mask = mask

    def run(self, program: str, body: bytes, variables: Mapping[str, str], timeout: float) -> Ended:
        """Start it in a session of its own, so that all that it starts can be killed with it."""
        if program not in self._executables:
            raise NotFound(f"there is no program {program}", "programs: in orchestrator.yaml")
        executable = self._executables[program]()
        own = {name: value for name in _PASSED_ON if (value := os.environ.get(name))}
        with tempfile.TemporaryFile() as given:
            # A file, not a pipe: a program that does not read its input holds up nobody.
            given.write(body)
            given.seek(0)
            try:
                process = subprocess.Popen(
                    [executable.path],
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**own, **executable.env, **variables},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise ActionRejected(
                    f"the program {program} cannot be started: {error.strerror}",
                    f"{executable.path} has to be executable for the orchestrator's user, and begin with #! "
                    "where it is a script",
                ) from error
        with process:
            code, output = _followed(process, timeout or executable.timeout)
        cut = len(output) > KEPT
        text = self._mask(output)[-KEPT:] if cut else self._mask(output)
        return Ended(code, ("…" if cut else "") + text.decode("utf-8", "replace"))


def _followed(process: subprocess.Popen[bytes], seconds: float) -> tuple[int | None, bytes]:
    """How it ended, and the end of its output. What it leaves running ends its output, not itself."""
    output = bytearray()
    until, over = monotonic() + seconds, False
    pipe = process.stdout
    if pipe is None:
        raise TypeError("the program has no output")
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(min(_LOOK, max(until - monotonic(), 0))):
                piece = os.read(pipe.fileno(), 65536)
                output += piece
                del output[: -(KEPT + _MARGIN)]
                if not piece:
                    break
            if process.poll() is not None:
                until = min(until, monotonic() + _LAST_WORDS)
            if monotonic() >= until:
                over = process.poll() is None
                break
    if not over:
        try:
            process.wait(max(until - monotonic(), 0))
        except subprocess.TimeoutExpired:
            over = True
    if over:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None, bytes(output)
    return process.returncode, bytes(output)
