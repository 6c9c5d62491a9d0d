"""ssh processes that end with this one, however it ends."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from orchestrator.adapters.ssh.settings import environment
from orchestrator.domain.errors import EngineUnavailable

_ENDING: Final = 2.0
"""Seconds that ssh has to end when it was asked to."""
_MOST_WORDS: Final = 1 << 14

# Asks the kernel to end this process with its parent, then becomes the command. A preexec_fn would do that
# in a copy of a process with threads, where nothing but the simplest calls is safe.
_LEASH: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]): sys.exit(255)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def leashed(command: Sequence[str]) -> list[str]:
    """The command, which on Linux ends with the thread that starts it, also when the process is killed.

    Raises EngineUnavailable when the program is not installed.
    """
    if shutil.which(command[0]) is None:
        raise EngineUnavailable(f"there is no {command[0]} on this machine", "apt-get install openssh-client")
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command]


class SshProcess:
    """An ssh that runs until it is ended. For one thread, but for :meth:`end`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            leashed(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(os.environ),
            # Ctrl-C is for us: what runs on the host is let go of first.
            start_new_session=True,
        )
        assert self._process.stderr is not None  # noqa: S101 - for the type checker
        self._words = self._process.stderr
        self._readable = select.poll()
        self._readable.register(self._words, select.POLLIN)
        self._said = b""
        self._silent = False

    @property
    def said(self) -> str:
        """What it wrote so far; the beginning of much."""
        return self._said.decode(errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ended(self, patience: float) -> bool:
        """Whether it has ended, after at most so many seconds."""
        if self._silent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            return self._process.poll() is not None
        if self._readable.poll(patience * 1000):
            words = os.read(self._words.fileno(), 4096)
            self._said = (self._said + words)[:_MOST_WORDS]
            self._silent = not words
            if self._silent:
                return self.ended(_ENDING)
        return self._process.poll() is not None

    def end(self) -> None:
        """End it. From any thread; repeating is fine."""
        self._process.terminate()
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it and free what it was read by."""
        self.end()
        self._words.close()
