"""Row of security.md: server-side request forgery by dataset URLs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.addresses import may_be_asked
from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.http import HttpPlace
from orchestrator.adapters.datasets.huggingface import HuggingFacePlace
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.s3 import S3Place
from orchestrator.domain.errors import DatasetRefused
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.dataweb import DataWeb, Served
from tests.support.remotedata import fetched

NEVER = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "::7f00:1",
    "::a9fe:a9fe",
    "::ffff:0:7f00:1",
    "64:ff9b:1::7f00:1",
    "fec0::1",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "::",
    "224.0.0.1",
    "ff02::1",
    "nonsense",
]
PRIVATE = [
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "fd12::1",
]


@pytest.fixture
def inside() -> Iterator[DataWeb]:
    with DataWeb().serving() as server:
        server.files["/secret"] = Served(b"secret", etag='"1"')
        yield server


def source(tmp_path: Path, access: Access | None = None) -> RemoteDataset:
    return RemoteDataset(HttpPlace(lambda spec: access or Access()), Cache(tmp_path, 1 << 20))


def dataset(url: str) -> DatasetSpec:
    return DatasetSpec("wine", url, kind=DatasetKind.HTTP)


@pytest.mark.parametrize("address", NEVER)
def test_addresses_of_credentials_and_of_no_server_are_never_asked(address: str) -> None:
    assert not may_be_asked(address, allow_private=False)
    assert not may_be_asked(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_asked_only_when_allowed(address: str) -> None:
    assert not may_be_asked(address, allow_private=False)
    assert may_be_asked(address, allow_private=True)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_may_be_asked(address: str) -> None:
    assert may_be_asked(address, allow_private=False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f000001", "2130706433", "127.1"]
)
def test_a_private_address_is_refused_however_it_is_written(
    tmp_path: Path, inside: DataWeb, host: str
) -> None:
    with pytest.raises(DatasetRefused, match="an address that may not be asked"):
        source(tmp_path).look(dataset(f"http://{host}:{inside.port}/secret"))
    assert inside.seen == []


def test_a_redirect_to_the_metadata_of_a_cloud_is_refused(tmp_path: Path, inside: DataWeb) -> None:
    inside.files["/wine.csv"] = Served(status=302, headers={"Location": "http://169.254.169.254/latest/"})
    asker = source(tmp_path, Access(allow_private=True))
    with pytest.raises(DatasetRefused, match=r"169\.254\.169\.254 is an address that may not be asked"):
        asker.look(dataset(f"{inside.url}/wine.csv"))


def test_a_redirect_of_a_public_server_to_a_private_address_is_refused(
    tmp_path: Path, inside: DataWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orchestrator.adapters.datasets.web as way

    with DataWeb().serving() as public:
        # Only this one server of the test's own counts as public.
        public.files["/wine.csv"] = Served(status=302, headers={"Location": f"{inside.url}/secret"})
        asked: list[str] = []

        def allowed(address: str, *, allow_private: bool) -> bool:
            asked.append(address)
            return len(asked) == 1 or may_be_asked(address, allow_private=allow_private)

        monkeypatch.setattr(way, "may_be_asked", allowed)
        with pytest.raises(DatasetRefused, match="may not be asked"):
            source(tmp_path).look(dataset(f"{public.url}/wine.csv"))
    assert inside.seen == []


def test_a_name_that_changes_its_mind_after_it_was_checked_changes_nothing(
    tmp_path: Path, inside: DataWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    answers: list[str] = []

    def resolved(host: object, *arguments: object, **options: object) -> object:
        if host != "rebinding.example.org":
            return real(host, *arguments, **options)  # type: ignore[arg-type]
        answers.append("127.0.0.1" if not answers else "169.254.169.254")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[-1], inside.port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    inside.files["/wine.csv"] = Served(b"1", etag='"1"')
    asker = source(tmp_path, Access(allow_private=True))
    assert asker.look(dataset(f"http://rebinding.example.org:{inside.port}/wine.csv")).files == 1
    assert answers == ["127.0.0.1"]
    assert inside.seen[0].headers["Host"] == f"rebinding.example.org:{inside.port}"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/x", "gopher://127.0.0.1/"])
def test_a_redirect_to_something_else_than_the_web_is_refused(
    tmp_path: Path, inside: DataWeb, target: str
) -> None:
    inside.files["/wine.csv"] = Served(status=301, headers={"Location": target})
    with pytest.raises(DatasetRefused, match="is no address that may be asked"):
        source(tmp_path, Access(allow_private=True)).look(dataset(f"{inside.url}/wine.csv"))


def test_redirects_in_a_circle_end(tmp_path: Path, inside: DataWeb) -> None:
    inside.files["/a"] = Served(status=302, headers={"Location": "/a"})
    with pytest.raises(DatasetRefused, match="redirects more than 5 times"):
        source(tmp_path, Access(allow_private=True)).look(dataset(f"{inside.url}/a"))
    assert len(inside.seen) == 6


def test_servers_of_buckets_and_hubs_are_asked_by_the_same_rules(tmp_path: Path, inside: DataWeb) -> None:
    keys = Access({"access_key": "a", "secret_key": "b"})
    options = (("endpoint", inside.url),)
    bucket = DatasetSpec("wine", "s3://data/wine", kind=DatasetKind.S3, options=options)
    hub = DatasetSpec("wine", "acme/wine", kind=DatasetKind.HUGGING_FACE, options=options)
    cache = Cache(tmp_path, 1 << 20)
    with pytest.raises(DatasetRefused, match="may not be asked"):
        RemoteDataset(S3Place(lambda spec: keys), cache).look(bucket)
    with pytest.raises(DatasetRefused, match="may not be asked"):
        RemoteDataset(HuggingFacePlace(lambda spec: keys), cache).look(hub)
    assert inside.seen == []


def test_a_private_server_is_asked_when_the_administrator_allows_it(tmp_path: Path, inside: DataWeb) -> None:
    asker = source(tmp_path, Access(allow_private=True))
    assert fetched(asker, dataset(f"{inside.url}/secret")) == {"secret": b"secret"}
