"""A local folder: a look at names and times first, contents only of what changed, and little memory."""

import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.adapters.datasets import hashing
from orchestrator.adapters.datasets.folder import FolderDataset
from orchestrator.adapters.datasets.hashing import Algorithm, Digest
from orchestrator.adapters.datasets.scan import Walk
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.ports.progress import ProgressEvent

LONG_AGO_NS = 1_500_000_000_000_000_000
Read = list[str]


def quiet(_: ProgressEvent) -> None:
    pass


def make(folder: Path, files: dict[str, str]) -> DatasetSpec:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return DatasetSpec("wine", str(folder))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The files whose contents are read."""
    names: Read = []
    real = hashing.opened

    def opened(dataset: DatasetSpec, path: str, place: str, buffering: int = -1) -> BinaryIO:
        names.append(path)
        return real(dataset, path, place, buffering)

    monkeypatch.setattr(hashing, "opened", opened)
    return names


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let ten seconds pass for whoever asks how long ago a file changed."""
    passed = [0]
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + passed[0])

    def wait() -> None:
        passed[0] += 10_000_000_000

    return wait


FILES = {"a.csv": "1", "b/c.csv": "2", "b-d.csv": "3", "b/e/f.csv": "4"}


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    return make(tmp_path / "data", FILES)


@pytest.fixture
def folder(tmp_path: Path) -> FolderDataset:
    return FolderDataset(index=tmp_path / "index")


def paths(spec: DatasetSpec) -> list[str]:
    return [block.prefix + seen.name for block in Walk(spec) for seen in block.files]


def test_files_come_in_the_order_of_their_paths(spec: DatasetSpec) -> None:
    assert paths(spec) == sorted(FILES)


def test_only_files_that_changed_are_read_again(
    spec: DatasetSpec, folder: FolderDataset, read: Read, later: Callable[[], None]
) -> None:
    later()
    first = folder.snapshot(spec, (), quiet)
    assert sorted(read) == sorted(FILES)
    read.clear()
    (Path(spec.path) / "b-d.csv").write_text("33")
    (Path(spec.path) / "new.csv").write_text("5")
    (Path(spec.path) / "a.csv").unlink()
    second = folder.snapshot(spec, first.entries, quiet)
    assert sorted(read) == ["b-d.csv", "new.csv"]
    assert second.entries == FolderDataset().snapshot(spec, (), quiet).entries
    assert second.fingerprint == FolderDataset().snapshot(spec, (), quiet).fingerprint


def test_a_file_that_changed_less_than_two_seconds_before_is_read_once_more(
    spec: DatasetSpec, folder: FolderDataset, read: Read, later: Callable[[], None]
) -> None:
    fresh = folder.snapshot(spec, (), quiet)
    read.clear()
    folder.snapshot(spec, fresh.entries, quiet)
    assert sorted(read) == sorted(FILES)
    later()
    folder.snapshot(spec, fresh.entries, quiet)
    read.clear()
    folder.snapshot(spec, fresh.entries, quiet)
    assert read == []


def test_what_a_fresh_look_saw_is_looked_at_again_later(
    spec: DatasetSpec, folder: FolderDataset, later: Callable[[], None]
) -> None:
    # A change within the same tick of the clock shows in no time, so the first signature must not hold.
    fresh = folder.look(spec)
    later()
    settled = folder.look(spec)
    assert fresh.signature != settled.signature
    later()
    assert folder.look(spec) == settled


def test_files_of_the_future_do_not_make_every_look_another(
    spec: DatasetSpec, folder: FolderDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: LONG_AGO_NS)
    one = folder.look(spec)
    monkeypatch.setattr(time, "time_ns", lambda: LONG_AGO_NS + 60_000_000_000)
    assert folder.look(spec) == one


def test_a_file_of_equal_size_and_time_is_noticed_by_its_change_time(
    spec: DatasetSpec, folder: FolderDataset, read: Read, later: Callable[[], None]
) -> None:
    later()
    first = folder.snapshot(spec, (), quiet)
    target = Path(spec.path) / "a.csv"
    before = target.stat()
    target.write_text("9")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    read.clear()
    assert folder.snapshot(spec, first.entries, quiet).fingerprint != first.fingerprint
    assert read == ["a.csv"]


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_index_costs_time_and_nothing_else(
    spec: DatasetSpec,
    folder: FolderDataset,
    tmp_path: Path,
    read: Read,
    later: Callable[[], None],
    damage: Callable[[bytes], bytes],
) -> None:
    later()
    first = folder.snapshot(spec, (), quiet)
    (index,) = (tmp_path / "index").iterdir()
    index.write_bytes(damage(index.read_bytes()))
    read.clear()
    assert folder.snapshot(spec, first.entries, quiet).fingerprint == first.fingerprint
    assert sorted(read) == sorted(FILES)


