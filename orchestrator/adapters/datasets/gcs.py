"""Objects in Google Cloud Storage, by its JSON API; told apart by generation, and fetched by it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, urlencode

import google.auth.exceptions
import google.auth.transport
import urllib3
from google.oauth2 import service_account

from orchestrator.adapters.datasets.access import Accesses, access_to, option
from orchestrator.adapters.datasets.answers import Answered, answered
from orchestrator.adapters.datasets.bounds import Bounds
from orchestrator.adapters.datasets.buckets import above, below, bucket_of
from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.datasets.web import Asked, Web, refused
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import clean, escaped

GOOGLE: Final = "https://storage.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_only"
_FIELDS: Final = "nextPageToken,items(name,size,generation,updated)"


class GcsPlace:
    """The Place of objects in Google's buckets."""

    def __init__(self, accesses: Accesses, web: Web | None = None) -> None:
        self._accesses = accesses
        self._web = web or Web()
        self._logins: dict[str, service_account.Credentials] = {}
        self._lock = threading.Lock()

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """A listing, page by page."""
        asked = self._asked(dataset)
        bucket, prefix = bucket_of(dataset)
        page = ""
        bounds = Bounds(dataset)
        while True:
            bounds.page(page)
            wanted = {"prefix": prefix, "fields": _FIELDS, "maxResults": "1000"}
            if page:
                wanted["pageToken"] = page
            answer = self._ask(asked, dataset, f"/storage/v1/b/{bucket}/o?{urlencode(wanted)}")
            if answer.status != 200:
                raise refused(dataset.name, dataset.path, answer)
            listed = answered(dataset.name, self._web.text(asked, answer))
            for found in listed.items("items"):
                path = below(prefix, found.text("name"))
                if path is not None:
                    yield _file(path, found)
            page = listed.text("nextPageToken", "")
            if not page:
                return

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The rest of just that generation."""
        asked = self._asked(dataset)
        bucket, prefix = bucket_of(dataset)
        generation = entry.identity.removeprefix("generation:")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = None
        for name in above(prefix, entry.path):
            where = (
                f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media&generation={quote(generation)}"
            )
            answer = self._ask(asked, dataset, where, headers)
            if answer.status != 404:
                break
            answer.close()
        if answer is None or answer.status in (404, 412, 416):
            raise moved(dataset, entry.path, "that generation of the object is gone")
        if answer.status != (206 if offset else 200):
            raise refused(dataset.name, f"{dataset.path}: {escaped(entry.path)}", answer)
        try:
            yield self._web.chunks(asked, answer)
        finally:
            answer.close()

    def _ask(
        self, asked: Asked, dataset: DatasetSpec, where: str, headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        url = (option(dataset, "endpoint") or GOOGLE) + where
        return self._web.get(asked, url, {**self._login(asked), **(headers or {})})

    def _login(self, asked: Asked) -> dict[str, str]:
        key = asked.access.secrets.get("credentials")
        if key is None:
            return {}
        with self._lock:
            login = self._logins.get(key)
            if login is None:
                login = self._logins[key] = _credentials(asked, key)
            if not login.valid:
                with _translated(asked):
                    login.refresh(_Transport(self._web, asked))  # type: ignore[no-untyped-call]
            return {"Authorization": f"Bearer {login.token}"}

    def _asked(self, dataset: DatasetSpec) -> Asked:
        return Asked(dataset.name, access_to(dataset, self._accesses))


def _credentials(asked: Asked, key: str) -> service_account.Credentials:
    try:
        info = json.loads(key)
        login: service_account.Credentials
        login = service_account.Credentials.from_service_account_info(info, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError) as error:
        # What is wrong in it is not told: its text might say what is in it.
        raise DatasetRefused(
            f"dataset {asked.dataset}: credentials: is no key of a service account",
            "the JSON file that Google gives for such a key",
        ) from error
    return login


class _Given(google.auth.transport.Response):
    """An answer as the library reads it."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, content: bytes) -> None:
        self._answer = answer
        self._content = content

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return dict(self._answer.headers)

    @property
    def data(self) -> bytes:
        return self._content


class _Transport(google.auth.transport.Request):
    """How the library asks for a token: by the same way as all data."""

    def __init__(self, web: Web, asked: Asked) -> None:
        self._web = web
        self._asked = asked

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: object,
    ) -> _Given:
        answer = self._web.send(self._asked, method, url, headers or {}, body)
        return _Given(answer, self._web.text(self._asked, answer, 1 << 20))


@contextmanager
def _translated(asked: Asked) -> Iterator[None]:
    """Turn what the library says into our errors."""
    try:
        yield
    except google.auth.exceptions.TransportError as error:
        raise DatasetUnavailable(
            f"dataset {asked.dataset}: no token from Google: {clean(str(error))}"
        ) from error
    except google.auth.exceptions.GoogleAuthError as error:
        if error.retryable:
            raise DatasetUnavailable(f"dataset {asked.dataset}: no token from Google now") from error
        raise DatasetRefused(
            f"dataset {asked.dataset}: Google gives no token for that key", "check that the key still counts"
        ) from error


def _file(path: str, found: Answered) -> RemoteFile:
    generation = found.text("generation")
    return RemoteFile(path, found.number("size"), f"generation:{generation}", found.time("updated"))
