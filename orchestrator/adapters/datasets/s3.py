"""Objects in S3 and in what speaks its language, told apart by ETag or by version.

The library signs, retries and reads answers; what it sends goes through :class:`Web`, so that also these
servers are asked only at addresses that may be asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Protocol, TypedDict, cast

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from orchestrator.adapters.datasets.access import Access, Accesses, access_to, option
from orchestrator.adapters.datasets.bounds import Bounds
from orchestrator.adapters.datasets.buckets import above, below, bucket_of
from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.datasets.web import CHUNK, Asked, Web, reaching
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import clean, escaped

_CHANGED = frozenset(
    {"PreconditionFailed", "InvalidRange", "NoSuchKey", "NoSuchVersion", "412", "416", "404"}
)
_SHUT = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "401",
        "403",
    }
)
_GONE = frozenset({"NoSuchBucket", "NoSuchKey", "404"})
_SILENCE = 60.0


class _NotThere(DatasetUnavailable):
    """What was asked for is not there."""


class _Object(TypedDict, total=False):
    Key: str
    Size: int
    ETag: str
    LastModified: datetime
    VersionId: str
    IsLatest: bool


class _Body(Protocol):
    def iter_chunks(self, chunk_size: int) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class _Answer(TypedDict):
    Body: _Body
    ETag: str


class _Head(TypedDict):
    ContentLength: int


class _Pages(Protocol):
    def paginate(self, *, Bucket: str, Prefix: str) -> Iterable[Mapping[str, list[_Object]]]: ...  # noqa: N803


class _Client(Protocol):
    """What is used of the library, which has no types."""

    def get_paginator(self, name: str) -> _Pages: ...
    def get_object(self, **arguments: str) -> _Answer: ...
    def head_object(self, *, Bucket: str, Key: str) -> _Head: ...  # noqa: N803


class S3Place:
    """The Place of objects in buckets."""

    def __init__(self, accesses: Accesses, web: Web | None = None) -> None:
        self._accesses = accesses
        self._web = web or Web()
        self._clients: dict[str, tuple[Access, _Client]] = {}
        self._making = threading.Lock()

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """A listing; with ``versions``, one that names the version of each object."""
        bucket, prefix = bucket_of(dataset)
        versions = option(dataset, "versions") is not None
        with _translated(dataset):
            client = self._client(dataset)
            pages = client.get_paginator("list_object_versions" if versions else "list_objects_v2")
            bounds = Bounds(dataset)
            for page in pages.paginate(Bucket=bucket, Prefix=prefix):
                bounds.page()
                for found in page.get("Versions" if versions else "Contents", []):
                    path = below(prefix, found["Key"])
                    if path is not None and found.get("IsLatest", True):
                        yield _file(path, found, versions)

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The rest of the object, of just that version or ETag."""
        bucket, prefix = bucket_of(dataset)
        wanted: dict[str, str] = {"Bucket": bucket}
        kind, _, value = entry.identity.partition(":")
        wanted["VersionId" if kind == "version" else "IfMatch"] = value
        if offset:
            wanted["Range"] = f"bytes={offset}-"
        answer = self._get(dataset, entry, wanted, above(prefix, entry.path))
        if kind == "etag" and answer["ETag"] != value:
            # A server that does not know the condition gives whatever is there.
            answer["Body"].close()
            raise moved(dataset, entry.path, "another object has its name by now")
        try:
            yield _chunks(dataset, answer["Body"])
        finally:
            answer["Body"].close()

    def size(self, dataset: DatasetSpec, bucket: str, key: str) -> int | None:
        """How many bytes an object has; None when there is none."""
        try:
            with _translated(dataset, where=f"s3://{bucket}/{key}"):
                return self._client(dataset).head_object(Bucket=bucket, Key=key)["ContentLength"]
        except _NotThere:
            return None

    @contextmanager
    def contents(self, dataset: DatasetSpec, bucket: str, key: str, offset: int) -> Iterator[Iterator[bytes]]:
        """The bytes of an object from an offset on; whoever asks knows by its name what it has to be."""
        wanted = {"Bucket": bucket, "Key": key} | ({"Range": f"bytes={offset}-"} if offset else {})
        with _translated(dataset, where=f"s3://{bucket}/{key}"):
            answer = self._client(dataset).get_object(**wanted)
        try:
            yield _chunks(dataset, answer["Body"])
        finally:
            answer["Body"].close()

    def _get(
        self, dataset: DatasetSpec, entry: FileEntry, wanted: Mapping[str, str], names: tuple[str, ...]
    ) -> _Answer:
        client = self._client(dataset)
        for name in names[:-1]:
            with suppress(DatasetMoved), _translated(dataset, entry):
                return client.get_object(Key=name, **wanted)
        with _translated(dataset, entry):
            return client.get_object(Key=names[-1], **wanted)

    def _client(self, dataset: DatasetSpec) -> _Client:
        """A client, made anew when the login is another one: making it takes half a second."""
        access = access_to(dataset, self._accesses)
        with self._making:
            known = self._clients.get(dataset.key)
            if known is None or known[0] != access:
                known = self._clients[dataset.key] = (access, self._made(dataset, access))
            return known[1]

    def _made(self, dataset: DatasetSpec, access: Access) -> _Client:
        asked = Asked(dataset.name, access)

        def send(request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
            headers = {str(name): _text(value) for name, value in request.headers.items()}
            raw = self._web.send(asked, str(request.method), str(request.url), headers)
            if event_name.endswith(".GetObject") and raw.status < 300:
                body = _Content(self._web.chunks(asked, raw), raw.close)
            else:
                # The library would read it to its end, wherever that is.
                body = _Content(iter((self._web.text(asked, raw),)), raw.close)
            return AWSResponse(request.url, raw.status, raw.headers, body)

        session = boto3.session.Session(**_keys(access))
        client = session.client(
            "s3",
            endpoint_url=option(dataset, "endpoint"),
            region_name=option(dataset, "region") or session.region_name or "us-east-1",
            config=Config(
                signature_version=UNSIGNED if access.anonymous else "s3v4",
                retries={"mode": "standard", "max_attempts": 3},
                s3={"addressing_style": "path" if option(dataset, "endpoint") else "auto"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        client.meta.events.register("before-send.s3", send)
        return cast("_Client", client)


class _Content:
    """An answer's content as the library reads it."""

    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self.close = close

    def stream(self) -> Iterator[bytes]:
        """All of it."""
        return self._pieces

    def read(self, amount: int | None = None) -> bytes:
        """What comes next, however much that is; nothing at the end."""
        return b"".join(self._pieces) if amount is None else next(self._pieces, b"")


def _keys(access: Access) -> dict[str, str]:
    names = {
        "access_key": "aws_access_key_id",
        "secret_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
    }
    return {theirs: access.secrets[ours] for ours, theirs in names.items() if ours in access.secrets}


def _file(path: str, found: _Object, versions: bool) -> RemoteFile:
    identity = f"version:{found['VersionId']}" if versions else f"etag:{found['ETag']}"
    return RemoteFile(path, found["Size"], identity, found.get("LastModified"))


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _chunks(dataset: DatasetSpec, body: _Body) -> Iterator[bytes]:
    with _translated(dataset), reaching(dataset.name, None, _SILENCE):
        yield from body.iter_chunks(CHUNK)


@contextmanager
def _translated(dataset: DatasetSpec, entry: FileEntry | None = None, where: str = "") -> Iterator[None]:
    """Turn what the library says into our errors. ``where`` was asked, if not the dataset's own address."""
    told = f"dataset {dataset.name}: {where or dataset.path}"
    try:
        yield
    except ClientError as error:
        raise _refusal(dataset, entry, where or dataset.path, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise DatasetRefused(
            f"{told} cannot be read: there is no key to log in with",
            "access_key: and secret_key:, or anonymous: true",
        ) from error
    except BotoCoreError as error:
        raise DatasetUnavailable(f"{told} cannot be read: {clean(str(error))}") from error


def _refusal(
    dataset: DatasetSpec, entry: FileEntry | None, where: str, error: ClientError
) -> DatasetUnavailable | DatasetMoved:
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    what = where if entry is None else f"{where}: {escaped(entry.path)}"
    told = f"dataset {dataset.name}: {what}"
    if entry is not None and {code, status} & _CHANGED and code not in _SHUT and code != "NoSuchBucket":
        return moved(dataset, entry.path, "another object has its name by now, or none")
    if {code, status} & _SHUT:
        return DatasetRefused(
            f"{told} may not be read: the server says {clean(code or status)}",
            "check the key, and that it may list the bucket and read its objects",
        )
    if {code, status} & _GONE:
        return _NotThere(f"{told} is not there: the server says {clean(code or status)}")
    return DatasetUnavailable(f"{told} is not to be had now: the server says {clean(code or status)}")
