"""Objects put into S3 and into what speaks its language.

Each object carries its SHA-256, by which a later try knows that it is there. Large ones go in parts; what a
try that was cut off has left of them is compared part by part and sent no second time.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, TypedDict, cast
from urllib.parse import urlsplit

from orchestrator.adapters.addresses import may_be_asked
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ActionRejected, ActionUnavailable, NotFound
from orchestrator.domain.text import clean, escaped
from orchestrator.ports.progress import ProgressEvent, ProgressSink

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.exceptions import ClientError

PART: Final = 8 << 20
"""Bytes of a part; what is no larger goes at once."""
_MOST_PARTS: Final = 9_000
_LONGEST_NAME: Final = 1024
_HASH: Final = "mlci-sha256"
_LATER: Final = frozenset({"408", "429", "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"})
_SHORTLY: Final = 10.0
_SILENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """How a store of the configuration is reached. ``keys`` gives the login, and may raise SecretMissing."""

    name: str
    address: str
    keys: Callable[[], Mapping[str, str]]
    endpoint: str | None = None
    region: str | None = None
    allow_private: bool = False
    ca_file: str | None = None

    @property
    def parts(self) -> tuple[str, str]:
        """The bucket, and what the names of objects begin with."""
        bucket, _, prefix = self.address.partition("://")[2].partition("/")
        return bucket, prefix


class _Upload(TypedDict):
    Key: str
    UploadId: str


class _Part(TypedDict):
    PartNumber: int
    ETag: str
    Size: int


class _Made(TypedDict):
    ETag: str


class _Head(TypedDict):
    ETag: str
    ContentLength: int
    Metadata: Mapping[str, str]


class _Client(Protocol):
    """What is used of the library, which has no types."""

    def head_object(self, *, Bucket: str, Key: str) -> _Head: ...  # noqa: N803
    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentMD5: str,  # noqa: N803
        Metadata: Mapping[str, str],  # noqa: N803
    ) -> object: ...
    def create_multipart_upload(self, *, Bucket: str, Key: str, Metadata: Mapping[str, str]) -> _Upload: ...  # noqa: N803
    def upload_part(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        PartNumber: int,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentMD5: str,  # noqa: N803
    ) -> _Part: ...
    def complete_multipart_upload(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        UploadId: str,  # noqa: N803
        MultipartUpload: Mapping[str, Sequence[Mapping[str, int | str]]],  # noqa: N803
    ) -> _Made: ...
    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> object: ...  # noqa: N803
    def delete_object(self, *, Bucket: str, Key: str) -> object: ...  # noqa: N803
    def get_paginator(self, name: str) -> _Pages: ...


class _Pages(Protocol):
    def paginate(self, **arguments: str) -> Iterable[Mapping[str, list[_Upload] | list[_Part]]]: ...


class S3Stores:
    """The ObjectStores of the configuration."""

    def __init__(self, buckets: Mapping[str, Bucket], part: int = PART) -> None:
        self._buckets = buckets
        self._part = part

    def shown(self, store: str, name: str) -> str:
        """The address of an object for people."""
        bucket, prefix = self._bucket(store).parts
        return f"s3://{bucket}/{_joined(prefix, name)}"

    def put(
        self, store: str, name: str, file: ReleaseFile, read: Callable[[], BinaryIO], progress: ProgressSink
    ) -> bool:
        """Have a file's content as an object; whether it had to be sent."""
        found = self._bucket(store)
        bucket, prefix = found.parts
        key = _checked(_joined(prefix, name))
        with _translated(found, key):
            client = _client(found)
            head, _ = _head(client, bucket, key)
            if head is not None and _is(head, file):
                return False
            made = ""
            if file.size <= self._part:
                with closing(read()) as stream:
                    body = stream.read(file.size + 1)
                _compare(hashlib.sha256(body).hexdigest(), file)
                client.put_object(
                    Bucket=bucket,
                    Key=key,
                    Body=body,
                    ContentMD5=_md5(body)[1],
                    Metadata={_HASH: file.sha256},
                )
            else:
                made = self._in_parts(client, bucket, key, file, read, progress)
            if said := self._see(client, store, name, file, made):
                progress(ProgressEvent(f"{self.shown(store, name)} {said}", file.size, file.size))
        return True

    def _see(self, client: _Client, store: str, name: str, file: ReleaseFile, made: str) -> str:
        """Look at what was sent, in parts as the object ``made``; what to say of it.

        What others have put there meanwhile is theirs, and stays.
        """
        bucket, prefix = self._bucket(store).parts
        key = _joined(prefix, name)
        head, readable = _head(client, bucket, key)
        if not readable:
            return "sent; whether it is there cannot be checked, since the key may not read it"
        if head is None or not _is(head, file):
            if head is not None and made and head["ETag"] == made:
                # An upload that somebody began for other content has given ours the hash of that.
                client.delete_object(Bucket=bucket, Key=key)
            raise ActionUnavailable(f"{self.shown(store, name)} is not what was sent")
        return ""

    def _in_parts(
        self,
        client: _Client,
        bucket: str,
        key: str,
        file: ReleaseFile,
        read: Callable[[], BinaryIO],
        progress: ProgressSink,
    ) -> str:
        size = max(self._part, -(-file.size // _MOST_PARTS))
        upload, known = _begun(client, bucket, key, file)
        whole, done = hashlib.sha256(), 0
        parts: list[Mapping[str, int | str]] = []
        with closing(read()) as stream:
            while body := _exactly(stream, size):
                number = len(parts) + 1
                whole.update(body)
                plain, encoded = _md5(body)
                if number in known and known[number] != plain:
                    client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
                    raise ActionUnavailable(f"an earlier upload of {key} was of other content; it is removed")
                if number not in known:
                    client.upload_part(
                        Bucket=bucket,
                        Key=key,
                        UploadId=upload,
                        PartNumber=number,
                        Body=body,
                        ContentMD5=encoded,
                    )
                parts.append({"PartNumber": number, "ETag": f'"{plain}"'})
                done += len(body)
                progress(ProgressEvent(f"uploading {escaped(file.path)}", done, file.size))
        if whole.hexdigest() != file.sha256:
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        _compare(whole.hexdigest(), file)
        return client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )["ETag"]

    def _bucket(self, store: str) -> Bucket:
        if store not in self._buckets:
            known = ", ".join(sorted(self._buckets)) or "none"
            raise NotFound(f'there is no store "{store}"', f"orchestrator.yaml has: {known}")
        return self._buckets[store]


def _begun(client: _Client, bucket: str, key: str, file: ReleaseFile) -> tuple[str, Mapping[int, str]]:
    """An upload in parts, and the parts that are there: their MD5 by their numbers."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key):
        for found in cast("list[_Upload]", page.get("Uploads", [])):
            if found["Key"] == key:
                pages = client.get_paginator("list_parts").paginate(
                    Bucket=bucket, Key=key, UploadId=found["UploadId"]
                )
                parts = [part for each in pages for part in cast("list[_Part]", each.get("Parts", []))]
                return found["UploadId"], {part["PartNumber"]: part["ETag"].strip('"') for part in parts}
    new = client.create_multipart_upload(Bucket=bucket, Key=key, Metadata={_HASH: file.sha256})
    return new["UploadId"], {}


def _head(client: _Client, bucket: str, key: str) -> tuple[_Head | None, bool]:
    """What is known of an object, and whether the key may know it."""
    from botocore.exceptions import ClientError

    try:
        return client.head_object(Bucket=bucket, Key=key), True
    except ClientError as error:
        codes = _codes(error)
        # Who may not list a bucket is told 403 of what is not there.
        if codes & {"404", "403", "NoSuchKey"} and "NoSuchBucket" not in codes:
            return None, "403" not in codes
        raise


def _is(head: _Head, file: ReleaseFile) -> bool:
    return head["ContentLength"] == file.size and head["Metadata"].get(_HASH) == file.sha256


def _client(bucket: Bucket) -> _Client:
    import boto3
    from botocore.config import Config

    def judged(request: AWSPreparedRequest, **_: object) -> None:
        _refuse_forbidden(bucket, str(request.url))

    session = boto3.session.Session(**dict(bucket.keys()))
    client = session.client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name=bucket.region or session.region_name or "us-east-1",
        verify=bucket.ca_file or True,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_SHORTLY,
            read_timeout=_SILENCE,
            retries={"mode": "standard", "max_attempts": 3},
            s3={"addressing_style": "path" if bucket.endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register("before-send.s3", judged)
    return cast("_Client", client)


def _refuse_forbidden(bucket: Bucket, url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ActionUnavailable(f"store {bucket.name}: the name {host} is not known") from error
    for address in {str(entry[4][0]) for entry in found}:
        if not may_be_asked(address, allow_private=bucket.allow_private):
            remedy = (
                "" if bucket.allow_private else "with allow_private: true, private addresses may be asked"
            )
            raise ActionRejected(
                f"store {bucket.name}: {host} is {address}, an address that may not be asked", remedy
            )


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name


def _checked(key: str) -> str:
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise ActionRejected(f"{escaped(key)} cannot be an object's name: it is not UTF-8") from None
    if length > _LONGEST_NAME:
        raise ActionRejected(f"{escaped(key)[:80]}… is longer than an object's name: {_LONGEST_NAME} bytes")
    return key


def _exactly(stream: BinaryIO, size: int) -> bytes:
    body = bytearray()
    while len(body) < size and (more := stream.read(size - len(body))):
        body += more
    return bytes(body)


def _md5(body: bytes) -> tuple[str, str]:
    """As servers name parts, and as they are told what comes."""
    import base64

    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return digest.hex(), base64.b64encode(digest).decode()


def _compare(sha256: str, file: ReleaseFile) -> None:
    if sha256 != file.sha256:
        raise ActionRejected(f"{escaped(file.path)} is not what the run left: its hash differs")


def _codes(error: ClientError) -> frozenset[str]:
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    return frozenset({code, str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))})


@contextmanager
def _translated(bucket: Bucket, key: str) -> Iterator[None]:
    """Turn what the library says into our errors."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
        SSLError,
    )

    told = f"store {bucket.name}: {escaped(key)}"
    try:
        yield
    except ClientError as error:
        codes = _codes(error)
        said = clean(" ".join(sorted(codes - {""}, reverse=True)))
        if codes & _LATER or any(code.startswith("5") and len(code) == 3 for code in codes):
            raise ActionUnavailable(f"{told} was not taken now: the server says {said}") from error
        raise ActionRejected(
            f"{told} was not taken: the server says {said}",
            "check that the bucket exists, and that the key may list it and write to it",
        ) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ActionRejected(
            f"{told}: there is no key to log in with", "access_key: and secret_key: of the store"
        ) from error
    except SSLError as error:
        raise ActionRejected(
            f"{told}: the server cannot be trusted: {clean(str(error))}",
            "with ca_file: the certificates of your own authority are trusted",
        ) from error
    except BotoCoreError as error:
        raise ActionUnavailable(f"{told} was not taken: {clean(str(error))}") from error
