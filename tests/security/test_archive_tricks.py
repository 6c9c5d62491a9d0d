"""Archive tricks on collecting: what a container can put into the archive that is read from it."""

import gzip
import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.errors import EngineError, EngineUnavailable
from orchestrator.domain.pipeline import Limits
from orchestrator.services.archive import LeftOut, Link, Member, read_entries, read_members

ROOT = "output"
DEFAULTS = Limits()


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """One entry as it stands in a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + content + b"\0" * (-len(content) % 512)


def tar(*entries: bytes) -> bytes:
    return b"".join(entries) + b"\0" * 1024


FOLDER = entry(ROOT, kind=tarfile.DIRTYPE)
GOOD = entry(f"{ROOT}/good.txt", b"good")


def read(
    archive: bytes, limits: Limits = DEFAULTS, root: str = ROOT
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files with their contents, and what was left out with the reasons."""
    files: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    for item in read_members(io.BytesIO(archive), limits, root):
        match item:
            case Member():
                files[item.path] = item.stream.read()
            case LeftOut():
                left_out[item.path] = item.why
    return files, left_out


def patched(raw: bytes, offset: int, field: bytes) -> bytes:
    """An entry with a field of its header replaced, and a checksum that fits."""
    header = bytearray(raw[:512])
    header[offset : offset + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + raw[512:]


def test_regular_files_come_with_their_contents() -> None:
    files, left_out = read(
        tar(FOLDER, GOOD, entry(f"{ROOT}/a/", kind=tarfile.DIRTYPE), entry(f"{ROOT}/a/b", b"x"))
    )
    assert files == {"good.txt": b"good", "a/b": b"x"}
    assert left_out == {}


@pytest.mark.parametrize(
    ("name", "shown", "why"),
    [
        ("/etc/passwd", "/etc/passwd", "absolute"),
        (f"{ROOT}/../../etc/passwd", f"{ROOT}/../../etc/passwd", "leaves the folder"),
        ("..", "..", "leaves the folder"),
        ("elsewhere/x", "elsewhere/x", "outside"),
        (f"{ROOT}/a\nb", rf"{ROOT}/a\nb", "control characters"),
        (f"{ROOT}/\x1b[2J", rf"{ROOT}/\x1b[2J", "control characters"),
        (f"{ROOT}/gpj.\u202eexe", rf"{ROOT}/gpj.\u202eexe", "control characters"),
        (f"{ROOT}/\udcff\udcfe", rf"{ROOT}/\udcff\udcfe", "not UTF-8"),
    ],
)
def test_a_misleading_name_is_left_out_and_named_readably(name: str, shown: str, why: str) -> None:
    files, left_out = read(tar(FOLDER, entry(name, b"evil"), GOOD))
    assert files == {"good.txt": b"good"}
    assert list(left_out) == [shown]
    assert why in left_out[shown]


@pytest.mark.parametrize("name", [f"{ROOT}/" + "x" * 256, f"{ROOT}/" + "d/" * 600 + "x"])
def test_an_overlong_name_is_left_out(name: str) -> None:
    files, left_out = read(tar(FOLDER, entry(name, b"evil"), GOOD))
    assert files == {"good.txt": b"good"}
    assert list(left_out.values()) == ["its name is too long"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.SYMTYPE, "symbolic link to /etc/passwd"),
        (tarfile.LNKTYPE, "hard link to /etc/passwd"),
        (tarfile.FIFOTYPE, "named pipe"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.CONTTYPE, "unknown kind"),
        (b"Z", "unknown kind"),
    ],
)
def test_what_is_no_regular_file_is_left_out(kind: bytes, why: str) -> None:
    files, left_out = read(tar(FOLDER, entry(f"{ROOT}/trap", b"", kind, "/etc/passwd"), GOOD))
    assert files == {"good.txt": b"good"}
    assert why in left_out["trap"]


def test_a_link_followed_by_a_file_of_its_name_leads_nowhere() -> None:
    link = entry(f"{ROOT}/trap", kind=tarfile.SYMTYPE, link="/etc")
    files, left_out = read(tar(FOLDER, link, entry(f"{ROOT}/trap/cron", b"evil"), GOOD))
    assert files == {"trap/cron": b"evil", "good.txt": b"good"}
    assert list(left_out) == ["trap"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("trap", "/etc/passwd"),
        ("trap", "../secrets"),
        ("trap", "a/../../secrets"),
        ("a/trap", "../../secrets"),
        ("trap", ""),
        ("trap", "a\nb"),
    ],
)
def test_a_link_out_of_a_checkpoint_is_left_out(path: str, target: str) -> None:
    link = entry(f"{ROOT}/{path}", kind=tarfile.SYMTYPE, link=target)
    (found,) = read_entries(io.BytesIO(tar(FOLDER, link)), DEFAULTS, ROOT)
    assert isinstance(found, LeftOut)


