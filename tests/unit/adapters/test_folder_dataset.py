"""A dataset in a local folder: what counts, what a version is, what is never mixed."""

import hashlib
import os
import tarfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.folder import FolderDataset
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.ports.progress import ProgressEvent


def quiet(_: ProgressEvent) -> None:
    pass


def make(folder: Path, files: dict[str, str]) -> DatasetSpec:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return DatasetSpec("wine", str(folder))


def with_patterns(
    spec: DatasetSpec, include: tuple[str, ...] = ("**",), exclude: tuple[str, ...] = ()
) -> DatasetSpec:
    return DatasetSpec(spec.name, spec.path, include=include, exclude=exclude)


def paths(spec: DatasetSpec) -> list[str]:
    return [entry.path for entry in FolderDataset().snapshot(spec, (), quiet).entries]


FILES = {"train.csv": "1,2", "labels/b.txt": "b", "labels/a.txt": "a"}


def test_a_snapshot_has_the_hash_of_each_file(tmp_path: Path) -> None:
    snapshot = FolderDataset().snapshot(make(tmp_path, FILES), (), quiet)
    assert snapshot.entries == tuple(
        FileEntry(name, len(FILES[name]), hashlib.sha256(FILES[name].encode()).hexdigest())
        for name in sorted(FILES)
    )
    assert (snapshot.listing.files, snapshot.listing.size) == (3, 5)
    assert snapshot.listing == FolderDataset().look(make(tmp_path / ".", {}))


def test_the_fingerprint_is_of_names_and_contents_not_of_times_or_places(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one", FILES), make(tmp_path / "two", dict(reversed(FILES.items())))
    os.utime(tmp_path / "two/train.csv", (1, 1))
    before = FolderDataset().snapshot(one, (), quiet).fingerprint
    assert FolderDataset().snapshot(two, (), quiet).fingerprint == before
    (tmp_path / "two/train.csv").write_text("1,3")
    assert FolderDataset().snapshot(two, (), quiet).fingerprint != before
    (tmp_path / "one/train.csv").rename(tmp_path / "one/renamed.csv")
    assert FolderDataset().snapshot(one, (), quiet).fingerprint != before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "train.csv").write_text("1,3"),
        lambda folder: (folder / "labels/a.txt").unlink(),
        lambda folder: (folder / "new").write_text(""),
        lambda folder: (folder / "train.csv").rename(folder / "other.csv"),
        lambda folder: os.utime(folder / "train.csv", (1, 1)),
    ],
)
def test_a_look_notices_each_kind_of_change(tmp_path: Path, change: Callable[[Path], object]) -> None:
    spec = make(tmp_path, FILES)
    before = FolderDataset().look(spec)
    assert FolderDataset().look(spec) == before
    change(tmp_path)
    assert FolderDataset().look(spec).signature != before.signature


def test_a_look_notices_a_file_swapped_for_one_of_equal_size_and_time(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)
    before = FolderDataset().look(spec)
    old = (tmp_path / "train.csv").stat()
    (tmp_path / "swap").write_text("9,9")
    os.utime(tmp_path / "swap", ns=(old.st_atime_ns, old.st_mtime_ns))
    (tmp_path / "swap").rename(tmp_path / "train.csv")
    assert FolderDataset().look(spec).signature != before.signature


def test_newest_is_when_a_file_arrived_even_if_its_own_time_is_old(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)
    for name in FILES:
        os.utime(tmp_path / name, (1, 1))
    newest = FolderDataset().look(spec).newest
    assert newest is not None
    assert newest > datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("**",), (), ["labels/a.txt", "labels/b.txt", "train.csv"]),
        (("*.csv",), (), ["train.csv"]),
        (("**/*.txt",), ("labels/b*",), ["labels/a.txt"]),
        (("**",), ("labels/**",), ["train.csv"]),
    ],
)
def test_patterns_choose_what_counts(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    assert paths(with_patterns(make(tmp_path, FILES), include, exclude)) == expected


def test_an_excluded_folder_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = with_patterns(make(tmp_path, {**FILES, "cache/x/y": ""}), exclude=("cache/**",))
    opened: list[str] = []
    real = os.scandir

    def scandir(path: str) -> object:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    FolderDataset().look(spec)
    assert not any("cache" in path for path in opened)
    assert any("labels" in path for path in opened)


def test_a_link_to_a_file_inside_is_that_file(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)
    (tmp_path / "latest.csv").symlink_to("train.csv")
    entries = {e.path: e.sha256 for e in FolderDataset().snapshot(spec, (), quiet).entries}
    assert entries["latest.csv"] == entries["train.csv"]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("../secret", "leaves the folder"),
        ("labels", "link to a folder"),
        ("nowhere", "No such file"),
        ("odd", "odd"),
    ],
)
def test_a_link_to_anything_else_is_an_error_that_names_it(tmp_path: Path, target: str, why: str) -> None:
    spec = make(tmp_path / "data", FILES)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "data/odd").symlink_to(target)
    with pytest.raises(DatasetUnavailable, match=why):
        FolderDataset().look(spec)
    assert FolderDataset().look(with_patterns(spec, exclude=("odd",))).files == 3


