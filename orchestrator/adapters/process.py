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
_SPACE = Path("/proc/self/ns/pid")


class LocalProcesses:
    """Names a process ``machine/boot.space/pid/start``, by what /proc tells.

    ``space`` is the process namespace: the same number is another process in each container of a machine,
    and containers may be given one name.
    """

    def __init__(self) -> None:
        self._machine = socket.gethostname()
        self._boot = _BOOT_ID.read_text().strip()[:8] if _BOOT_ID.exists() else "unknown"
        self._space = str(_SPACE.stat().st_ino) if _SPACE.exists() else "unknown"

    def this(self) -> str:
        """This process's name."""
        place = f"{self._boot}.{self._space}"
        return f"{self._machine}/{place}/{os.getpid()}/{_start_of(os.getpid()) or 0}"

    def is_dead(self, owner: str) -> bool:
        """Whether that process is known to have ended.

        False for another machine's, for one in a namespace that cannot be seen into, and for what is no name.
        """
        match owner.split("/"):
            case [machine, place, pid, start] if machine == self._machine and pid.isdecimal():
                boot, _, space = place.partition(".")
                if boot != self._boot:
                    return True
                return space == self._space and str(_start_of(int(pid))) != start
            case _:
                return False


def look_at(pid: int) -> tuple[str, int] | None:
    """A process's state letter and when it started, in ticks since boot; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name is in parentheses and may hold anything; fields are counted from behind it.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _start_of(pid: int) -> int | None:
    """When a process started; None when there is none, or only its zombie."""
    seen = look_at(pid)
    return None if seen is None or seen[0] in ("Z", "X") else seen[1]


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
