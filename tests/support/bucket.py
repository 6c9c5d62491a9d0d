"""Buckets on a server that speaks S3's language."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import boto3

from orchestrator.adapters.datasets.access import Access
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec

KEYS = Access({"access_key": "testing", "secret_key": "testing"}, allow_private=True)


@contextmanager
def s3_running() -> Iterator[str]:
    """A server that speaks S3's language, while it is entered: its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Admin(Protocol):
    """What is used of the library to fill buckets."""

    def create_bucket(self, *, Bucket: str) -> object: ...  # noqa: N803
    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> object: ...  # noqa: N803
    def delete_object(self, *, Bucket: str, Key: str) -> object: ...  # noqa: N803
    def put_bucket_versioning(self, *, Bucket: str, VersioningConfiguration: dict[str, str]) -> object: ...  # noqa: N803


class Bucket:
    """A bucket of one test's own."""

    def __init__(self, endpoint: str, admin: Admin) -> None:
        self.name = f"data-{uuid.uuid4().hex[:12]}"
        self._admin = admin
        self._endpoint = endpoint
        admin.create_bucket(Bucket=self.name)

    def put(self, key: str, content: bytes) -> None:
        self._admin.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self._admin.delete_object(Bucket=self.name, Key=key)

    def keep_versions(self) -> None:
        self._admin.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})

    @property
    def options(self) -> dict[str, str]:
        """How it is reached, as options of a dataset."""
        return {"endpoint": self._endpoint, "region": "us-east-1"}

    def dataset(self, prefix: str = "wine", **options: str) -> DatasetSpec:
        told = self.options | options
        path = f"s3://{self.name}/{prefix}".rstrip("/")
        return DatasetSpec("wine", path, kind=DatasetKind.S3, options=tuple(told.items()))


def new_bucket(endpoint: str) -> Bucket:
    """A bucket that nobody else uses."""
    admin = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    return Bucket(endpoint, cast("Admin", admin))
