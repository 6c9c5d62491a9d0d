"""Results become objects of a bucket, on a server that speaks S3's language."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from orchestrator.adapters import buckets
from orchestrator.adapters.buckets import Bucket, S3Stores
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ActionRejected, ActionUnavailable, NotFound
from orchestrator.ports.progress import ProgressEvent
from tests.support.bucket import Bucket as FullBucket

PART = 5 << 20
"""The smallest part that the protocol allows."""
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


def quiet(event: ProgressEvent) -> None:
    pass


def file_of(content: bytes, path: str = "model.bin") -> ReleaseFile:
    return ReleaseFile(path, len(content), hashlib.sha256(content).hexdigest())


class Reading:
    """A content, with how often it was asked for; it breaks off after ``until`` bytes."""

    def __init__(self, content: bytes, until: int | None = None) -> None:
        self.content = content if until is None else content[:until]
        self.broken = until is not None
        self.times = 0

    def __call__(self) -> BinaryIO:
        self.times += 1
        return cast("BinaryIO", _Breaking(self.content)) if self.broken else io.BytesIO(self.content)


class _Breaking(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        read = super().read(size)
        if not read:
            raise ActionUnavailable("the disk went away")
        return read


class Seen:
    """What is in a bucket, seen by another client."""

    def __init__(self, bucket: FullBucket) -> None:
        self.name = bucket.name
        self.endpoint = bucket.options["endpoint"]
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **KEYS)

    def content(self, key: str) -> bytes:
        return cast("bytes", self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def keys(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def unfinished(self) -> list[dict[str, str]]:
        return list(self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", []))


@pytest.fixture
def seen(results_bucket: FullBucket) -> Seen:
    return Seen(results_bucket)


@pytest.fixture
def stores(seen: Seen) -> S3Stores:
    return S3Stores({"models": bucket_of(seen)}, part=PART)


def bucket_of(seen: Seen, endpoint: str = "", allow_private: bool = True) -> Bucket:
    address = f"s3://{seen.name}/ci"
    return Bucket("models", address, lambda: KEYS, endpoint or seen.endpoint, "us-east-1", allow_private)


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[object], None]) -> None:
    """Have each client of the stores changed when it is made."""
    made = buckets._client

    def changing(bucket: Bucket) -> object:
        client = made(bucket)
        change(client)
        return client

    monkeypatch.setattr(buckets, "_client", changing)


def test_a_small_file_becomes_an_object_below_the_stores_prefix(seen: Seen, stores: S3Stores) -> None:
    name = "wine/7/a 'quoted' näme.bin"
    assert stores.put("models", name, file_of(b"weights"), Reading(b"weights"), quiet)
    assert seen.keys() == [f"ci/{name}"]
    assert seen.content(f"ci/{name}") == b"weights"
    assert stores.shown("models", "wine/7") == f"s3://{seen.name}/ci/wine/7"


def test_what_is_there_already_is_neither_read_nor_sent_again(seen: Seen, stores: S3Stores) -> None:
    stores.put("models", "model", file_of(b"weights"), Reading(b"weights"), quiet)
    again = Reading(b"weights")
    assert not stores.put("models", "model", file_of(b"weights"), again, quiet)
    assert again.times == 0
    assert stores.put("models", "model", file_of(b"other!!"), Reading(b"other!!"), quiet)
    assert seen.content("ci/model") == b"other!!"


def test_a_large_file_goes_in_parts_and_tells_how_far_it_is(seen: Seen, stores: S3Stores) -> None:
    content = bytes(range(256)) * ((2 * PART + 4096) // 256)
    events: list[ProgressEvent] = []
    assert stores.put("models", "model", file_of(content), Reading(content), events.append)
    assert seen.content("ci/model") == content
    assert seen.unfinished() == []
    assert [event.done for event in events] == [PART, 2 * PART, len(content)]


def test_an_upload_that_was_cut_off_is_continued_and_nothing_shows_meanwhile(
    seen: Seen, stores: S3Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * ((2 * PART + 4096) // 256)
    with pytest.raises(ActionUnavailable, match="the disk went away"):
        stores.put("models", "model", file_of(content), Reading(content, until=PART), quiet)
    assert seen.keys() == []
    (begun,) = seen.unfinished()
    before = seen.client.list_parts(Bucket=seen.name, Key="ci/model", UploadId=begun["UploadId"])["Parts"]
    assert [part["PartNumber"] for part in before] == [1]
    sent: list[int] = []
    made = buckets._client

    def counting(bucket: Bucket) -> object:
        client = made(bucket)
        upload = client.upload_part

        def part(**arguments: object) -> object:
            sent.append(cast("int", arguments["PartNumber"]))
            return upload(**arguments)  # type: ignore[arg-type]  # as it was called

        monkeypatch.setattr(client, "upload_part", part)
        return client

    monkeypatch.setattr(buckets, "_client", counting)
    assert stores.put("models", "model", file_of(content), Reading(content), quiet)
    assert seen.content("ci/model") == content
    assert sent == [2, 3]


def test_an_upload_that_was_begun_of_other_content_is_removed_and_begun_anew(
    seen: Seen, stores: S3Stores
) -> None:
    first, second = b"a" * (PART + 1), b"b" * (PART + 1)
    with pytest.raises(ActionUnavailable):
        stores.put("models", "model", file_of(first), Reading(first, until=PART), quiet)
    with pytest.raises(ActionUnavailable, match="of other content"):
        stores.put("models", "model", file_of(second), Reading(second), quiet)
    assert seen.unfinished() == []
    assert stores.put("models", "model", file_of(second), Reading(second), quiet)
    assert seen.content("ci/model") == second


@pytest.mark.parametrize("size", [7, PART + 1])
def test_what_another_run_puts_there_meanwhile_stays(
    seen: Seen, stores: S3Stores, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    ours, theirs = b"a" * size, b"b" * size
    sending = "put_object" if size < PART else "complete_multipart_upload"

    def overtaken(client: object) -> None:
        send = getattr(client, sending)

        def then_theirs(**arguments: object) -> object:
            made = send(**arguments)
            monkeypatch.undo()
            assert stores.put("models", "latest", file_of(theirs), Reading(theirs), quiet)
            return made

        monkeypatch.setattr(client, sending, then_theirs)

    changed(monkeypatch, overtaken)
    with pytest.raises(ActionUnavailable, match="latest is not what was sent"):
        stores.put("models", "latest", file_of(ours), Reading(ours), quiet)
    assert seen.content("ci/latest") == theirs


def test_content_that_got_the_hash_of_another_is_removed(seen: Seen, stores: S3Stores) -> None:
    first = b"a" * (2 * PART)
    second = b"a" * PART + b"b" * PART
    with pytest.raises(ActionUnavailable):
        stores.put("models", "model", file_of(first), Reading(first, until=PART), quiet)
    with pytest.raises(ActionUnavailable, match="model is not what was sent"):
        stores.put("models", "model", file_of(second), Reading(second), quiet)
    assert seen.keys() == []
    assert stores.put("models", "model", file_of(second), Reading(second), quiet)


def test_a_key_that_may_only_write_leaves_the_object_and_says_that_it_is_unchecked(
    seen: Seen, stores: S3Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(client: object) -> None:
        def head(**_: object) -> object:
            answer = {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(cast("Any", answer), "HeadObject")

        monkeypatch.setattr(client, "head_object", head)

    changed(monkeypatch, blind)
    events: list[ProgressEvent] = []
    assert stores.put("models", "model", file_of(b"weights"), Reading(b"weights"), events.append)
    assert seen.content("ci/model") == b"weights"
    assert "cannot be checked" in events[-1].what


@pytest.mark.parametrize("size", [7, PART + 1])
def test_content_that_is_not_what_the_run_left_is_never_put_there(
    seen: Seen, stores: S3Stores, size: int
) -> None:
    file = file_of(b"a" * size)
    with pytest.raises(ActionRejected, match=r"model\.bin is not what the run left"):
        stores.put("models", "model", file, Reading(b"b" * size), quiet)
    assert seen.keys() == []
    assert seen.unfinished() == []


def test_a_bucket_that_is_not_there_is_refused_with_what_to_look_at(seen: Seen) -> None:
    stores = S3Stores(
        {"models": Bucket("models", "s3://nobodys-bucket", lambda: KEYS, seen.endpoint, None, True)}
    )
    with pytest.raises(ActionRejected, match=r"NoSuchBucket.*check that the bucket exists"):
        stores.put("models", "model", file_of(b"x"), Reading(b"x"), quiet)


def test_a_server_that_does_not_answer_is_asked_again_later(seen: Seen) -> None:
    stores = S3Stores({"models": bucket_of(seen, endpoint="http://127.0.0.1:9")})
    with pytest.raises(ActionUnavailable, match=r"store models: ci/model was not taken"):
        stores.put("models", "model", file_of(b"x"), Reading(b"x"), quiet)


def test_private_addresses_are_asked_only_where_the_store_allows_them(seen: Seen) -> None:
    stores = S3Stores({"models": bucket_of(seen, allow_private=False)})
    with pytest.raises(ActionRejected, match=r"127\.0\.0\.1, an address that may not be asked"):
        stores.put("models", "model", file_of(b"x"), Reading(b"x"), quiet)
    assert seen.keys() == []


def test_addresses_that_give_away_credentials_are_never_asked(seen: Seen) -> None:
    stores = S3Stores({"models": bucket_of(seen, endpoint="http://169.254.169.254")})
    with pytest.raises(ActionRejected, match="an address that may not be asked"):
        stores.put("models", "model", file_of(b"x"), Reading(b"x"), quiet)


def test_a_store_that_nobody_configured_is_told_with_those_there_are(stores: S3Stores) -> None:
    with pytest.raises(NotFound, match=r'no store "other"; orchestrator\.yaml has: models'):
        stores.put("other", "model", file_of(b"x"), Reading(b"x"), quiet)
