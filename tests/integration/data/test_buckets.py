"""Objects in S3, on a server that speaks its language, and in Google's buckets, on a stand-in for its API."""

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.gcs import GcsPlace
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.s3 import S3Place
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.bucket import KEYS, Bucket
from tests.support.dataweb import DataWeb, Seen, Served
from tests.support.remotedata import contents, fetched, quiet


@pytest.fixture
def s3(source_of: Callable[[Place], RemoteDataset]) -> RemoteDataset:
    return source_of(S3Place(lambda spec: KEYS))


def test_objects_below_a_name_are_the_files(bucket: Bucket, s3: RemoteDataset) -> None:
    bucket.put("wine/train.csv", b"train")
    bucket.put("wine/more/test set.csv", b"test")
    bucket.put("wine/folder/", b"")
    bucket.put("wine-old/train.csv", b"other data")
    assert fetched(s3, bucket.dataset()) == {"train.csv": b"train", "more/test set.csv": b"test"}
    assert fetched(s3, bucket.dataset("wine/train.csv")) == {"train.csv": b"train"}
    assert set(fetched(s3, bucket.dataset(""))) == {
        "wine/train.csv",
        "wine/more/test set.csv",
        "wine-old/train.csv",
    }


def test_a_bucket_changes_when_an_object_is_changed_added_or_deleted_and_not_else(
    bucket: Bucket, s3: RemoteDataset
) -> None:
    seen = set()
    bucket.put("wine/a", b"1")
    seen.add(s3.look(bucket.dataset()).signature)
    seen.add(s3.look(bucket.dataset()).signature)
    assert len(seen) == 1
    bucket.put("wine/a", b"2")
    seen.add(s3.look(bucket.dataset()).signature)
    bucket.put("wine/b", b"2")
    seen.add(s3.look(bucket.dataset()).signature)
    bucket.delete("wine/a")
    seen.add(s3.look(bucket.dataset()).signature)
    assert len(seen) == 4
    bucket.delete("wine/b")
    with pytest.raises(DatasetUnavailable, match=r"no file in s3://.* counts"):
        s3.look(bucket.dataset())


def test_patterns_choose_among_objects(bucket: Bucket, s3: RemoteDataset) -> None:
    for name in ("a.csv", "a.tmp", "deep/b.csv"):
        bucket.put(f"wine/{name}", b"1")
    dataset = replace(bucket.dataset(), include=("**.csv",), exclude=("deep/**",))
    assert set(fetched(s3, dataset)) == {"a.csv"}


def test_an_object_that_was_overwritten_since_is_said(bucket: Bucket, s3: RemoteDataset) -> None:
    bucket.put("wine/a", b"old")
    pinned = s3.snapshot(bucket.dataset(), (), quiet).entries
    bucket.put("wine/a", b"new")
    with pytest.raises(DatasetMoved, match="another object has its name by now"):
        s3.materialise(bucket.dataset(), pinned, quiet)
    bucket.delete("wine/a")
    with pytest.raises(DatasetMoved):
        s3.materialise(bucket.dataset(), pinned, quiet)


def test_with_versions_a_run_gets_its_data_although_they_changed(bucket: Bucket, s3: RemoteDataset) -> None:
    bucket.keep_versions()
    dataset = bucket.dataset(versions="true")
    bucket.put("wine/a", b"old")
    bucket.put("wine/b", b"kept")
    pinned = s3.snapshot(dataset, (), quiet)
    bucket.put("wine/a", b"new")
    bucket.delete("wine/b")
    assert contents(s3, dataset, pinned.entries) == {"a": b"old", "b": b"kept"}
    assert fetched(s3, dataset) == {"a": b"new"}
    assert s3.snapshot(dataset, (), quiet).fingerprint != pinned.fingerprint


def test_a_marker_older_than_an_object_says_that_data_are_being_written(
    bucket: Bucket, s3: RemoteDataset
) -> None:
    dataset = replace(bucket.dataset(), marker="_SUCCESS")
    bucket.put("wine/a", b"1")
    assert not s3.look(dataset).whole
    bucket.put("wine/_SUCCESS", b"")
    listing = s3.look(dataset)
    assert listing.whole
    assert listing.files == 1


