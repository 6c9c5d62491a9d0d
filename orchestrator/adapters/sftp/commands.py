"""Commands on a server: argument lists that nothing expands, bounded in time, with what they said."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping

from orchestrator.adapters.sftp.connection import Connection, end_input
from orchestrator.domain.activation import Answer, Command

_SLICE = 1.0
_LOOK = 10.0
_GRACE = 15.0
_KILL_AFTER = 5
_LIMIT = 64 * 1024
_TIMED_OUT = (124, 137, 143)
"""What ``timeout`` ends with after it ended a command: by asking, by force, and the same from BusyBox."""


def run_command(
    connection: Connection, command: Command, folder: str, variables: Mapping[str, str]
) -> Answer:
    """Run it in a folder. A process that it left behind, with our output still open, is not waited for.

    ``timeout`` on the server ends the command and its children; where there is none, it is left to itself
    when its time is over. Raises what the library raises.
    """
    started = time.monotonic()
    channel = connection.session()
    try:
        channel.set_combine_stderr(True)
        connection.start(channel, _script(command, folder, variables))
        end_input(channel)
        channel.settimeout(_SLICE)
        text, looked, late = bytearray(), started, False
        while True:
            now = time.monotonic()
            late = now - started > command.timeout + _GRACE
            if late:
                break
            if now - looked > _LOOK:
                # A server that is gone shows itself here; one that only waits for its command answers.
                connection.sftp.stat(".")
                connection.beat()
                looked = now
            try:
                data = channel.recv(65536)
            except TimeoutError:
                if channel.status_event.is_set():
                    break
                continue
            if not data:
                break
            text += data
            del text[:-_LIMIT]
        took = time.monotonic() - started
        said = text.decode("utf-8", "replace")
        if late:
            return Answer(-1, said, f"did not end within {command.timeout:g} s, and may still be running")
        if not channel.status_event.wait(connection.server.timeout):
            raise TimeoutError
        status = channel.exit_status
        if status in _TIMED_OUT and took >= command.timeout:
            return Answer(status, said, f"did not end within {command.timeout:g} s, and was stopped")
        if status < 0:
            if not connection.alive:
                raise ConnectionError("the connection was lost while a command ran")
            return Answer(status, said, "was killed")
        return Answer(status, said)
    finally:
        channel.close()


def _script(command: Command, folder: str, variables: Mapping[str, str]) -> str:
    bound = f"timeout -k {_KILL_AFTER} {math.ceil(command.timeout)}"
    settings = " ".join(shlex.quote(f"{name}={value}") for name, value in sorted(variables.items()))
    # Without "--", env would take an argument with "=" in it for a variable; a program's name has none.
    run = f"env {settings} {shlex.join(command.arguments)}"
    known = "command -v timeout >/dev/null 2>&1"
    return f"cd -- {shlex.quote(folder)} || exit 125; if {known}; then exec {bound} {run}; fi; exec {run}"
