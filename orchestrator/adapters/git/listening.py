"""Hearing what a process prints, and no more than one can keep."""

from __future__ import annotations

import os
import select
import selectors
import subprocess
import time
from typing import Final

_PIECE: Final = 1 << 16
_WORDS: Final = 1 << 15
"""So many bytes of the beginning and of the end of what a process complains of are kept."""


class Endless(Exception):
    """A process printed more than anybody has use for."""


def listen(
    process: subprocess.Popen[bytes], told: bytes | None, timeout: float, most: int
) -> tuple[bytes, bytes]:
    """Tell a process something and wait for its end: what it printed, and the ends of its complaints.

    Raises subprocess.TimeoutExpired after ``timeout`` seconds, and Endless after ``most`` bytes of either.
    """
    deadline = time.monotonic() + timeout
    out, complaints = bytearray(), bytearray()
    heard = {"out": 0, "complaints": 0}
    with selectors.DefaultSelector() as pipes:
        if process.stdout is not None:
            pipes.register(process.stdout, selectors.EVENT_READ, "out")
        if process.stderr is not None:
            pipes.register(process.stderr, selectors.EVENT_READ, "complaints")
        left = memoryview(told or b"")
        if process.stdin is not None:
            pipes.register(process.stdin, selectors.EVENT_WRITE)
        while pipes.get_map():
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout)
            for key, _ in pipes.select(wait):
                if key.fileobj is process.stdin:
                    left = _tell(key.fd, left)
                    if not left:
                        pipes.unregister(process.stdin)
                        process.stdin.close()
                    continue
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    pipes.unregister(key.fileobj)
                    continue
                heard[key.data] += len(piece)
                if heard[key.data] > most:
                    raise Endless
                if key.data == "out":
                    out += piece
                else:
                    complaints += piece
                    del complaints[_WORDS : max(len(complaints) - _WORDS, _WORDS)]
    process.wait(max(deadline - time.monotonic(), 0.0))
    return bytes(out), bytes(complaints)


def _tell(descriptor: int, left: memoryview) -> memoryview:
    """What is left to be told; nothing to one who does not listen."""
    try:
        return left[os.write(descriptor, left[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return left[:0]
