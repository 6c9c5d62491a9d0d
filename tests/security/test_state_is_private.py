"""Secrets at rest: what the command makes on disk is its owner's alone, whatever the umask."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from tests.support.installation import COMMAND, Installation

SHARED = stat.S_IRWXG | stat.S_IRWXO


def open_to_others(folder: Path) -> dict[str, str]:
    """What others may read, write or enter, the folder itself included, with its mode."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & SHARED:
            found[str(path.relative_to(folder))] = oct(stat.S_IMODE(mode))
    return found


def run_with_umask(installation: Installation, umask: int) -> None:
    installation.commit(0.8)
    done = subprocess.run(
        [COMMAND, "--config", str(installation.config), "run", "line"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        umask=umask,
    )
    assert done.returncode == 0, done.stderr


def test_the_state_folder_lets_nobody_else_in(installation: Installation) -> None:
    run_with_umask(installation, 0)
    state = installation.folder / "var"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    kept = ("orchestrator.db", "logs/1.log")
    assert [stat.S_IMODE((state / name).stat().st_mode) for name in kept] == [0o600, 0o600]
    assert {stat.S_IMODE(p.stat().st_mode) for p in (state / "blobs").rglob("*") if p.is_file()} == {0o600}
    for folder in ("logs", "blobs", "scratch", "mirrors"):
        assert stat.S_IMODE((state / folder).stat().st_mode) == 0o700, folder


def test_a_state_folder_that_was_there_and_open_still_shows_nothing(installation: Installation) -> None:
    state = installation.folder / "var"
    state.mkdir(mode=0o755)
    run_with_umask(installation, 0o022)
    exposed = {
        name: mode
        for name, mode in open_to_others(state).items()
        # What lies in a folder that nobody else can enter is out of their reach.
        if not any((state / parent).stat().st_mode & SHARED == 0 for parent in Path(name).parents[:-1])
    }
    assert set(exposed) <= {"."}
