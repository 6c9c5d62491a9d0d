"""Remote data as the orchestrator sees them: a place that is real, a cache in the test's own folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from tests.support.dataweb import DataWeb

if TYPE_CHECKING:
    from tests.support.bucket import Bucket

LIMIT = 64 << 20

SourceMaker = Callable[[Place], RemoteDataset]


@pytest.fixture
def web() -> Iterator[DataWeb]:
    with DataWeb().serving() as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "datasets", LIMIT)


@pytest.fixture
def source_of(cache: Cache) -> SourceMaker:
    """Makes the source of a kind of place; between two tries nothing is waited for."""
    return lambda place: RemoteDataset(place, cache, sleep=lambda seconds: None)


@pytest.fixture
def open_door() -> Access:
    """Nobody logs in, and this machine's own addresses may be asked."""
    return Access(allow_private=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3's language."""
    from tests.support.bucket import s3_running

    with s3_running() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str) -> Bucket:
    from tests.support.bucket import new_bucket

    return new_bucket(s3_server)
