"""Datasets of the Hugging Face Hub, by its API: a revision stands for a commit, and a commit for files."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, urljoin

import urllib3

from orchestrator.adapters.datasets.access import Accesses, access_to, option
from orchestrator.adapters.datasets.answers import Answered, answered, listed
from orchestrator.adapters.datasets.bounds import Bounds
from orchestrator.adapters.datasets.http import login
from orchestrator.adapters.datasets.packing import moved
from orchestrator.adapters.datasets.place import Keep, RemoteFile
from orchestrator.adapters.datasets.web import Asked, Web, origin_of, refused
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetSpec
from orchestrator.domain.text import escaped

HUB: Final = "https://huggingface.co"
_BACK: Final = 20
"""How many commits are looked at for a file that has changed since it was seen."""
_KNOWN: Final = 8
"""How many listings are remembered: that of a commit never changes."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_NEXT: Final = re.compile(r'<([^>]+)>;\s*rel="next"')


class HuggingFacePlace:
    """The Place of datasets on the Hub."""

    def __init__(self, accesses: Accesses, web: Web | None = None) -> None:
        self._accesses = accesses
        self._web = web or Web()
        self._trees: OrderedDict[tuple[str, str], Mapping[str, RemoteFile]] = OrderedDict()
        self._lock = threading.Lock()

    def files(self, dataset: DatasetSpec, keep: Keep) -> Iterable[RemoteFile]:
        """The files of the commit that the revision stands for; listed only when that is a new one."""
        asked = self._asked(dataset)
        return self._tree(asked, dataset, self._commit(asked, dataset)).values()

    @contextmanager
    def open(self, dataset: DatasetSpec, entry: FileEntry, offset: int) -> Iterator[Iterator[bytes]]:
        """The rest of a file, of the newest commit that has it as it was."""
        asked = self._asked(dataset)
        commit = self._commit_with(asked, dataset, entry)
        where = f"/datasets/{dataset.path}/resolve/{commit}/{quote(entry.path)}"
        answer = self._ask(asked, dataset, where, {"Range": f"bytes={offset}-"} if offset else {})
        if answer.status in (404, 416):
            answer.close()
            raise moved(dataset, entry.path, "the Hub has it no more")
        if answer.status != (206 if offset else 200):
            raise refused(dataset.name, f"{dataset.path}: {escaped(entry.path)}", answer)
        try:
            yield self._web.chunks(asked, answer)
        finally:
            answer.close()

    def _commit(self, asked: Asked, dataset: DatasetSpec) -> str:
        revision = quote(option(dataset, "revision") or "main", safe="")
        told = f"{dataset.path} at {revision}"
        found = self._read(asked, dataset, f"/api/datasets/{dataset.path}/revision/{revision}", told)
        commit = answered(dataset.name, found[0]).text("sha")
        if not _COMMIT.fullmatch(commit):
            raise DatasetUnavailable(f"dataset {dataset.name}: {escaped(commit)} is no commit of the Hub")
        return commit

    def _commit_with(self, asked: Asked, dataset: DatasetSpec, entry: FileEntry) -> str:
        """A commit in which the file is what its entry says: a known one, the newest, or one before it."""
        for (key, commit), tree in reversed(list(self._trees.items())):
            if key == dataset.key and _is_in(tree, entry):
                return commit
        revision = quote(option(dataset, "revision") or "main", safe="")
        where = f"/api/datasets/{dataset.path}/commits/{revision}"
        content, _ = self._read(asked, dataset, where, f"{dataset.path} at {revision}")
        for found in listed(dataset.name, content)[:_BACK]:
            commit = found.text("id")
            if _COMMIT.fullmatch(commit) and _is_in(self._tree(asked, dataset, commit), entry):
                return commit
        raise moved(dataset, entry.path, f"none of the last {_BACK} commits has it so")

    def _tree(self, asked: Asked, dataset: DatasetSpec, commit: str) -> Mapping[str, RemoteFile]:
        key = (dataset.key, commit)
        tree = self._trees.get(key)
        if tree is None:
            tree = {file.path: file for file in self._listed(asked, dataset, commit)}
        with self._lock:
            self._trees[key] = tree
            self._trees.move_to_end(key)
            while len(self._trees) > _KNOWN:
                self._trees.popitem(last=False)
        return tree

    def _listed(self, asked: Asked, dataset: DatasetSpec, commit: str) -> Iterator[RemoteFile]:
        where = f"/api/datasets/{dataset.path}/tree/{commit}?recursive=true&limit=1000"
        bounds = Bounds(dataset)
        while where:
            bounds.page(where)
            content, following = self._read(asked, dataset, where, dataset.path)
            for found in bounds.files(listed(dataset.name, content)):
                if found.text("type") == "file":
                    yield _file(found)
            where = following

    def _read(self, asked: Asked, dataset: DatasetSpec, where: str, told: str) -> tuple[bytes, str]:
        """An answer's content, and where the next page is."""
        answer = self._ask(asked, dataset, where, {})
        if answer.status != 200:
            raise refused(dataset.name, told, answer)
        found = _NEXT.search(answer.headers.get("Link", ""))
        following = urljoin(_hub(dataset), found[1]) if found else ""
        if following and origin_of(following) != origin_of(_hub(dataset)):
            raise DatasetRefused(f"dataset {dataset.name}: the Hub names a next page that is elsewhere")
        return self._web.text(asked, answer), following.removeprefix(_hub(dataset))

    def _ask(
        self, asked: Asked, dataset: DatasetSpec, where: str, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        return self._web.get(asked, _hub(dataset) + where, {**login(asked.access), **headers})

    def _asked(self, dataset: DatasetSpec) -> Asked:
        return Asked(dataset.name, access_to(dataset, self._accesses))


def _hub(dataset: DatasetSpec) -> str:
    return option(dataset, "endpoint") or HUB


def _is_in(tree: Mapping[str, RemoteFile], entry: FileEntry) -> bool:
    found = tree.get(entry.path)
    return found is not None and (found.identity, found.size) == (entry.identity, entry.size)


def _file(found: Answered) -> RemoteFile:
    large = found.inner("lfs")
    identity = f"blob:{found.text('oid')}" if large is None else f"sha256:{large.text('oid')}"
    return RemoteFile(found.text("path"), found.number("size"), identity)
