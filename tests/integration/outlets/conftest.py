"""A server that speaks S3's language with buckets on it, and a world in which runs pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.services.worlds import World

if TYPE_CHECKING:
    from tests.support.bucket import Bucket


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    from tests.support.bucket import s3_running

    with s3_running() as address:
        yield address


@pytest.fixture
def results_bucket(s3_address: str) -> Bucket:
    from tests.support.bucket import new_bucket

    return new_bucket(s3_address)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    made = World(folder)
    yield made
    made.close()