def test_a_bucket_that_is_not_there_is_said(bucket: Bucket, s3: RemoteDataset) -> None:
    dataset = replace(bucket.dataset(), path="s3://nobody-has-this/wine")
    with pytest.raises(DatasetUnavailable, match="is not there: the server says NoSuchBucket"):
        s3.look(dataset)


def test_a_bucket_without_permission_is_one_clear_refusal(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    web.answer = lambda seen, body: Served(denied, status=403, headers={"Content-Type": "application/xml"})
    s3 = source_of(S3Place(lambda spec: KEYS))
    with pytest.raises(DatasetRefused, match="may not be read: the server says AccessDenied; check the key"):
        s3.look(on(web))


def listed(name: str, etag: str, following: str = "") -> Served:
    """One object of a listing, and where the next page begins."""
    more = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    content = (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>data</Name><Prefix>wine'
        f"</Prefix><KeyCount>1</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>{str(bool(following)).lower()}"
        f"</IsTruncated>{more}<Contents><Key>wine/{name}</Key><LastModified>2026-11-02T10:00:00.000Z"
        f"</LastModified><ETag>{etag}</ETag><Size>3</Size></Contents></ListBucketResult>"
    )
    return Served(content.encode(), headers={"Content-Type": "application/xml"})


def on(web: DataWeb) -> DatasetSpec:
    return DatasetSpec("wine", "s3://data/wine", kind=DatasetKind.S3, options=(("endpoint", web.url),))


def test_a_listing_of_several_pages_is_read_to_its_end(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    def answer(seen: Seen, body: bytes) -> Served:
        return listed("b", '"2"') if "continuation-token=more" in seen.target else listed("a", '"1"', "more")

    web.answer = answer
    s3 = source_of(S3Place(lambda spec: KEYS))
    assert [entry.path for entry in s3.snapshot(on(web), (), quiet).entries] == ["a", "b"]


def test_a_server_that_does_not_know_conditions_is_seen_through(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    def answer(seen: Seen, body: bytes) -> Served:
        return (
            listed("a", '"one"') if "list-type" in seen.target else Served(b"new", headers={"ETag": '"two"'})
        )

    web.answer = answer
    s3 = source_of(S3Place(lambda spec: KEYS))
    pinned = s3.snapshot(on(web), (), quiet).entries
    with pytest.raises(DatasetMoved):
        s3.materialise(on(web), pinned, quiet)


def test_another_key_counts_from_the_next_look_on(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    web.answer = lambda seen, body: listed("a", '"one"')
    access = [KEYS]
    s3 = source_of(S3Place(lambda spec: access[0]))
    s3.look(on(web))
    access[0] = replace(KEYS, secrets={"access_key": "renewed", "secret_key": "renewed"})
    s3.look(on(web))
    assert [seen.headers["Authorization"].partition("/")[0] for seen in web.seen] == [
        "AWS4-HMAC-SHA256 Credential=testing",
        "AWS4-HMAC-SHA256 Credential=renewed",
    ]


class GoogleStandIn:
    """The JSON API of Google Cloud Storage, as far as it is documented for listing and reading objects."""

    def __init__(self, web: DataWeb, token: str = "") -> None:
        self.web = web
        self.token = token
        self.objects: dict[str, list[tuple[int, bytes]]] = {}
        self.page = 2
        self._generation = 1_700_000_000_000_000
        web.answer = self._answer

    def put(self, name: str, content: bytes, *, keep: bool = False) -> None:
        self._generation += 1
        older = self.objects.get(name, []) if keep else []
        self.objects[name] = [*older, (self._generation, content)]

    def _answer(self, seen: Seen, body: bytes) -> Served | None:
        parts = urlsplit(seen.target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            assert parse_qs(body.decode())["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
            answer = {"access_token": "ya29.granted", "expires_in": 3600, "token_type": "Bearer"}
            return Served(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})
        if self.token and seen.headers.get("Authorization") != f"Bearer {self.token}":
            return Served(b'{"error": {"code": 401}}', status=401)
        if parts.path == "/storage/v1/b/data/o":
            return Served(json.dumps(self._listed(query)).encode())
        name = unquote(parts.path.removeprefix("/storage/v1/b/data/o/"))
        wanted = int(query["generation"])
        found = [content for number, content in self.objects.get(name, []) if number == wanted]
        return Served(found[0]) if found and query["alt"] == "media" else None

    def _listed(self, query: dict[str, str]) -> dict[str, object]:
        names = [name for name in sorted(self.objects) if name.startswith(query.get("prefix", ""))]
        begin = int(query.get("pageToken", "0"))
        items = [
            {
                "name": name,
                "size": str(len(self.objects[name][-1][1])),
                "generation": str(self.objects[name][-1][0]),
                "updated": "2026-11-02T10:00:00.000Z",
            }
            for name in names[begin : begin + self.page]
        ]
        answer: dict[str, object] = {"items": items} if items else {}
        if begin + self.page < len(names):
            answer["nextPageToken"] = str(begin + self.page)
        return answer


@pytest.fixture
def google(web: DataWeb) -> GoogleStandIn:
    return GoogleStandIn(web)


def gcs_dataset(google: GoogleStandIn) -> DatasetSpec:
    return DatasetSpec(
        "wine", "gs://data/wine", kind=DatasetKind.GCS, options=(("endpoint", google.web.url),)
    )


def test_objects_in_googles_buckets_are_listed_page_by_page(
    google: GoogleStandIn, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    for name in ("wine/a", "wine/b b", "wine/c/d", "wine/folder/", "wines/e"):
        google.put(name, name.encode())
    gcs = source_of(GcsPlace(lambda spec: open_door))
    wanted = {"a": b"wine/a", "b b": b"wine/b b", "c/d": b"wine/c/d"}
    assert fetched(gcs, gcs_dataset(google)) == wanted


def test_a_generation_that_is_kept_is_what_a_run_gets_and_one_that_is_gone_is_said(
    google: GoogleStandIn, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    gcs = source_of(GcsPlace(lambda spec: open_door))
    dataset = gcs_dataset(google)
    google.put("wine/kept", b"old")
    google.put("wine/lost", b"old")
    pinned = gcs.snapshot(dataset, (), quiet).entries
    google.put("wine/kept", b"new", keep=True)
    assert contents(gcs, dataset, pinned[:1]) == {"kept": b"old"}
    google.put("wine/lost", b"new")
    with pytest.raises(DatasetMoved, match="lost is not what it was: that generation"):
        gcs.materialise(dataset, pinned, quiet)


def test_a_service_account_logs_in_by_its_key(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset]
) -> None:
    google = GoogleStandIn(web, token="ya29.granted")
    google.put("wine/a", b"1")
    dataset = gcs_dataset(google)
    with pytest.raises(DatasetRefused, match="may not be read: the server answers 401"):
        source_of(GcsPlace(lambda spec: Access(allow_private=True))).look(dataset)
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {
        "type": "service_account",
        "client_email": "ci@acme.example.org",
        "private_key": key.decode(),
        "private_key_id": "1",
        "token_uri": f"{web.url}/token",
    }
    gcs = source_of(GcsPlace(lambda spec: Access({"credentials": json.dumps(info)}, allow_private=True)))
    assert fetched(gcs, dataset) == {"a": b"1"}
    assert web.asked("POST") == ["/token"]


def test_a_key_that_is_none_is_refused_without_being_shown(
    google: GoogleStandIn, source_of: Callable[[Place], RemoteDataset]
) -> None:
    gcs = source_of(GcsPlace(lambda spec: Access({"credentials": "hunter2"}, allow_private=True)))
    with pytest.raises(DatasetRefused, match="is no key of a service account") as told:
        gcs.look(gcs_dataset(google))
    assert "hunter2" not in str(told.value)
