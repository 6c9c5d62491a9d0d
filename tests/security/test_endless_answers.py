"""Row of security.md: a server of data whose answers never end, or come a byte at a time."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.http import HttpPlace
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.s3 import S3Place
from orchestrator.adapters.datasets.web import Web
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.ports.world import Listing
from tests.support.dataweb import DataWeb, Served
from tests.support.gitserver import make_authority
from tests.support.remotedata import quiet

OPEN = Access({"access_key": "a", "secret_key": "b"}, allow_private=True)
PAGE = b"<ListBucketResult><IsTruncated>false</IsTruncated>"
Drip = Callable[[], Iterator[bytes]]


@pytest.fixture
def web() -> Iterator[DataWeb]:
    with DataWeb().serving() as server:
        yield server


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def drip(over: threading.Event) -> Drip:
    """A byte now and then, so that it is never silent."""

    def dripping() -> Iterator[bytes]:
        while not over.wait(0.05):
            yield b"x"

    return dripping


@pytest.fixture
def endless(over: threading.Event) -> Drip:
    return lambda: itertools.takewhile(lambda _: not over.is_set(), itertools.repeat(b"<x/>" * 4096))


def source(tmp_path: Path, place: Place) -> RemoteDataset:
    return RemoteDataset(place, Cache(tmp_path, 1 << 24), sleep=lambda _: None)


def http(tmp_path: Path) -> RemoteDataset:
    return source(tmp_path, HttpPlace(lambda _: OPEN, Web(silence=0.3)))


def s3(tmp_path: Path) -> RemoteDataset:
    return source(tmp_path, S3Place(lambda _: OPEN, Web(silence=0.3)))


def file(url: str) -> DatasetSpec:
    return DatasetSpec("wine", url, kind=DatasetKind.HTTP)


def bucket(web: DataWeb) -> DatasetSpec:
    return DatasetSpec("wine", "s3://data/wine", kind=DatasetKind.S3, options=(("endpoint", web.url),))


def ended(act: Callable[[], Listing | object], over: threading.Event) -> object:
    """What it comes to; a failure when it is still going on after a while."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(act)
        try:
            return done.result(20)
        finally:
            over.set()


def test_what_a_redirect_says_besides_is_not_read(
    tmp_path: Path, web: DataWeb, endless: Drip, over: threading.Event
) -> None:
    web.files["/wine.csv"] = Served(status=405)
    web.answer = lambda seen, _: (
        Served(status=302, headers={"Location": "/there"}, sized=False, rest=endless)
        if seen.method == "GET" and seen.target == "/wine.csv"
        else None
    )
    web.files["/there"] = Served(b"1", etag='"1"')
    found = ended(lambda: http(tmp_path).look(file(f"{web.url}/wine.csv")), over)
    assert isinstance(found, Listing)
    assert found.files == 1


@pytest.mark.parametrize("sized", [False, True])
def test_content_that_drips_is_given_up(
    tmp_path: Path, web: DataWeb, drip: Drip, over: threading.Event, sized: bool
) -> None:
    length = {"Content-Length": "1000000", "Content-Encoding": "identity"} if sized else {}
    web.files["/wine.csv"] = Served(sized=False, headers=length, rest=drip)
    with pytest.raises(DatasetUnavailable, match="sends too slowly: less than 1 KiB a second"):
        ended(lambda: http(tmp_path).look(file(f"{web.url}/wine.csv")), over)


def test_content_that_drips_by_https_is_given_up(tmp_path: Path, drip: Drip, over: threading.Event) -> None:
    authority = make_authority(tmp_path / "ca")
    access = Access(settings={"ca_file": str(authority.certificate)}, allow_private=True)
    with DataWeb(authority.server).serving() as web:
        web.files["/wine.csv"] = Served(sized=False, rest=drip)
        asker = source(tmp_path, HttpPlace(lambda _: access, Web(silence=0.3)))
        with pytest.raises(DatasetUnavailable, match="sends too slowly"):
            ended(lambda: asker.look(file(f"{web.url}/wine.csv")), over)


def test_chunks_that_drip_are_given_up(
    tmp_path: Path, web: DataWeb, drip: Drip, over: threading.Event
) -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    web.files["/wine.csv"] = Served(
        sized=False, headers=chunked, rest=lambda: (b"1\r\n%b\r\n" % byte for byte in drip())
    )
    with pytest.raises(DatasetUnavailable, match="sends too slowly"):
        ended(lambda: http(tmp_path).look(file(f"{web.url}/wine.csv")), over)


def test_the_beginning_of_an_answer_that_drips_is_given_up(
    tmp_path: Path, drip: Drip, over: threading.Event
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    for byte in drip():
                        connection.sendall(byte)
                except OSError:
                    return

        serving = threading.Thread(target=serve)
        serving.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/wine.csv"
        with pytest.raises(DatasetUnavailable, match="answers too slowly"):
            ended(lambda: http(tmp_path).look(file(url)), over)
        serving.join()


@pytest.mark.parametrize("status", [200, 400])
def test_what_a_bucket_answers_is_not_kept_without_end(
    tmp_path: Path, web: DataWeb, endless: Drip, over: threading.Event, status: int
) -> None:
    web.answer = lambda seen, _: Served(PAGE, status=status, sized=False, rest=endless)
    with pytest.raises(DatasetUnavailable, match="an answer is too long, or takes too long"):
        ended(lambda: s3(tmp_path).look(bucket(web)), over)


def test_an_object_that_drips_is_given_up(
    tmp_path: Path, web: DataWeb, drip: Drip, over: threading.Event
) -> None:
    length = {"Content-Length": "1000000"}
    web.answer = lambda seen, _: Served(etag='"1"', sized=False, headers=length, rest=drip)
    entry = FileEntry("a.csv", 1000000, "", 'etag:"1"')
    with pytest.raises(DatasetUnavailable, match="sends too slowly"):
        ended(lambda: s3(tmp_path).materialise(bucket(web), [entry], quiet), over)
