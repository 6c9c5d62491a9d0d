"""Contents by their hash, in a folder."""

import hashlib
import io
import os
import stat
import threading
from pathlib import Path

import pytest

from orchestrator.adapters.files.blobs import FolderBlobs
from orchestrator.domain.errors import NotFound, StoreUnavailable
from orchestrator.ports.world import Blob, TooLarge

CONTENT = b"weights" * 1000
HASH = hashlib.sha256(CONTENT).hexdigest()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_content_is_found_again_by_its_hash(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    assert blobs.put(io.BytesIO(CONTENT), len(CONTENT)) == Blob(HASH, len(CONTENT))
    with FolderBlobs(tmp_path / "blobs").open(HASH) as file:
        assert file.read() == CONTENT
    with blobs.open(HASH) as file:
        assert file.read() == CONTENT


def test_equal_content_is_kept_once_also_when_written_at_once(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    start = threading.Barrier(6)
    results: list[Blob] = []

    def put() -> None:
        start.wait()
        results.append(blobs.put(io.BytesIO(CONTENT), 1 << 20))

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Blob(HASH, len(CONTENT))] * 6
    assert files_below(tmp_path) == [tmp_path / HASH[:2] / HASH]


def test_a_stream_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    with pytest.raises(TooLarge):
        blobs.put(io.BytesIO(CONTENT), len(CONTENT) - 1)
    assert files_below(tmp_path) == []


def test_a_stream_that_fails_leaves_nothing_and_its_error_comes_through(tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        given = False

        def read(self, _: int = -1) -> bytes:
            if self.given:
                raise ConnectionResetError("gone")
            self.given = True
            return b"half"

    with pytest.raises(ConnectionResetError):
        FolderBlobs(tmp_path).put(Broken(), 100)  # type: ignore[arg-type]
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", [HASH, "../../etc/passwd", "", HASH.upper()])
def test_what_was_never_stored_is_not_found(tmp_path: Path, name: str) -> None:
    blobs = FolderBlobs(tmp_path)
    with pytest.raises(NotFound):
        blobs.open(name)


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    blobs.put(io.BytesIO(CONTENT), 1 << 20)
    place = tmp_path / "blobs" / HASH[:2] / HASH
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (place, place.parent, tmp_path / "blobs")]
    assert modes == [0o600, 0o700, 0o700]


def test_what_a_killed_writer_left_is_dropped_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    FolderBlobs(tmp_path)
    old, young = tmp_path / "incoming" / "old", tmp_path / "incoming" / "young"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (1, 1))
    FolderBlobs(tmp_path)
    assert files_below(tmp_path) == [young]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="cannot store files"):
        FolderBlobs(tmp_path / "file" / "blobs")
