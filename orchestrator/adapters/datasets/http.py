"""Files of the web: told apart by ETag, else by time and size, else by their content."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import quote, unquote, urlsplit

import urllib3

from orchestrator.adapters.datasets.access import Access, Accesses, access_to
from orchestrator.adapters.datasets.answers import number_of, time_of
from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.datasets.web import Asked, Web, refused
from orchestrator.domain.change import FileEntry
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import escaped

_NO_HEAD = (405, 501)


class HttpPlace:
    """The Place of files behind addresses of the web."""

    def __init__(self, accesses: Accesses, web: Web | None = None) -> None:
        self._accesses = accesses
        self._web = web or Web()

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """What each address tells of its file. One that tells nothing is read to see what it is."""
        asked = self._asked(dataset)
        marker = dataset.marker if dataset.marker not in _names(dataset) else ""
        for name in _names(dataset):
            yield self._look(asked, dataset, name, keep)
        if marker:
            found = self._ask(asked, dataset, marker, "HEAD", {})
            found.close()
            if found.status == 200:
                yield RemoteFile(marker, 0, "marker", _modified(found))

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The rest of the file whose ETag or time is the one that was seen."""
        asked = self._asked(dataset)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        etag = entry.identity.removeprefix("etag:")
        if etag != entry.identity and not etag.startswith("W/"):
            headers["If-Match"] = etag
        answer = self._ask(asked, dataset, entry.path, "GET", headers)
        begin = _begin(answer)
        if answer.status in (412, 416):
            answer.close()
            raise moved(dataset, entry.path, "the server has another one by now")
        if answer.status not in (200, 206):
            raise refused(dataset.name, _told(dataset, entry.path), answer)
        now = _identity(answer, entry.size)
        if begin < 0 or (not entry.identity.startswith("sha256:") and now != entry.identity):
            answer.close()
            raise moved(dataset, entry.path, "the server has another one by now")
        try:
            yield _from(self._web.chunks(asked, answer), offset - begin)
        finally:
            answer.close()

    def _look(self, asked: Asked, dataset: DatasetSpec, name: str, keep: Keep) -> RemoteFile:
        answer = self._ask(asked, dataset, name, "HEAD", {})
        size = _length(answer)
        if answer.status == 200 and size is not None and (identity := _identity(answer, size)):
            answer.close()
            return RemoteFile(name, size, identity, _modified(answer))
        if answer.status != 200 and answer.status not in _NO_HEAD:
            raise refused(dataset.name, _told(dataset, name), answer)
        answer.close()
        answer = self._ask(asked, dataset, name, "GET", {})
        if answer.status != 200:
            raise refused(dataset.name, _told(dataset, name), answer)
        size = _length(answer)
        if size is not None and (identity := _identity(answer, size)):
            answer.close()
            return RemoteFile(name, size, identity, _modified(answer))
        try:
            return keep(name, self._web.chunks(asked, answer))
        finally:
            answer.close()

    def _ask(
        self, asked: Asked, dataset: DatasetSpec, name: str, method: str, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        return self._web.get(asked, _url(dataset, name), {**login(asked.access), **headers}, method)

    def _asked(self, dataset: DatasetSpec) -> Asked:
        return Asked(dataset.name, access_to(dataset, self._accesses))


def login(access: Access) -> dict[str, str]:
    """The header by which somebody logs in; none for nobody."""
    if token := access.secrets.get("token"):
        return {"Authorization": f"Bearer {token}"}
    if user := access.secrets.get("username"):
        pair = f"{user}:{access.secrets.get('password', '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}
    return {}


def _names(dataset: DatasetSpec) -> list[str]:
    listed = [path for key, path in dataset.options if key == "file"]
    return listed or [unquote(urlsplit(dataset.path).path).rstrip("/").rpartition("/")[2] or "data"]


def _url(dataset: DatasetSpec, name: str) -> str:
    listed = any(key == "file" for key, _ in dataset.options)
    if listed:
        return f"{dataset.path.rstrip('/')}/{quote(name)}"
    if name in _names(dataset):
        return dataset.path
    parts = urlsplit(dataset.path)
    # A marker lies beside the only file.
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}", query="").geturl()


def _identity(answer: urllib3.BaseHTTPResponse, size: int) -> str:
    if etag := answer.headers.get("ETag", "").strip():
        return f"etag:{etag}"
    if modified := answer.headers.get("Last-Modified", "").strip():
        return f"modified:{modified} {size}"
    return ""


def _length(answer: urllib3.BaseHTTPResponse) -> int | None:
    if answer.headers.get("Content-Encoding"):
        return None
    return number_of(answer.headers.get("Content-Length", ""))


def _modified(answer: urllib3.BaseHTTPResponse) -> datetime | None:
    return time_of(answer.headers.get("Last-Modified", ""))


def _begin(answer: urllib3.BaseHTTPResponse) -> int:
    """From which byte on an answer has the file."""
    if answer.status != 206:
        return 0
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    begin = number_of(text)
    return -1 if begin is None else begin


def _from(chunks: Iterator[bytes], left_out: int) -> Iterator[bytes]:
    """What follows on so many bytes."""
    for chunk in chunks:
        if left_out >= len(chunk):
            left_out -= len(chunk)
            continue
        yield chunk[left_out:] if left_out else chunk
        left_out = 0


def _told(dataset: DatasetSpec, name: str) -> str:
    return escaped(_url(dataset, name).partition("?")[0])