@pytest.mark.parametrize(
    ("path", "target"), [("last.pt", "a/1.pt"), ("a/last.pt", "../b/./1.pt"), ("x", ".")]
)
def test_nothing_lies_behind_a_link_within_a_checkpoint(path: str, target: str) -> None:
    link = entry(f"{ROOT}/{path}", kind=tarfile.SYMTYPE, link=target)
    behind = entry(f"{ROOT}/{path}/cron", b"evil")
    twin = entry(f"{ROOT}/{path}", b"evil")
    first, *others = read_entries(io.BytesIO(tar(FOLDER, link, behind, twin)), DEFAULTS, ROOT)
    assert first == Link(path, target)
    assert [type(other) for other in others] == [LeftOut, LeftOut]


def test_a_second_entry_of_the_same_name_does_not_replace_the_first() -> None:
    files, left_out = read(tar(FOLDER, GOOD, entry(f"{ROOT}/./good.txt", b"evil")))
    assert files == {"good.txt": b"good"}
    assert "came before" in left_out["good.txt"]


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_is_not_a_file_and_a_folder_at_once(names: tuple[str, str]) -> None:
    files, left_out = read(tar(FOLDER, *(entry(f"{ROOT}/{name}", b"x") for name in names)))
    assert list(files) == [names[0]]
    assert "at once" in left_out[names[1]]


def test_an_old_sparse_file_is_left_out_and_ends_the_reading() -> None:
    sparse = patched(
        entry(f"{ROOT}/sparse", b"x" * 512, tarfile.GNUTYPE_SPARSE), 483, b"%011o\0" % (50 << 30)
    )
    files, left_out = read(tar(FOLDER, GOOD, sparse, entry(f"{ROOT}/later", b"x")))
    assert files == {"good.txt": b"good"}
    assert "sparse" in left_out["sparse"]
    assert "behind sparse" in left_out[""]


def test_a_sparse_file_by_extended_header_is_left_out() -> None:
    info = tarfile.TarInfo(f"{ROOT}/sparse")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(50 << 30),
    }
    content = b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512
    info.size = len(content)
    raw = info.tobuf(tarfile.PAX_FORMAT) + content
    files, left_out = read(tar(FOLDER, GOOD, raw))
    assert files == {"good.txt": b"good"}
    assert "sparse" in left_out["sparse"]


