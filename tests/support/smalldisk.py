"""A small disk of its own below a folder, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system."""

    path: Path

    def fill(self, leave: int = 0) -> None:
        """Write until so many bytes are left."""
        filler = self.path / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
        try:
            while True:
                os.write(descriptor, b"\0" * 4096)
        except OSError:
            pass
        finally:
            os.close(descriptor)
        if leave:
            os.truncate(filler, max(0, filler.stat().st_size - leave))

    def empty(self) -> None:
        """Give the room back."""
        (self.path / "filler").unlink()


@contextmanager
def mounted(path: Path, size: str) -> Iterator[SmallDisk]:
    """A disk of that size at ``path``. Skips the test, with the reason, where none can be mounted."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
