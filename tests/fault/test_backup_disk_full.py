"""A disk that runs full while a backup is written, and while one is restored."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.domain.errors import DiskFull
from orchestrator.store import open_store
from tests.support.smalldisk import mounted
from tests.unit.services.test_backing_up import Place, nothing
from tests.unit.store.support import enqueue

MIB = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An installation with a log of 6 MB."""
    made = Place(tmp_path / "var")
    with closing(open_store(made.url)) as store:
        run = enqueue(store)
        (attempt,) = store.attempts.of_run(run.id)
    made.log(attempt.id, "t line\n" * (6 * MIB // 7))
    return made


def test_a_backup_that_finds_no_room_is_no_file_and_says_so(place: Place, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "4m") as disk:
        with pytest.raises(DiskFull, match="no space is left in"):
            place.backups.make(disk.path / "backup.tar", nothing)
        assert list(disk.path.iterdir()) == []
    with closing(place.store()) as store:
        assert len(store.runs.listing()) == 1


@pytest.mark.parametrize("room", [4 * MIB, 30 * MIB])
def test_a_restore_that_finds_no_room_changes_nothing(place: Place, tmp_path: Path, room: int) -> None:
    backup = place.backups.make(tmp_path / "backup.tar", nothing).file
    with mounted(tmp_path / "small", "40m") as disk:
        other = Place(disk.path / "var")

        def fill(_: object) -> None:
            # Somebody else takes what was free when the restore began.
            disk.fill()

        if room < 10 * MIB:
            disk.fill(leave=room)
        with pytest.raises(DiskFull):
            other.backups.restore(backup, fill if room > 10 * MIB else nothing)
        assert [path.name for path in other.state.iterdir() if path.suffix == ".db"] == []
        assert other.files() == {}
        assert list((other.state / "scratch").iterdir()) == []
        disk.empty()
        other.backups.restore(backup, nothing)
        assert other.files() == place.files()