class Endless(io.RawIOBase):
    """An archive whose last file is as long as anybody reads; counts what was read."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self._head = io.BytesIO(head)
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        data = self._head.read(size) or b"\0" * size
        self.given += len(data)
        return data


def huge(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def test_fifty_gigabytes_of_nothing_are_not_read() -> None:
    stream = Endless(FOLDER + GOOD + huge(f"{ROOT}/zeros", 50 << 30))
    limits = Limits(file_size=1 << 20, total_size=4 << 20)
    items = list(read_members(stream, limits, ROOT))  # type: ignore[arg-type]
    assert [item.path for item in items] == ["good.txt", "zeros", ""]
    assert stream.given < 8 << 20


def test_a_file_over_the_limit_does_not_hide_those_behind_it() -> None:
    big = entry(f"{ROOT}/big", b"x" * 5000)
    files, left_out = read(tar(FOLDER, big, GOOD), Limits(file_size=4096, total_size=1 << 20))
    assert files == {"good.txt": b"good"}
    assert "5000 bytes" in left_out["big"]


def test_the_number_of_files_is_limited() -> None:
    files, left_out = read(tar(FOLDER, *(entry(f"{ROOT}/{n}") for n in range(5))), Limits(files=3))
    assert list(files) == ["0", "1", "2"]
    assert left_out == {"3": "there are more than 3 files", "4": "there are more than 3 files"}


def test_the_bytes_of_all_files_are_limited() -> None:
    entries = [entry(f"{ROOT}/{n}", b"x" * 400) for n in range(3)] + [entry(f"{ROOT}/small", b"x" * 100)]
    files, left_out = read(tar(FOLDER, *entries), Limits(total_size=900))
    assert list(files) == ["0", "1", "small"]
    assert list(left_out) == ["2"]


def test_folders_that_files_make_by_their_paths_do_not_fill_the_memory() -> None:
    deep = "/d" * 120
    archive = tar(FOLDER, *(entry(f"{ROOT}/{number}{deep}/f") for number in range(200)))
    files, left_out = read(archive, Limits(files=1000))
    assert 90 <= len(files) <= 100
    assert set(left_out.values()) == {"there are more than 11000 folders"}


def test_a_million_entries_neither_fill_the_memory_nor_the_list() -> None:
    class Links(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            self._entries = self._made()

        def _made(self) -> Iterator[bytes]:
            yield FOLDER
            for n in range(10_000):
                yield entry(f"{ROOT}/link{n}", kind=tarfile.SYMTYPE, link="x")
            yield b"\0" * 10240

        def read(self, _: int = -1) -> bytes:
            return next(self._entries, b"")

    tracemalloc.start()
    try:
        left_out = len(list(read_members(Links(), Limits(files=10), ROOT)))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert left_out == 1001
    assert peak < 2 << 20


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_an_endless_header_is_not_kept_in_memory(kind: bytes) -> None:
    stream = Endless(FOLDER + GOOD + patched(huge("././@LongLink", 7 << 30), 156, kind))
    items = list(read_members(stream, Limits(), ROOT))  # type: ignore[arg-type]
    assert [item.path for item in items] == ["good.txt", ""]
    assert stream.given < 4 << 20


def test_a_file_is_streamed_and_never_held_whole() -> None:
    size = 32 << 20
    stream = Endless(FOLDER + huge(f"{ROOT}/model", size))
    items = read_members(stream, Limits(), ROOT)  # type: ignore[arg-type]
    item = next(items)
    assert isinstance(item, Member)
    tracemalloc.start()
    try:
        read_bytes = sum(len(chunk) for chunk in iter(lambda: item.stream.read(1 << 16), b""))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    items.close()  # type: ignore[attr-defined]
    assert read_bytes == size
    assert peak < 2 << 20


def test_members_need_not_be_read_and_a_late_reader_gets_nothing() -> None:
    entries = tar(FOLDER, entry(f"{ROOT}/a", b"a" * 100_000), entry(f"{ROOT}/b", b"b"))
    first, second = read_members(io.BytesIO(entries), Limits(), ROOT)
    assert isinstance(first, Member)
    assert isinstance(second, Member)
    with pytest.raises(ValueError, match="moved on"):
        first.stream.read()


@pytest.mark.parametrize("prefix", ["", "./"])
def test_engines_that_leave_the_folders_name_away_are_understood(prefix: str) -> None:
    top = [entry("./", kind=tarfile.DIRTYPE)] if prefix else []
    archive = tar(*top, entry(f"{prefix}good.txt", b"good"), entry(f"{prefix}{ROOT}/x", b"x"))
    assert read(archive)[0] == {"good.txt": b"good", f"{ROOT}/x": b"x"}


def test_a_folder_inside_that_has_the_roots_name_keeps_it() -> None:
    assert list(read(tar(FOLDER, entry(f"{ROOT}/{ROOT}/x", b"x")))[0]) == [f"{ROOT}/x"]


def test_a_single_file_keeps_its_name() -> None:
    assert read(tar(entry("metrics.json", b"{}")), root="metrics.json")[0] == {"metrics.json": b"{}"}


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(tar(FOLDER, entry(ROOT, hashlib.shake_128(b"x").digest(5000)))),
        b"no archive at all" * 100,
    ],
)
def test_what_is_no_plain_tar_is_refused(body: bytes) -> None:
    with pytest.raises(EngineError, match="no plain tar"):
        read(body)


@pytest.mark.parametrize("size", [0, 300, 512, 700, 1024, 1500, 2048])
def test_an_archive_that_breaks_off_is_not_taken_for_a_whole_one(size: int) -> None:
    archive = tar(FOLDER, entry(f"{ROOT}/a", b"a" * 600))
    assert read(archive)[0] == {"a": b"a" * 600}
    with pytest.raises(EngineUnavailable, match="broke off"):
        read(archive[:size])


def test_a_damaged_header_is_not_taken_for_the_end() -> None:
    with pytest.raises(EngineError):
        read(tar(FOLDER, GOOD, b"\xff" * 512, entry(f"{ROOT}/later", b"x")))


def test_a_file_of_negative_size_is_left_out() -> None:
    negative = patched(entry(f"{ROOT}/x"), 124, b"\xff" * 11 + b"\x00")
    files, left_out = read(tar(FOLDER, GOOD, negative, entry(f"{ROOT}/later", b"x")))
    assert files == {"good.txt": b"good", "later": b"x"}
    assert left_out == {"x": "its size is negative"}


def test_a_time_that_no_clock_shows_is_refused() -> None:
    info = tarfile.TarInfo(f"{ROOT}/x")
    info.pax_headers = {"mtime": "inf"}
    with pytest.raises(EngineError, match="damaged"):
        read(tar(FOLDER, info.tobuf(tarfile.PAX_FORMAT)))


def test_no_file_is_written_by_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read(tar(FOLDER, GOOD, entry("../x", b"x")))
    assert list(tmp_path.iterdir()) == []
