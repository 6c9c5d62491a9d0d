"""How much room there is where a path lies."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.adapters.files.disk import LocalDisk


def test_the_room_is_that_of_the_file_system_which_holds_the_path(tmp_path: Path) -> None:
    found, known = LocalDisk().space(tmp_path), shutil.disk_usage(tmp_path)
    assert found is not None
    assert found.total == known.total
    assert abs(found.free - known.free) < 1 << 30


def test_of_a_path_that_is_not_there_nothing_is_known(tmp_path: Path) -> None:
    assert LocalDisk().space(tmp_path / "nothing") is None
