"""Which folders of a host a run may be shown."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

_CLOSED: Final = tuple(
    map(
        PurePosixPath,
        (
            "/boot",
            "/dev",
            "/etc",
            "/proc",
            "/root",
            "/run",
            "/sys",
            "/var/lib/containerd",
            "/var/lib/containers",
            "/var/lib/docker",
            "/var/lib/kubelet",
            "/var/run",
        ),
    )
)
"""Where a machine keeps its secrets, its sockets and its own state."""


def why_not_mounted(path: str, own: tuple[str, ...] = ()) -> str:
    """Why a folder is never mounted into a run, or nothing.

    Neither is what holds it, or lies in it. ``own`` are further folders that are closed so.
    """
    if not path.startswith("/") or ".." in path.split("/"):
        return "it is not an absolute path"
    if any(ord(c) < 32 for c in path):
        return "it has control characters"
    asked = PurePosixPath("/", path.lstrip("/"))
    for closed in (*_CLOSED, *map(PurePosixPath, own)):
        if asked == closed or closed in asked.parents:
            return f"it lies in {closed}" if asked != closed else f"{closed} is closed to runs"
        if asked in closed.parents:
            return f"it holds {closed}"
    return ""
