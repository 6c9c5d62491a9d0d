"""The cache of fetched data: whole or not there, resumed, proven, bounded."""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.cache import Cache, Fetch
from orchestrator.domain.errors import DatasetMoved, DatasetUnavailable, DiskFull

CONTENT = bytes(range(250)) * 40
KEY, OTHER = "ab" * 32, "cd" * 32


class Place:
    """Gives content in pieces, and breaks off after some of them when told so."""

    def __init__(self, content: bytes = CONTENT, breaks_after: int | None = None) -> None:
        self.content = content
        self.breaks_after = breaks_after
        self.offsets: list[int] = []

    @contextmanager
    def open(self, offset: int) -> Iterator[Iterator[bytes]]:
        self.offsets.append(offset)
        yield self._pieces(offset)

    def _pieces(self, offset: int) -> Iterator[bytes]:
        for begin in range(offset, len(self.content), 100):
            if self.breaks_after is not None and begin - offset >= self.breaks_after:
                raise DatasetUnavailable("the line broke")
            yield self.content[begin : begin + 100]


def unheard(there: int) -> None:
    """Nobody listens."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(cache: Cache, place: Fetch, key: str = KEY, sums: tuple[tuple[str, str], ...] = ()) -> str:
    return cache.fetch(key, len(CONTENT), sums, place, unheard)


def kept(cache: Cache, key: str = KEY) -> bytes | None:
    file = cache.open(key)
    if file is None:
        return None
    with file:
        return file.read()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "datasets", 1 << 20)


def test_a_file_is_there_whole_or_not_at_all(cache: Cache) -> None:
    with pytest.raises(DatasetUnavailable):
        fetch(cache, Place(breaks_after=3000).open)
    assert cache.find(KEY) is None
    assert kept(cache) is None
    assert fetch(cache, Place().open) == sha256(CONTENT)
    assert cache.find(KEY) == sha256(CONTENT)
    assert kept(cache) == CONTENT


def test_a_fetch_goes_on_where_an_earlier_one_broke_off(cache: Cache) -> None:
    heard: list[int] = []
    with pytest.raises(DatasetUnavailable):
        fetch(cache, Place(breaks_after=3000).open)
    place = Place()
    cache.fetch(KEY, len(CONTENT), (), place.open, heard.append)
    assert place.offsets == [3000]
    assert (heard[0], heard[-1]) == (3000, len(CONTENT))
    assert kept(cache) == CONTENT


def test_a_beginning_that_was_damaged_is_fetched_anew(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable):
        fetch(cache, Place(breaks_after=3000).open)
    (tmp_path / "datasets" / "partial" / KEY).write_bytes(bytes(3000))
    place = Place()
    fetch(cache, place.open, sums=(("md5", hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()),))
    assert place.offsets == [3000, 0]
    assert kept(cache) == CONTENT


@pytest.mark.parametrize("name", ["sha256", "md5", "blob"])
def test_content_with_another_hash_is_not_kept(cache: Cache, name: str) -> None:
    with pytest.raises(DatasetMoved, match="its hash is not the one"):
        fetch(cache, Place().open, sums=((name, "0" * 32),))
    assert kept(cache) is None


def test_content_is_compared_with_the_name_that_git_gives_it(cache: Cache) -> None:
    # As `printf 'a,b\n' | git hash-object --stdin` says.
    wanted = (("blob", "91e7b5b17dd85f6e9b9d2d85acb2982bd5f455ee"),)
    assert cache.fetch(KEY, 4, wanted, Place(b"a,b\n").open, unheard) == sha256(b"a,b\n")


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!"])
def test_content_of_another_size_is_not_kept(cache: Cache, content: bytes) -> None:
    with pytest.raises(DatasetMoved, match="its size differs"):
        fetch(cache, Place(content).open)
    assert kept(cache) is None
    assert fetch(cache, Place().open) == sha256(CONTENT)


def test_an_empty_file_is_kept(cache: Cache) -> None:
    assert cache.fetch(KEY, 0, (), Place(b"").open, unheard) == sha256(b"")
    assert kept(cache) == b""


def test_whoever_asks_at_the_same_time_waits_for_the_one_fetch(cache: Cache, tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Place):
        def _pieces(self, offset: int) -> Iterator[bytes]:
            begun.set()
            go_on.wait(10)
            yield from super()._pieces(offset)

    first, second = Slow(), Place()
    other = Cache(tmp_path / "datasets", 1 << 20)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(fetch, cache, first.open)
        begun.wait(10)
        two = pool.submit(fetch, other, second.open)
        go_on.set()
        assert one.result() == two.result() == sha256(CONTENT)
    assert (first.offsets, second.offsets) == ([0], [])


def test_content_is_kept_under_its_own_hash(cache: Cache) -> None:
    assert cache.keep([CONTENT[:10], CONTENT[10:]], "one") == (sha256(CONTENT), len(CONTENT))
    assert cache.keep([CONTENT], "two") == (sha256(CONTENT), len(CONTENT))
    assert kept(cache, sha256(CONTENT)) == CONTENT


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3 * len(CONTENT))
    for number, key in enumerate((KEY, OTHER, "ef" * 32)):
        fetch(cache, Place().open, key)
        os.utime(tmp_path / "files" / key[:2] / key, (number + 1, number + 1))
    assert cache.find(KEY) is not None  # which uses it
    cache.make_room(len(CONTENT), ())
    assert [cache.find(key) is not None for key in (KEY, OTHER, "ef" * 32)] == [True, False, True]


def test_what_is_needed_now_is_not_removed_and_too_much_is_said(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2 * len(CONTENT))
    for key in (KEY, OTHER):
        fetch(cache, Place().open, key)
    with pytest.raises(DiskFull, match=r"are needed at once.*raise storage\.data_cache"):
        cache.make_room(len(CONTENT), (KEY, OTHER))
    assert cache.find(KEY)
    assert cache.find(OTHER)


def test_content_that_has_no_end_is_cut_off(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1000)

    cache = Cache(tmp_path, 100_000)
    with pytest.raises(DiskFull, match="the cache for data holds no more"):
        cache.keep(endless(), "one")
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_fetch_that_nobody_went_on_with_is_forgotten(tmp_path: Path, cache: Cache) -> None:
    with pytest.raises(DatasetUnavailable):
        fetch(cache, Place(breaks_after=300).open)
    partial = tmp_path / "datasets" / "partial" / KEY
    cache.make_room(0, ())
    assert partial.exists()
    os.utime(partial, (1, 1))
    cache.make_room(0, ())
    assert not partial.exists()


def test_others_cannot_read_what_is_kept(cache: Cache, tmp_path: Path) -> None:
    fetch(cache, Place().open)
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "datasets").rglob("*") if path.name == KEY}
    assert modes == {0}