def test_an_index_that_cannot_be_written_is_done_without(spec: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = FolderDataset(index=tmp_path / "file/index")
    assert folder.snapshot(spec, (), quiet).entries == FolderDataset().snapshot(spec, (), quiet).entries


def test_a_snapshot_that_failed_leaves_nothing_beside_the_index(
    spec: DatasetSpec, folder: FolderDataset, tmp_path: Path, later: Callable[[], None]
) -> None:
    later()

    def touch(_: ProgressEvent) -> None:
        (Path(spec.path) / "more.csv").write_text("6")

    with pytest.raises(DatasetMoved):
        folder.snapshot(spec, (), touch)
    assert list((tmp_path / "index").iterdir()) == []


@pytest.mark.parametrize("change", ["x" * 10, ""])
def test_a_file_that_grows_or_shrinks_while_it_is_read_is_no_version(
    spec: DatasetSpec, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashing.read_into

    def read_into(dataset: DatasetSpec, file: BinaryIO, buffer: memoryview, size: int, *into: Digest) -> int:
        (Path(dataset.path) / "a.csv").write_text(change)
        return real(dataset, file, buffer, size, *into)

    monkeypatch.setattr(hashing, "read_into", read_into)
    with pytest.raises(DatasetMoved, match=r"a\.csv is not what it was: it changed while it was read"):
        FolderDataset().snapshot(spec, (), quiet)


@pytest.mark.parametrize("target", [".", "loop/loop", "round"])
def test_a_loop_of_links_is_an_error_and_not_a_way(spec: DatasetSpec, target: str) -> None:
    (Path(spec.path) / "loop").symlink_to(target)
    (Path(spec.path) / "round").symlink_to("loop")
    with pytest.raises(DatasetUnavailable, match=r"loop|round"):
        FolderDataset().look(spec)


def test_folders_may_be_deeper_than_calls(tmp_path: Path) -> None:
    deep = str(tmp_path)
    for _ in range(600):
        deep += "/d"
        os.mkdir(deep)  # noqa: PTH102 - the library's own way calls itself
    Path(deep, "file").write_text("1")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        found = paths(DatasetSpec("wine", str(tmp_path)))
    finally:
        sys.setrecursionlimit(limit)
    assert found == ["d/" * 600 + "file"]


def test_a_marker_says_whether_the_data_are_whole_and_is_no_part_of_them(
    spec: DatasetSpec, folder: FolderDataset
) -> None:
    marked = DatasetSpec(spec.name, spec.path, include=("**/*.csv",), marker="_SUCCESS")
    assert not folder.look(marked).whole
    (Path(spec.path) / "_SUCCESS").write_text("")
    assert folder.look(marked).whole
    assert [entry.path for entry in folder.snapshot(marked, (), quiet).entries] == sorted(FILES)
    (Path(spec.path) / "b/c.csv").write_text("later")
    assert not folder.look(marked).whole


def test_another_kind_of_hash_is_proven_before_its_sha256_is_told(spec: DatasetSpec) -> None:
    folder = FolderDataset(algorithm=Algorithm.BLAKE3)
    snapshot = folder.snapshot(spec, (), quiet)
    assert all(e.identity.startswith("blake3:") and not e.sha256 for e in snapshot.entries)
    found = folder.materialise(spec, snapshot.entries, quiet)
    plain = FolderDataset(algorithm=Algorithm.SHA256).snapshot(spec, (), quiet)
    assert [e.sha256 for e in found] == [e.sha256 for e in plain.entries]
    (Path(spec.path) / "a.csv").write_text("9")
    with pytest.raises(DatasetMoved, match="content differs"):
        folder.materialise(spec, snapshot.entries, quiet)


def test_versions_of_a_dataset_stay_comparable_with_its_first(spec: DatasetSpec) -> None:
    old = FolderDataset(algorithm=Algorithm.SHA256).snapshot(spec, (), quiet)
    new = FolderDataset(algorithm=Algorithm.BLAKE3).snapshot(spec, old.entries, quiet)
    assert new.fingerprint == old.fingerprint


def test_a_look_keeps_no_file_in_memory(tmp_path: Path) -> None:
    for number in range(40):
        inside = tmp_path / f"{number:02}"
        inside.mkdir()
        for file in range(100):
            (inside / f"{file:03}").touch()
    spec = DatasetSpec("tiny", str(tmp_path))
    FolderDataset().look(spec)
    tracemalloc.start()
    try:
        assert FolderDataset().look(spec).files == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A hundred files at a time take some 50 KB, and all of them more than 1 MB.
    assert peak < 300_000


def test_entries_are_plain_files_of_a_version(spec: DatasetSpec) -> None:
    snapshot = FolderDataset().snapshot(spec, (), quiet)
    assert isinstance(snapshot.entries[0], FileEntry)
    assert snapshot.entries[-1].path == max(FILES)
