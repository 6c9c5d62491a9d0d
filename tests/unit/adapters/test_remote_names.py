"""Names of objects as paths of files: what could not be laid out below one folder is named."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.buckets import above, below
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.ports.world import Listing

DATASET = DatasetSpec("wine", "s3://data/wine", kind=DatasetKind.S3)


class Names:
    """A place that has files of these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        return [RemoteFile(name, 1, "etag:1") for name in self.names]

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        yield iter(())


def look(tmp_path: Path, *names: str) -> Listing:
    return RemoteDataset(Names(*names), Cache(tmp_path, 1)).look(DATASET)


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a", "a..", ".hidden/.b", "a b/ä€", "-rf", "a\\b", "$(id)"])
def test_a_name_that_a_file_may_have_counts(tmp_path: Path, name: str) -> None:
    assert look(tmp_path, name).files == 1


@pytest.mark.parametrize("name", ["/a", "a//b", "../a", "a/../b", "a/..", "./a", "a/./b", "a/", "."])
def test_a_name_that_is_no_path_below_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetUnavailable, match="cannot be used: its name is no path below a folder"):
        look(tmp_path, "fine", name)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "\x00", "a\udcff", "a\u2028b"])
def test_a_name_that_could_not_be_shown_is_refused_and_written_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetUnavailable, match="has control characters or is not UTF-8") as told:
        look(tmp_path, name)
    assert str(told.value).isprintable()


def test_a_file_that_has_the_name_of_a_folder_is_refused(tmp_path: Path) -> None:
    assert look(tmp_path, "a", "ab/c", "a-b/c").files == 3
    with pytest.raises(DatasetUnavailable, match="a/b cannot be used: a folder has the same name"):
        look(tmp_path, "a/b/c/d", "a/b")


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match="its name is there twice"):
        look(tmp_path, "a", "b", "a")


def test_what_does_not_count_may_have_any_name(tmp_path: Path) -> None:
    dataset = DatasetSpec("wine", "s3://data/wine", kind=DatasetKind.S3, exclude=("tmp/**", "*\n*"))
    source = RemoteDataset(Names("a", "tmp/../x", "b\nc"), Cache(tmp_path, 1))
    assert source.look(dataset).files == 1


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("", "a/b", "a/b"),
        ("wine", "wine/a/b", "a/b"),
        ("wine/red", "wine/red/a", "a"),
        ("wine/a.csv", "wine/a.csv", "a.csv"),
        ("wine", "wine", "wine"),
        ("wine", "wine/wine", "wine"),
        ("wine", "wines/a", None),
        ("wine", "wine/", None),
        ("", "folder/", None),
    ],
)
def test_an_object_is_found_again_under_the_path_that_it_was_listed_by(
    prefix: str, key: str, path: str | None
) -> None:
    assert below(prefix, key) == path
    if path is not None:
        assert key in above(prefix, path)
