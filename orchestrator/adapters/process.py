"""Processes by names that are unique over machines, reboots and reused process ids (Linux and other POSIX
systems).
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LocalProcesses:
    """Names a process ``machine/boot/pid/start``, by what /proc tells."""

    def __init__(self) -> None:
        self._machine = socket.gethostname()
        self._boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else "unknown"

    def this(self) -> str:
        """This process's name."""
        return f"{self._machine}/{self._boot}/{os.getpid()}/{_start_of(os.getpid()) or 0}"

    def is_dead(self, owner: str) -> bool:
        """Whether that process is known to have ended.

        False for another machine's, and for what is no name.
        """
        match owner.split("/"):
            case [machine, boot, pid, start] if machine == self._machine and pid.isdecimal():
                if boot != self._boot:
                    return True
                return str(_start_of(int(pid))) != start
            case _:
                return False


def _start_of(pid: int) -> int | None:
    """When a process started, in ticks since boot; None when there is none, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name is in parentheses and may hold anything; fields are counted from behind it.
    fields = text.rpartition(")")[2].split()
    state, started = fields[0], int(fields[19])
    return None if state in ("Z", "X") else started


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """The current time in UTC, aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        sleep(seconds)
