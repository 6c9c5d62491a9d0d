"""Copies of checkpoints on our own disk: whole or not at all, the newest alone, gone with their run."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.adapters.files.checkpoints import FolderCheckpoints
from orchestrator.domain.errors import EngineUnavailable, NotFound, StoreUnavailable


@pytest.fixture
def files(tmp_path: Path) -> FolderCheckpoints:
    return FolderCheckpoints(tmp_path / "checkpoints")


def content(files: FolderCheckpoints, run_id: int = 7, replicate: int = 0) -> bytes | None:
    found = files.find(run_id, replicate)
    if found is None:
        return None
    with files.open(run_id, replicate, found) as stream:
        return stream.read()


def _write(text: bytes, out: BinaryIO) -> None:
    out.write(text)


def test_there_is_nothing_before_the_first_copy(files: FolderCheckpoints) -> None:
    assert content(files) is None
    assert files.runs() == set()
    files.forget(7)


def test_the_newest_try_replaces_the_copy_of_older_ones_and_of_no_other_replicate(
    files: FolderCheckpoints, tmp_path: Path
) -> None:
    for replicate, number, text in ((0, 1, b"one"), (1, 1, b"other"), (0, 2, b"two"), (0, 2, b"later")):
        files.keep(7, replicate, number, partial(_write, text))
    assert (content(files), content(files, 7, 1)) == (b"later", b"other")
    assert files.find(7, 0) is not None
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["7-0-2.tar", "7-1-1.tar"]


def test_a_late_copy_of_an_older_try_leaves_the_newer_one(files: FolderCheckpoints, tmp_path: Path) -> None:
    def overtaken(out: BinaryIO) -> None:
        files.keep(7, 0, 2, partial(_write, b"two"))
        out.write(b"one")

    files.keep(7, 0, 1, overtaken)
    assert content(files) == b"two"
    files.keep(7, 0, 1, partial(_write, b"later"))
    assert content(files) == b"two"
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["7-0-2.tar"]


def test_a_copy_that_nobody_wants_once_it_is_written_is_dropped(
    files: FolderCheckpoints, tmp_path: Path
) -> None:
    over = threading.Event()

    def write(out: BinaryIO) -> None:
        out.write(b"late")
        over.set()

    files.keep(7, 0, 1, partial(_write, b"before"))
    files.keep(7, 0, 1, write, over.is_set)
    assert content(files) == b"before"
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["7-0-1.tar"]


def test_a_copy_that_is_cut_off_leaves_the_one_before_and_nothing_else(
    files: FolderCheckpoints, tmp_path: Path
) -> None:
    def cut(out: BinaryIO) -> None:
        out.write(b"half")
        raise EngineUnavailable("the link is down")

    files.keep(7, 0, 1, lambda out: out.write(b"whole"))
    with pytest.raises(EngineUnavailable):
        files.keep(7, 0, 1, cut)
    assert content(files) == b"whole"
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["7-0-1.tar"]


def test_copies_are_the_owners_alone(files: FolderCheckpoints, tmp_path: Path) -> None:
    files.keep(7, 0, 1, lambda out: None)
    folder = tmp_path / "checkpoints"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "7-0-1.tar").stat().st_mode & 0o777 == 0o600


def test_the_copies_of_a_run_go_with_it(files: FolderCheckpoints) -> None:
    for run_id, replicate in ((7, 0), (7, 1), (70, 0)):
        files.keep(run_id, replicate, 1, lambda out: None)
    assert files.runs() == {7, 70}
    copy = files.find(7, 0)
    assert copy is not None
    files.forget(7)
    assert files.runs() == {70}
    with pytest.raises(NotFound):
        files.open(7, 0, copy)


def test_what_a_killed_writer_left_goes_after_a_day(files: FolderCheckpoints, tmp_path: Path) -> None:
    files.keep(7, 0, 1, lambda out: None)
    left = [tmp_path / "checkpoints" / f"{name}.part" for name in ("old", "new")]
    for path in left:
        path.write_bytes(b"half")
    os.utime(left[0], (time.time() - 2 * 86400,) * 2)
    assert files.runs() == {7}
    assert [path.exists() for path in left] == [False, True]


def test_a_disk_that_takes_nothing_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("no folder")
    with pytest.raises(StoreUnavailable, match="cannot store a checkpoint"):
        FolderCheckpoints(tmp_path / "checkpoints").keep(7, 0, 1, lambda out: None)
