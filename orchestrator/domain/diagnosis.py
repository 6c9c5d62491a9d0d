"""The likely cause of a failure, from its reason and the end of the log."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.domain.run import Reason

_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)): ?(.*)$"
)
_SHELL = re.compile(
    r"(command not found|: not found|No such file or directory|Permission denied)", re.IGNORECASE
)

_HINTS = {
    Reason.OUT_OF_MEMORY: "the process needed more memory than the runner allows: raise resources.memory",
    Reason.TIMEOUT: "it took longer than run.timeout allows",
    Reason.LOG_LIMIT: "it wrote more log than run.log_limit allows",
    Reason.KILLED: "something outside killed the container: the host's memory, an operator, or its engine",
    Reason.IMAGE_BUILD: "a line of the Dockerfile failed",
    Reason.SETUP: "the setup command failed",
}


def likely_cause(reason: Reason | None, log_tail: Sequence[str]) -> str:
    """One line that a person should read first; empty when nothing stands out.

    The last Python exception in the log says most for a command that ended by itself; a limit that was hit
    explains itself.
    """
    if reason in _HINTS and reason not in (Reason.IMAGE_BUILD, Reason.SETUP):
        return _HINTS[reason]
    if reason in (Reason.EXIT_CODE, Reason.SETUP, Reason.IMAGE_BUILD, Reason.START):
        for line in reversed(log_tail):
            if _EXCEPTION.match(line.strip()):
                return line.strip()
        for line in reversed(log_tail):
            if _SHELL.search(line):
                return line.strip()
        if reason in _HINTS:
            return _HINTS[reason]
    return ""
