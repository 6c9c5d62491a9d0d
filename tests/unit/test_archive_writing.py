"""A checkout as a tar for a container."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from orchestrator.domain.errors import InvalidInput
from orchestrator.services.archive import CHECKOUT_TIME, write_tar


def written(folder: Path, prefix: str = "mlci/workspace") -> bytes:
    out = io.BytesIO()
    write_tar(folder, out, 1000, 1001, prefix)
    return out.getvalue()


def listed(raw: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:", errors="surrogateescape") as archive:
        return archive.getmembers()


def make(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def test_folders_of_the_prefix_are_there_and_all_belongs_to_the_runs_user(tmp_path: Path) -> None:
    members = listed(written(make(tmp_path, ["train.py", "src/a.py"])))
    assert [m.name for m in members] == [
        "mlci", "mlci/workspace", "mlci/workspace/src", "mlci/workspace/src/a.py", "mlci/workspace/train.py",
    ]  # fmt: skip
    assert {(m.uid, m.gid, m.mtime, m.uname) for m in members} == {(1000, 1001, CHECKOUT_TIME, "")}


def test_modes_are_normalised_and_the_executable_bit_stays(tmp_path: Path) -> None:
    make(tmp_path, ["run.sh", "data.txt"])
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "data.txt").chmod(0o666)
    assert {m.name: m.mode for m in listed(written(tmp_path, ""))} == {"run.sh": 0o755, "data.txt": 0o644}


def test_links_stay_links_wherever_they_lead(tmp_path: Path) -> None:
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("..", target_is_directory=True)
    assert {m.name: (m.issym(), m.linkname) for m in listed(written(tmp_path, ""))} == {
        "passwd": (True, "/etc/passwd"),
        "folder": (True, ".."),
    }


def test_equal_content_makes_equal_bytes(tmp_path: Path) -> None:
    one = make(tmp_path / "one", ["b", "a", "c/d"])
    two = make(tmp_path / "two", ["c/d", "a", "b"])
    os.utime(two / "a", (1, 1))
    assert written(one) == written(two)
    (two / "a").write_text("changed")
    assert written(one) != written(two)


def test_long_and_odd_names_arrive_as_they_are(tmp_path: Path) -> None:
    names = ["d" * 120 + "/" + "f" * 120, "tab\there", os.fsdecode(b"latin-\xe9")]
    members = listed(written(make(tmp_path, names), ""))
    assert {m.name for m in members if m.isfile()} == set(names)


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="pipe"):
        written(tmp_path)
