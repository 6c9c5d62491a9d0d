"""Datasets of the Hugging Face Hub, on a stand-in that answers as its API is documented."""

import hashlib
import json
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.http import HttpPlace
from orchestrator.adapters.datasets.huggingface import HuggingFacePlace
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.dataweb import DataWeb, Seen, Served
from tests.support.remotedata import contents, fetched, quiet


class HubStandIn:
    """One dataset with a history. Large files lie in LFS, and are given away by another server."""

    def __init__(self, web: DataWeb, elsewhere: DataWeb, token: str = "") -> None:
        self.web, self.elsewhere, self.token = web, elsewhere, token
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.page = 2
        web.answer = self._answer

    def push(self, files: dict[str, bytes]) -> str:
        commit = hashlib.sha256(repr((len(self.commits), files)).encode()).hexdigest()[:40]
        self.commits.insert(0, (commit, files))
        return commit

    def dataset(self, revision: str = "main") -> DatasetSpec:
        options = (("endpoint", self.web.url), ("revision", revision))
        return DatasetSpec("wine", "acme/wine", kind=DatasetKind.HUGGING_FACE, options=options)

    def _answer(self, seen: Seen, body: bytes) -> Served | None:
        if self.token and seen.headers.get("Authorization") != f"Bearer {self.token}":
            return Served(b'{"error": "Repository not found"}', status=401)
        parts = urlsplit(seen.target)
        query = parse_qs(parts.query)
        if parts.path == "/api/datasets/acme/wine/revision/main":
            return _json({"id": "acme/wine", "sha": self.commits[0][0], "private": False})
        if parts.path == "/api/datasets/acme/wine/commits/main":
            return _json([{"id": commit, "title": "a change"} for commit, _ in self.commits])
        for commit, files in self.commits:
            if parts.path == f"/api/datasets/acme/wine/tree/{commit}":
                return self._tree(commit, files, int(query.get("cursor", ["0"])[0]))
            prefix = f"/datasets/acme/wine/resolve/{commit}/"
            if parts.path.startswith(prefix):
                return self._content(files.get(unquote(parts.path.removeprefix(prefix))))
        return None

    def _tree(self, commit: str, files: dict[str, bytes], begin: int) -> Served:
        items = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "data"}]
        items += [_told(path, content) for path, content in sorted(files.items())]
        rest = begin + self.page
        headers = {}
        if rest < len(items):
            following = f"{self.web.url}/api/datasets/acme/wine/tree/{commit}?recursive=true&cursor={rest}"
            headers["Link"] = f'<{following}>; rel="next"'
        return _json(items[begin:rest], headers)

    def _content(self, content: bytes | None) -> Served | None:
        if content is None or len(content) <= 10:
            return None if content is None else Served(content)
        name = f"/{hashlib.sha256(content).hexdigest()}"
        self.elsewhere.files[name] = Served(content)
        return Served(status=302, headers={"Location": f"{self.elsewhere.url}{name}?signature=s3cr3t"})


def _json(value: object, headers: dict[str, str] | None = None) -> Served:
    return Served(json.dumps(value).encode(), headers={"Content-Type": "application/json", **(headers or {})})


