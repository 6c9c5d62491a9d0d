"""The real dvc, in a virtual environment of its own: its many libraries are none of ours."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

VERSION: Final = "3.67.1"
_FOLDER: Final = Path(sys.prefix) / "dvc" / VERSION
_ENVIRONMENT: Final = {
    "DVC_NO_ANALYTICS": "1",
    "CI": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ana",
    "GIT_AUTHOR_EMAIL": "ana@example.org",
    "GIT_COMMITTER_NAME": "Ana",
    "GIT_COMMITTER_EMAIL": "ana@example.org",
}


def dvc_program() -> Path:
    """The program, which the first call on a machine installs from the package index."""
    program = _FOLDER / "bin" / "dvc"
    _FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with (_FOLDER.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_FOLDER / "complete").exists():
            uv = str(Path(sys.prefix) / "bin" / "uv")
            for command in (
                ("venv", "--quiet", "--clear", "--python", sys.executable, str(_FOLDER)),
                ("pip", "install", "--quiet", "--python", str(_FOLDER / "bin" / "python"), f"dvc=={VERSION}"),
            ):
                subprocess.run([uv, *command], check=True)
            (_FOLDER / "complete").touch()
    return program


class DvcRepository:
    """A Git repository in which the real dvc keeps track of data."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._program = str(dvc_program())
        self.git("init", "--quiet", "--initial-branch=main")
        self.dvc("init", "--quiet")
        self.dvc("config", "core.analytics", "false")
        self.dvc("config", "core.check_update", "false")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=Begin")

    def dvc(self, *arguments: str) -> str:
        """Run dvc in it; what it says."""
        return self._run(self._program, *arguments)

    def git(self, *arguments: str) -> str:
        """Run git in it; what it says."""
        return self._run("git", *arguments)

    def track(self, path: str) -> None:
        """Have dvc keep a file or folder, and commit that."""
        self.dvc("add", "--quiet", path)
        self.commit(f"Keep {path}")

    def commit(self, message: str) -> str:
        """Commit all that git keeps; the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message={message}")
        return self.git("rev-parse", "HEAD").strip()

    def _run(self, *command: str) -> str:
        environment = {**os.environ, **_ENVIRONMENT}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout
