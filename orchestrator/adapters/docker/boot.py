"""When a host was started, as its kernel and its first process tell, and what its CPU is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import Boot

# The kernel of a host that is a container itself outlives it; the first process of either does not.
# Engines within containers of the host have a process number there as well; those are none of its own.
SCRIPT = """
cat /proc/sys/kernel/random/boot_id /proc/stat /proc/1/stat
for process in /proc/[0-9]*; do
  { read -r name <"$process/comm"; } 2>/dev/null || continue
  [ "$name" = dockerd ] || continue
  set -- $(grep NSpid "$process/status" 2>/dev/null)
  [ $# = 2 ] && echo "engine $(cat "$process/stat" 2>/dev/null)"
done
grep -m 1 -E '^(model name|cpu)[[:space:]]*:' /proc/cpuinfo ||
  grep -m 4 -E '^CPU (implementer|architecture|variant|part)' /proc/cpuinfo
true
"""
_TICKS = 100
"""A second of the times in /proc, on every architecture: what the kernel calls USER_HZ."""
_ID = re.compile(r"\A[0-9a-f-]{36}$", re.MULTILINE)
_KERNEL = re.compile(r"^btime (\d+)$", re.MULTILINE)
_FIRST = re.compile(r"^1 \(.*\) \S+(?: \S+){18} (\d+) ", re.MULTILINE)
_CPU = re.compile(r"^(?:model name|cpu)\s*: (.+)$", re.MULTILINE)
_CPU_PARTS = re.compile(r"^CPU (\w+)\s*: (\w+)$", re.MULTILINE)
_LONGEST = 200
_ENGINE = re.compile(r"^engine \d+ \(dockerd\) \S+(?: \S+){18} (\d+) ", re.MULTILINE)


def boot_of(said: str) -> Boot:
    """What the script's output tells. EngineError when it cannot be understood."""
    kernel, since, first = _ID.search(said), _KERNEL.search(said), _FIRST.search(said)
    if kernel is None or since is None or first is None:
        raise EngineError("when the host was started cannot be told from its /proc")

    def moment(ticks: str) -> datetime:
        return datetime.fromtimestamp(int(since[1]), UTC) + timedelta(seconds=int(ticks) / _TICKS)

    # One that was started anew may still be there while its successor is.
    engines = [moment(ticks) for ticks in _ENGINE.findall(said)]
    return Boot(f"{kernel[0]}/{first[1]}", moment(first[1]), max(engines, default=None), _cpu_of(said))


def _cpu_of(said: str) -> str:
    """The model; an ARM's kernel gives it in numbers."""
    if named := _CPU.search(said):
        return " ".join(named[1].split())[:_LONGEST]
    return " ".join(f"{part} {value}" for part, value in _CPU_PARTS.findall(said))[:_LONGEST]
