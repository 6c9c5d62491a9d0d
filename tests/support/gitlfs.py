"""Git LFS where it is not installed: Debian's package, unpacked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def git_lfs(folder: Path) -> Path | None:
    """The folder of the program ``git-lfs``: the system's, or below ``folder``; None where there is none."""
    if found := shutil.which("git-lfs"):
        return Path(found).parent
    for command in (["apt-get", "download", "-qq", "git-lfs"], ["apt-get", "update", "-qq"]) * 2:
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError):
            continue
        packages = list(folder.glob("git-lfs_*.deb"))
        if packages:
            subprocess.run(["dpkg-deb", "-x", packages[0], folder / "unpacked"], check=True)
            return folder / "unpacked" / "usr" / "bin"
    return None
