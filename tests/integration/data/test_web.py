"""Data behind addresses of the web: a real server, and real sockets."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.http import HttpPlace
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.web import Web
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.dataweb import DataWeb, Served
from tests.support.gitserver import make_authority
from tests.support.network import free_port
from tests.support.remotedata import contents, fetched, quiet, sha256

LARGE = bytes(range(256)) * 20_000


@pytest.fixture
def source(source_of: Callable[[Place], RemoteDataset], open_door: Access) -> RemoteDataset:
    return source_of(HttpPlace(lambda spec: open_door))


_TWO = (("file", "a.csv"), ("file", "b.csv"))


def wine(web: DataWeb, *files: str, marker: str = "") -> DatasetSpec:
    path = f"{web.url}/data" if files else f"{web.url}/wine.csv"
    options = tuple(("file", name) for name in files)
    return DatasetSpec("wine", path, kind=DatasetKind.HTTP, options=options, marker=marker)


def test_a_file_with_an_etag_is_listed_without_being_read(web: DataWeb, source: RemoteDataset) -> None:
    web.files["/wine.csv"] = Served(b"a,b\n1,2\n", etag='"one"')
    before = source.look(wine(web))
    assert source.look(wine(web)) == before
    web.files["/wine.csv"] = Served(b"a,b\n1,3\n", etag='"two"')
    assert source.look(wine(web)).signature != before.signature
    assert web.asked("GET") == []
    assert fetched(source, wine(web)) == {"wine.csv": b"a,b\n1,3\n"}


def test_a_file_without_an_etag_is_told_apart_by_its_time(web: DataWeb, source: RemoteDataset) -> None:
    web.files["/wine.csv"] = Served(b"1", modified="Mon, 02 Nov 2026 10:00:00 GMT")
    before = source.look(wine(web))
    assert before.newest is not None
    assert before.newest.isoformat() == "2026-11-02T10:00:00+00:00"
    web.files["/wine.csv"] = Served(b"2", modified="Mon, 02 Nov 2026 10:00:01 GMT")
    assert source.look(wine(web)).signature != before.signature
    assert web.asked("GET") == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_file_that_nothing_tells_apart_is_read_to_see_what_it_is(
    web: DataWeb, source: RemoteDataset, sized: bool
) -> None:
    web.files["/wine.csv"] = Served(b"first", sized=sized)
    before = source.look(wine(web))
    assert source.look(wine(web)) == before
    web.files["/wine.csv"] = Served(b"other", sized=sized)
    assert source.look(wine(web)).signature != before.signature
    snapshot = source.snapshot(wine(web), (), quiet)
    assert [entry.sha256 for entry in snapshot.entries] == [sha256(b"other")]


def test_what_was_read_to_be_told_apart_is_a_runs_data_although_it_changed_since(
    web: DataWeb, source: RemoteDataset
) -> None:
    web.files["/wine.csv"] = Served(b"pinned")
    pinned = source.snapshot(wine(web), (), quiet).entries
    web.files["/wine.csv"] = Served(b"newer!")
    assert contents(source, wine(web), pinned) == {"wine.csv": b"pinned"}


def test_several_files_below_an_address_are_one_dataset(web: DataWeb, source: RemoteDataset) -> None:
    web.files["/data/train.csv"] = Served(b"train", etag='"1"')
    web.files["/data/more/test%20set.csv"] = Served(b"test", etag='"2"')
    dataset = wine(web, "train.csv", "more/test set.csv")
    assert fetched(source, dataset) == {"train.csv": b"train", "more/test set.csv": b"test"}


def test_data_without_their_marker_are_being_written(web: DataWeb, source: RemoteDataset) -> None:
    dataset = wine(web, "train.csv", marker="_SUCCESS")
    web.files["/data/train.csv"] = Served(b"new", etag='"1"', modified="Mon, 02 Nov 2026 10:00:00 GMT")
    assert not source.look(dataset).whole
    with pytest.raises(DatasetUnavailable, match="_SUCCESS says that it is being written"):
        source.snapshot(dataset, (), quiet)
    web.files["/data/_SUCCESS"] = Served(modified="Mon, 02 Nov 2026 09:59:59 GMT")
    assert not source.look(dataset).whole
    web.files["/data/_SUCCESS"] = Served(modified="Mon, 02 Nov 2026 10:00:00 GMT")
    assert source.look(dataset).whole
    assert fetched(source, dataset) == {"train.csv": b"new"}


def test_a_file_that_moved_on_while_it_was_staged_is_said_and_never_mixed(
    web: DataWeb, source: RemoteDataset
) -> None:
    web.files["/data/a"] = Served(b"old a", etag='"1"')
    web.files["/data/b"] = Served(b"old b", etag='"1"')
    dataset = wine(web, "a", "b")
    pinned = source.snapshot(dataset, (), quiet).entries
    web.files["/data/b"] = Served(b"new b", etag='"2"')
    with pytest.raises(DatasetMoved, match="b is not what it was: the server has another one by now"):
        source.materialise(dataset, pinned, quiet)
    # Asked so, the server does not even begin to send what would be thrown away.
    assert {seen.headers["If-Match"] for seen in web.seen if seen.method == "GET"} == {'"1"'}


def test_a_server_that_ignores_the_condition_is_seen_through_by_its_etag(
    web: DataWeb, source: RemoteDataset
) -> None:
    web.files["/wine.csv"] = Served(b"old", etag='W/"1"')
    pinned = source.snapshot(wine(web), (), quiet).entries
    web.files["/wine.csv"] = Served(b"new", etag='W/"2"')
    with pytest.raises(DatasetMoved):
        source.materialise(wine(web), pinned, quiet)


def test_a_fetch_that_broke_off_goes_on_where_it_was(web: DataWeb, source: RemoteDataset) -> None:
    web.files["/wine.csv"] = Served(LARGE, etag='"1"', cut=3_000_000)
    assert fetched(source, wine(web)) == {"wine.csv": LARGE}
    ranges = [seen.headers.get("Range", "") for seen in web.seen if seen.method == "GET"]
    assert ranges[0] == ""
    assert len(ranges) == 2
    assert int(ranges[1].removeprefix("bytes=").rstrip("-")) > 1_000_000


def test_a_fetch_goes_on_although_the_server_has_no_ranges(web: DataWeb, source: RemoteDataset) -> None:
    web.files["/wine.csv"] = Served(LARGE, etag='"1"', cut=3_000_000, ranges=False)
    assert fetched(source, wine(web)) == {"wine.csv": LARGE}


def test_a_file_that_changes_while_a_broken_fetch_waits_is_never_glued_together(
    web: DataWeb, source: RemoteDataset
) -> None:
    newer = Served(LARGE[::-1], etag='"2"')
    web.files["/wine.csv"] = Served(LARGE, etag='"1"', cut=3_000_000)
    pinned = source.snapshot(wine(web), (), quiet).entries
    web.files["/wine.csv"].between = lambda: web.files.update({"/wine.csv": newer})
    with pytest.raises(DatasetMoved):
        source.materialise(wine(web), pinned, quiet)


def test_what_is_in_the_cache_is_not_fetched_again(web: DataWeb, source: RemoteDataset) -> None:
    web.files["/data/a"] = Served(b"a", etag='"1"')
    web.files["/data/b"] = Served(b"b", etag='"1"')
    fetched(source, wine(web, "a", "b"))
    web.files["/data/b"] = Served(b"c", etag='"2"')
    assert fetched(source, wine(web, "a", "b")) == {"a": b"a", "b": b"c"}
    assert web.asked("GET").count("/data/a") == 1


def test_a_login_is_shown_to_its_server_alone(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    access = Access({"token": "t0ken"}, allow_private=True)
    source = source_of(HttpPlace(lambda spec: access))
    with DataWeb().serving() as elsewhere:
        elsewhere.files["/real.csv"] = Served(b"1", etag='"1"')
        web.files["/wine.csv"] = Served(status=302, headers={"Location": f"{elsewhere.url}/real.csv"})
        assert fetched(source, wine(web)) == {"wine.csv": b"1"}
        assert {seen.headers.get("Authorization") for seen in web.seen} == {"Bearer t0ken"}
        assert {seen.headers.get("Authorization") for seen in elsewhere.seen} == {None}


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, DatasetRefused, "may not be read: the server answers 401; check the login"),
        (403, DatasetRefused, "may not be read"),
        (404, DatasetUnavailable, "is not there: the server answers 404"),
        (500, DatasetUnavailable, "is not to be had now: the server answers 500"),
        (429, DatasetUnavailable, "is not to be had now"),
    ],
)
def test_each_refusal_of_a_server_is_one_clear_message(
    web: DataWeb, source: RemoteDataset, status: int, error: type[DatasetUnavailable], says: str
) -> None:
    web.files["/wine.csv"] = Served(status=status, headers={"Retry-After": "17"})
    with pytest.raises(error) as told:
        source.look(wine(web))
    assert type(told.value) is error
    assert says in str(told.value)
    assert f"dataset wine: {web.url}/wine.csv" in str(told.value)
    assert told.value.retry_after == (17 if status in (429, 500) else None)


@pytest.mark.parametrize(
    "told",
    [
        {"Last-Modified": "Mon, 02 Nov 2026 10:00:00 -0000"},
        {"Last-Modified": "Mon, 02 Nov 2026 10:00:00 +99999999999999999999"},
        {"Last-Modified": "Mon, 99 Nov 99999 10:00:00 GMT"},
        {"Last-Modified": "soon"},
    ],
)
def test_a_time_that_is_none_is_no_reason_to_fail(
    web: DataWeb, source: RemoteDataset, told: dict[str, str]
) -> None:
    web.files["/wine/a.csv"] = Served(b"1", etag='"1"', headers=told)
    web.files["/wine/b.csv"] = Served(b"2", etag='"2"', modified="Mon, 02 Nov 2026 09:00:00 GMT")
    found = source.look(DatasetSpec("wine", f"{web.url}/wine", kind=DatasetKind.HTTP, options=_TWO))
    assert found.files == 2


@pytest.mark.parametrize("wait", ["9" * 5000, "Mon, 02 Nov 2026 10:00:00 +99999999999999999999", "soon"])
def test_a_wait_that_nobody_can_wait_is_not_kept(web: DataWeb, source: RemoteDataset, wait: str) -> None:
    web.files["/wine.csv"] = Served(status=503, headers={"Retry-After": wait})
    with pytest.raises(DatasetUnavailable, match="the server answers 503") as told:
        source.look(wine(web))
    assert told.value.retry_after is None


def test_a_server_that_is_not_there_is_said(source: RemoteDataset) -> None:
    dataset = DatasetSpec("wine", f"http://127.0.0.1:{free_port()}/x", kind=DatasetKind.HTTP)
    with pytest.raises(DatasetUnavailable, match="cannot be reached: Connection refused"):
        source.look(dataset)


def test_a_slow_server_is_given_up_after_its_silence(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    over = threading.Event()

    def wait() -> None:
        over.wait(10)

    source = source_of(HttpPlace(lambda spec: open_door, Web(silence=0.2)))
    web.files["/wine.csv"] = Served(b"12", between=wait)
    try:
        with pytest.raises(DatasetUnavailable, match=r"was silent for 0\.2 s"):
            source.look(wine(web))
    finally:
        over.set()


def test_a_certificate_that_nobody_vouches_for_is_refused_until_its_authority_is_trusted(
    source_of: Callable[[Place], RemoteDataset], open_door: Access, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path / "ca")
    with DataWeb(authority.server).serving() as web:
        web.files["/wine.csv"] = Served(b"1", etag='"1"')
        with pytest.raises(
            DatasetRefused, match=r"localhost:\d+ cannot be trusted: unable to get local issuer"
        ):
            source_of(HttpPlace(lambda spec: open_door)).look(wine(web))
        trusting = replace(open_door, settings={"ca_file": str(authority.certificate)})
        source = source_of(HttpPlace(lambda spec: trusting))
        assert fetched(source, wine(web)) == {"wine.csv": b"1"}
        misnamed = replace(wine(web), path=wine(web).path.replace("localhost", "127.0.0.1"))
        with pytest.raises(DatasetRefused, match=r"'127\.0\.0\.1' doesn't match"):
            source.look(misnamed)


def test_a_redirect_from_https_to_http_is_refused(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset], open_door: Access, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path / "ca")
    trusting = replace(open_door, settings={"ca_file": str(authority.certificate)})
    web.files["/real.csv"] = Served(b"1", etag='"1"')
    with DataWeb(authority.server).serving() as secure:
        secure.files["/wine.csv"] = Served(status=302, headers={"Location": f"{web.url}/real.csv"})
        with pytest.raises(DatasetRefused, match="redirects from https to http"):
            source_of(HttpPlace(lambda spec: trusting)).look(wine(secure))
    assert web.seen == []


def test_a_dataset_that_left_the_configuration_is_refused(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    with pytest.raises(DatasetRefused, match="the configuration no longer says how"):
        source_of(HttpPlace(lambda spec: None)).look(wine(web))


def test_what_the_disk_damaged_is_fetched_again(web: DataWeb, source: RemoteDataset, tmp_path: Path) -> None:
    web.files["/wine.csv"] = Served(b"right", etag='"1"')
    entries = source.materialise(wine(web), source.snapshot(wine(web), (), quiet).entries, quiet)
    (kept,) = (path for path in (tmp_path / "datasets" / "files").rglob("*") if len(path.name) == 64)
    kept.write_bytes(b"wrong")
    assert contents(source, wine(web), entries) == {"wine.csv": b"right"}
    kept.write_bytes(b"other")
    source.verify(wine(web), entries)
    assert kept.read_bytes() == b"right"


def test_what_was_removed_to_make_room_is_fetched_when_it_is_read(
    web: DataWeb, source: RemoteDataset, cache: Cache
) -> None:
    web.files["/wine.csv"] = Served(b"again", etag='"1"')
    entries = source.materialise(wine(web), source.snapshot(wine(web), (), quiet).entries, quiet)
    cache.make_room(cache.limit, ())
    with source.part(wine(web), entries[0], 2, 2) as part:
        assert part.read() == b"ai"
