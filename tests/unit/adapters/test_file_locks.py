"""Locks between processes of one machine."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters.files.locks import FolderLocks
from orchestrator.domain.errors import StoreUnavailable


def test_one_holds_what_has_a_name_until_it_lets_go(tmp_path: Path) -> None:
    root = tmp_path / "locks"
    first, second = FolderLocks(root).of("lab1", "data"), FolderLocks(root).of("lab1", "data")
    assert first.acquire(timeout=0)
    assert not second.acquire(timeout=0)
    other = FolderLocks(root).of("lab2", "data")
    assert other.acquire(timeout=0), "another host's is another lock"
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.iterdir()} == {0o600}
    other.release()
    first.release()
    assert list(root.iterdir()) == []
    assert second.acquire(timeout=0)
    assert not first.acquire(timeout=0)
    second.release()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator.adapters.files.locks import FolderLocks\n"
        "held = FolderLocks(Path(sys.argv[1])).of('a')\n"
        "print(held.acquire(timeout=0), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        lock = FolderLocks(tmp_path).of("a")
        assert not lock.acquire(timeout=0)
        process.kill()
        process.wait()
        assert lock.acquire(timeout=0)
        lock.release()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="cannot store a lock"):
        FolderLocks(tmp_path / "file" / "locks").of("a").acquire(timeout=0)