def _told(path: str, content: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    told: dict[str, object] = {"type": "file", "oid": blob, "size": len(content), "path": path}
    if len(content) > 10:
        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        told |= {"oid": "1" * 40, "lfs": lfs}
    return told


@pytest.fixture
def hub(web: DataWeb) -> HubStandIn:
    return HubStandIn(web, web)


@pytest.fixture
def source(source_of: Callable[[Place], RemoteDataset], open_door: Access) -> RemoteDataset:
    return source_of(HuggingFacePlace(lambda spec: open_door))


SMALL, LARGE = b"a,b\n", b"0123456789" * 100


def test_a_revision_is_the_files_of_its_commit(hub: HubStandIn, source: RemoteDataset) -> None:
    hub.push({"README.md": SMALL, "data/train set.parquet": LARGE, "data/test.csv": b"1"})
    wanted = {"README.md": SMALL, "data/train set.parquet": LARGE, "data/test.csv": b"1"}
    assert fetched(source, hub.dataset()) == wanted


def test_a_revision_that_did_not_move_costs_one_small_answer(hub: HubStandIn, source: RemoteDataset) -> None:
    hub.push({"a": SMALL})
    before = source.look(hub.dataset())
    hub.web.seen.clear()
    assert source.look(hub.dataset()) == before
    assert hub.web.asked("GET") == ["/api/datasets/acme/wine/revision/main"]


def test_a_commit_that_changes_no_file_is_no_new_version(hub: HubStandIn, source: RemoteDataset) -> None:
    hub.push({"a": SMALL})
    before = source.snapshot(hub.dataset(), (), quiet)
    hub.push({"a": SMALL})
    assert source.snapshot(hub.dataset(), (), quiet).fingerprint == before.fingerprint
    hub.push({"a": b"b"})
    assert source.snapshot(hub.dataset(), (), quiet).fingerprint != before.fingerprint


def test_a_run_gets_its_commits_files_although_the_branch_moved_on(
    hub: HubStandIn, source: RemoteDataset, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    hub.push({"a": b"old", "large": LARGE})
    pinned = source.snapshot(hub.dataset(), (), quiet).entries
    hub.push({"a": b"new", "large": LARGE[::-1]})
    restarted = source_of(HuggingFacePlace(lambda spec: open_door))
    assert contents(restarted, hub.dataset(), pinned) == {"a": b"old", "large": LARGE}


def test_a_history_that_was_rewritten_is_said(
    hub: HubStandIn, source: RemoteDataset, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    hub.push({"a": b"old"})
    pinned = source.snapshot(hub.dataset(), (), quiet).entries
    hub.commits.clear()
    hub.push({"a": b"new"})
    restarted = source_of(HuggingFacePlace(lambda spec: open_door))
    with pytest.raises(DatasetMoved, match="none of the last 20 commits has it so"):
        restarted.materialise(hub.dataset(), pinned, quiet)


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_content_that_is_not_what_the_hub_said_is_refused(
    hub: HubStandIn, source: RemoteDataset, content: bytes
) -> None:
    commit = hub.push({"a": content})
    pinned = source.snapshot(hub.dataset(), (), quiet).entries
    hub.commits[:] = [(commit, {"a": bytes(reversed(content))})]
    with pytest.raises(DatasetMoved, match="its hash is not the one"):
        source.materialise(hub.dataset(), pinned, quiet)


def test_a_hub_that_tells_the_hash_of_anothers_file_is_not_given_that_file(
    hub: HubStandIn, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    with DataWeb().serving() as theirs:
        theirs.files["/secret"] = Served(LARGE)
        other = DatasetSpec("other", f"{theirs.url}/secret", kind=DatasetKind.HTTP)
        assert fetched(source_of(HttpPlace(lambda spec: open_door)), other) == {"secret": LARGE}
    commit = hub.push({"mine": LARGE})
    source = source_of(HuggingFacePlace(lambda spec: open_door))
    pinned = source.snapshot(hub.dataset(), (), quiet).entries
    assert pinned[0].sha256 == hashlib.sha256(LARGE).hexdigest()
    hub.commits[:] = [(commit, {"mine": b"0" * len(LARGE)})]
    with pytest.raises(DatasetMoved, match="its hash is not the one"):
        source.materialise(hub.dataset(), pinned, quiet)


def test_a_token_opens_what_is_private_and_never_leaves_for_the_server_of_large_files(
    web: DataWeb, source_of: Callable[[Place], RemoteDataset], open_door: Access
) -> None:
    with DataWeb().serving() as elsewhere:
        hub = HubStandIn(web, elsewhere, token="hf_s3cr3t")
        hub.push({"large": LARGE})
        with pytest.raises(DatasetRefused, match=r"acme/wine at main may not be read: .* 401"):
            source_of(HuggingFacePlace(lambda spec: open_door)).look(hub.dataset())
        access = Access({"token": "hf_s3cr3t"}, allow_private=True)
        source = source_of(HuggingFacePlace(lambda spec: access))
        assert fetched(source, hub.dataset()) == {"large": LARGE}
        assert [seen.headers.get("Authorization") for seen in elsewhere.seen] == [None]


def test_a_dataset_or_revision_that_is_not_there_is_said(hub: HubStandIn, source: RemoteDataset) -> None:
    hub.push({"a": SMALL})
    with pytest.raises(DatasetUnavailable, match="acme/wine at v9 is not there"):
        source.look(hub.dataset("v9"))


def test_an_answer_that_is_none_of_a_hub_is_said(
    web: DataWeb, hub: HubStandIn, source: RemoteDataset
) -> None:
    web.answer = lambda seen, body: Served(b"<html>Welcome</html>")
    with pytest.raises(DatasetUnavailable, match="the server's answer is not understood: no JSON"):
        source.look(hub.dataset())
