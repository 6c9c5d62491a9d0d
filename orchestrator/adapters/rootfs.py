"""Running the program that puts a root file system together from Debian's packages."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_NOT_HERE: Final = 3
_PATIENCE: Final = 1800.0
"""Seconds for fetching and unpacking some 60 MB of packages over a slow line."""
_TOLD: Final = 2000


def make_rootfs(program: Path, tar: Path) -> str:
    """Run ``program`` to write ``tar``; why it could not, or nothing."""
    try:
        done = subprocess.run(
            [str(program), str(tar)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_PATIENCE,
        )
    except OSError as error:
        return f"{program} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{program} did not end within {_PATIENCE:g} s"
    said = (done.stderr.strip() or done.stdout.strip())[-_TOLD:]
    if done.returncode == _NOT_HERE:
        return said
    return f"{program} failed: {said}" if done.returncode else ""
