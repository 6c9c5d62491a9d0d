"""Row of security.md: a server of data whose listing has always one more page or folder."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.datasets import bounds
from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.gcs import GcsPlace
from orchestrator.adapters.datasets.huggingface import HuggingFacePlace
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.s3 import S3Place
from orchestrator.domain.errors import DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.dataweb import DataWeb, Seen, Served

OPEN = Access(allow_private=True)
ANONYMOUS = Access(allow_private=True, anonymous=True)


@pytest.fixture
def web() -> Iterator[DataWeb]:
    with DataWeb().serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PAGES", 20)
    monkeypatch.setattr(bounds, "FILES", 50)


class Pages:
    """A server that always has one more page; with ``circle`` set, again and again the same two."""

    def __init__(self, kind: DatasetKind, *, circle: bool, files: int = 1) -> None:
        self._kind, self._files = kind, files
        self._tokens = itertools.cycle("ab") if circle else map(str, itertools.count())
        self._names = map(str, itertools.count())

    def __call__(self, seen: Seen, _: bytes) -> Served:
        token = next(self._tokens)
        names = [next(self._names) for _ in range(self._files)]
        if self._kind is DatasetKind.S3:
            listed = "".join(
                f"<Contents><Key>wine/{name}</Key><Size>1</Size><ETag>1</ETag></Contents>" for name in names
            )
            text = (
                f"<ListBucketResult><IsTruncated>true</IsTruncated>{listed}"
                f"<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
            )
            return Served(text.encode())
        if self._kind is DatasetKind.GCS:
            items = [{"name": f"wine/{name}", "size": "1", "generation": "1"} for name in names]
            return Served(json.dumps({"nextPageToken": token, "items": items}).encode())
        if "/revision/" in seen.target:
            return Served(json.dumps({"sha": "a" * 40}).encode())
        tree = [{"type": "file", "path": name, "oid": "b" * 40, "size": 1} for name in names]
        following = {"Link": f'</api/datasets/a/b/tree/x?cursor={token}>; rel="next"'}
        return Served(json.dumps(tree).encode(), headers=following)


def look(web: DataWeb, tmp_path: Path, kind: DatasetKind) -> None:
    places: dict[DatasetKind, tuple[Place, str]] = {
        DatasetKind.S3: (S3Place(lambda _: ANONYMOUS), "s3://data/wine"),
        DatasetKind.GCS: (GcsPlace(lambda _: OPEN), "gs://data/wine"),
        DatasetKind.HUGGING_FACE: (HuggingFacePlace(lambda _: OPEN), "a/b"),
    }
    place, path = places[kind]
    options = (("endpoint", web.url),)
    RemoteDataset(place, Cache(tmp_path, 1 << 20)).look(DatasetSpec("wine", path, kind=kind, options=options))


KINDS = [DatasetKind.S3, DatasetKind.GCS, DatasetKind.HUGGING_FACE]


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_of_more_and_more_pages_is_given_up(
    web: DataWeb, tmp_path: Path, kind: DatasetKind
) -> None:
    web.answer = Pages(kind, circle=False)
    with pytest.raises(DatasetUnavailable, match=r"was given up: it has more than 20 pages"):
        look(web, tmp_path, kind)
    assert len(web.seen) <= 22


@pytest.mark.parametrize("kind", KINDS[1:])
def test_pages_in_a_circle_are_given_up(web: DataWeb, tmp_path: Path, kind: DatasetKind) -> None:
    web.answer = Pages(kind, circle=True)
    with pytest.raises(DatasetUnavailable, match=r"was given up: its pages go in a circle"):
        look(web, tmp_path, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_listing_of_more_and_more_files_is_given_up(
    web: DataWeb, tmp_path: Path, kind: DatasetKind
) -> None:
    web.answer = Pages(kind, circle=False, files=10)
    with pytest.raises(DatasetUnavailable, match=r"was given up: it has more than 50 files"):
        look(web, tmp_path, kind)


def test_a_listing_that_takes_hours_is_given_up(
    web: DataWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 0.0)
    web.answer = Pages(DatasetKind.GCS, circle=False)
    with pytest.raises(DatasetUnavailable, match=r"was given up: it takes longer than 0 s"):
        look(web, tmp_path, DatasetKind.GCS)