@pytest.mark.parametrize("name", [b"new\nline", b"latin-\xe9", b"\x1b[2J"])
def test_a_name_that_could_mislead_is_an_error_unless_excluded(tmp_path: Path, name: bytes) -> None:
    spec = make(tmp_path, FILES)
    (tmp_path / os.fsdecode(name)).write_text("")
    with pytest.raises(DatasetUnavailable, match="rename it, or exclude it") as raised:
        FolderDataset().look(spec)
    assert str(raised.value).isprintable()
    assert FolderDataset().look(with_patterns(spec, include=("**/*.csv",))).files == 1


def test_a_named_pipe_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetUnavailable, match="no regular file"):
        FolderDataset().snapshot(spec, (), quiet)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match=f"{tmp_path}/gone.*No such file"):
        FolderDataset().look(DatasetSpec("wine", str(tmp_path / "gone")))


def test_a_folder_without_a_file_that_counts_is_an_error(tmp_path: Path) -> None:
    spec = with_patterns(make(tmp_path, FILES), include=("*.parquet",), exclude=("old/**",))
    with pytest.raises(DatasetUnavailable, match=r"\*\.parquet and not old/\*\*"):
        FolderDataset().look(spec)


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)

    def touch(_: ProgressEvent) -> None:
        (tmp_path / "labels/a.txt").write_text("changed meanwhile")

    with pytest.raises(DatasetMoved):
        FolderDataset().snapshot(spec, (), touch)


def test_progress_counts_the_bytes(tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    FolderDataset().snapshot(make(tmp_path, FILES), (), events.append)
    assert (events[-1].done, events[-1].unit) == (5, "bytes")
    assert [e.done for e in events] == sorted(e.done for e in events)


def test_an_archive_holds_exactly_the_files_of_the_version(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)
    (tmp_path / "link.csv").symlink_to("train.csv")
    entries = FolderDataset().snapshot(spec, (), quiet).entries
    (tmp_path / "later.csv").write_text("not part of it")
    with (
        FolderDataset().archive(spec, entries, quiet) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        members = archive.getmembers()
        contents = {m.name: archive.extractfile(m).read().decode() for m in members if m.isreg()}  # type: ignore[union-attr]
    assert contents == FILES | {"link.csv": "1,2"}
    assert [(m.name, m.mode) for m in members if m.isdir()] == [("labels", 0o555)]
    assert {(m.uid, m.gid, m.mtime) for m in members} == {(0, 0, 0)}
    assert {m.mode for m in members if m.isreg()} == {0o444}


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda file: file.write_text("9,9"), "content differs"),
        (lambda file: file.write_text("longer than before"), "size differs"),
        (lambda file: file.unlink(), "is gone"),
        (lambda file: (file.unlink(), file.symlink_to("/etc/passwd")), "leaves the folder"),
    ],
)
def test_a_mixture_of_versions_is_never_packed(
    tmp_path: Path, change: Callable[[Path], object], how: str
) -> None:
    spec = make(tmp_path, FILES)
    entries = FolderDataset().snapshot(spec, (), quiet).entries
    change(tmp_path / "train.csv")
    with pytest.raises(DatasetMoved, match=f"train.csv.*{how}"):
        FolderDataset().archive(spec, entries, quiet)


def test_nothing_stays_in_the_spool(tmp_path: Path) -> None:
    spec = make(tmp_path / "data", FILES)
    spool = tmp_path / "spool"
    spool.mkdir()
    dataset = FolderDataset(spool)
    entries = dataset.snapshot(spec, (), quiet).entries
    dataset.archive(spec, entries, quiet).close()
    assert list(spool.iterdir()) == []


def test_one_object_serves_many_threads(tmp_path: Path) -> None:
    spec = make(tmp_path, {f"{n}.txt": str(n) for n in range(50)})
    dataset = FolderDataset()
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(dataset.snapshot(spec, (), quiet).fingerprint))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1


def test_a_part_of_a_file_is_exactly_its_bytes(tmp_path: Path) -> None:
    spec = make(tmp_path, {"large": "0123456789"})
    (entry,) = FolderDataset().snapshot(spec, (), quiet).entries
    for offset, size in ((0, 4), (4, 4), (8, 2)):
        with FolderDataset().part(spec, entry, offset, size) as part:
            assert part.read() == b"0123456789"[offset : offset + size]


def test_no_part_is_given_of_a_file_that_moved(tmp_path: Path) -> None:
    spec = make(tmp_path, {"large": "0123456789"})
    (entry,) = FolderDataset().snapshot(spec, (), quiet).entries
    (tmp_path / "large").write_text("012345678")
    with pytest.raises(DatasetMoved, match="its size differs"):
        FolderDataset().part(spec, entry, 0, 4)
    (tmp_path / "large").write_text("0123456789")
    with FolderDataset().part(spec, entry, 4, 6) as part:
        os.truncate(tmp_path / "large", 5)
        with pytest.raises(DatasetMoved, match="shorter"):
            part.read()
    (tmp_path / "large").unlink()
    (tmp_path / "large").symlink_to("/etc/hostname")
    with pytest.raises(DatasetMoved, match="leaves the folder"):
        FolderDataset().part(spec, entry, 0, 4)


def test_verifying_tells_files_that_are_what_they_were_from_those_that_are_not(tmp_path: Path) -> None:
    spec = make(tmp_path, FILES)
    entries = FolderDataset().snapshot(spec, (), quiet).entries
    FolderDataset().verify(spec, entries)
    (tmp_path / "train.csv").write_text("1,3")
    FolderDataset().verify(spec, [entry for entry in entries if entry.path != "train.csv"])
    with pytest.raises(DatasetMoved, match=r"train\.csv"):
        FolderDataset().verify(spec, entries)
