"""Row of security.md: a DVC repository whose links and settings lead to the orchestrator's own files."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.dvc import DvcPlace
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.s3 import S3Place
from orchestrator.adapters.git import GitCommand
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.remotedata import fetched, quiet

SECRET = b"the key of the orchestrator\n"
NAME = "ab" * 16
OLD = f"outs: [{{path: leak.txt, md5: {NAME}}}]\n"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "id_rsa"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    (path / ".dvc" / "cache").mkdir(parents=True)
    (path / "leak.txt.dvc").write_text(OLD)
    return path


@pytest.fixture
def source(tmp_path: Path) -> RemoteDataset:
    place = DvcPlace(GitCommand(tmp_path / "mirrors"), lambda: S3Place(lambda spec: None))
    return RemoteDataset(place, Cache(tmp_path / "kept", 1 << 20), sleep=lambda _: None)


def data(tree: Path, *options: tuple[str, str]) -> DatasetSpec:
    chosen = (("file", "leak.txt.dvc"), *options)
    return DatasetSpec("wine", str(tree), kind=DatasetKind.DVC, options=chosen)


def linked_content(tree: Path, secret: Path) -> None:
    (tree / ".dvc/cache/ab").mkdir()
    (tree / ".dvc/cache/ab" / NAME[2:]).symlink_to(secret)


def linked_folder(tree: Path, secret: Path) -> None:
    secret.rename(secret.with_name(NAME[2:]))
    (tree / ".dvc/cache/ab").symlink_to(secret.parent)


def linked_cache(tree: Path, secret: Path) -> None:
    (secret.parent / "ab").mkdir()
    secret.rename(secret.parent / "ab" / NAME[2:])
    (tree / ".dvc/cache").rmdir()
    (tree / ".dvc/cache").symlink_to(secret.parent)


def pipe(tree: Path, secret: Path) -> None:
    (tree / ".dvc/cache/ab").mkdir()
    os.mkfifo(tree / ".dvc/cache/ab" / NAME[2:])


@pytest.mark.parametrize("lay", [linked_content, linked_folder, linked_cache, pipe])
def test_a_link_in_the_cache_of_a_repository_is_not_followed(
    tree: Path, secret: Path, source: RemoteDataset, lay: Callable[[Path, Path], None]
) -> None:
    lay(tree, secret)
    with pytest.raises(DatasetUnavailable, match="is behind a link, or no regular file"):
        fetched(source, data(tree))


def test_a_link_in_a_remote_is_not_followed(
    tree: Path, secret: Path, source: RemoteDataset, tmp_path: Path
) -> None:
    (tmp_path / "remote/ab").mkdir(parents=True)
    (tmp_path / "remote/ab" / NAME[2:]).symlink_to(secret)
    with pytest.raises(DatasetUnavailable, match="is behind a link, or no regular file"):
        fetched(source, data(tree, ("remote", str(tmp_path / "remote"))))


@pytest.mark.parametrize(
    "setting", ["[cache]\n    dir = {}\n", "[core]\n    remote = a\n['remote \"a\"']\n    url = {}\n"]
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_repository_names_no_folder_outside_of_it(
    tree: Path, secret: Path, source: RemoteDataset, setting: str, relative: bool
) -> None:
    (secret.parent / "ab").mkdir()
    secret.rename(secret.parent / "ab" / NAME[2:])
    (tree / ".dvc/config").write_text(setting.format("../../home" if relative else secret.parent))
    with pytest.raises(DatasetUnavailable, match="home, which the repository names, is outside of it"):
        fetched(source, data(tree))


def test_the_file_that_names_the_outputs_is_no_link(tree: Path, secret: Path, source: RemoteDataset) -> None:
    (tree / "leak.txt.dvc").unlink()
    (tree / "leak.txt.dvc").symlink_to(secret)
    with pytest.raises(DatasetUnavailable, match="is behind a link, or no regular file"):
        source.look(data(tree))


@pytest.mark.parametrize("text", [b"a\r\nb\r\n", b"a\nb\n", b"a\r\nb\n" * (1 << 17)])
def test_contents_as_dvc_2_kept_them_are_held_against_their_hash(
    tree: Path, source: RemoteDataset, text: bytes
) -> None:
    name = hashlib.md5(text.replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest()
    (tree / "leak.txt.dvc").write_text(f"outs: [{{path: leak.txt, md5: {name}, size: {len(text)}}}]\n")
    content = tree / ".dvc/cache" / name[:2] / name[2:]
    content.parent.mkdir()
    content.write_bytes(b"x" * len(text))
    with pytest.raises(DatasetMoved):
        fetched(source, data(tree))
    content.write_bytes(text)
    assert fetched(source, data(tree)) == {"leak.txt": text}


@pytest.mark.parametrize("path", ["../../home/id_rsa", "../x/../../home/id_rsa", "/etc/passwd"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_list_of_a_folder_names_no_file_outside_of_it(
    tree: Path, secret: Path, source: RemoteDataset, path: str, listed: bool
) -> None:
    named = path if path.startswith("/") else f"x/../../{path}"
    md5 = hashlib.md5(SECRET, usedforsecurity=False).hexdigest()
    if listed:
        files = f"files: [{{relpath: '{named}', md5: {md5}, size: {len(SECRET)}}}]"
        text = f"outs: [{{path: raw, hash: md5, {files}}}]\n"
    else:
        told = json.dumps([{"relpath": named, "md5": md5}]).encode()
        name = hashlib.md5(told, usedforsecurity=False).hexdigest()
        content = tree / ".dvc/cache/files/md5" / name[:2] / f"{name[2:]}.dir"
        content.parent.mkdir(parents=True)
        content.write_bytes(told)
        text = f"outs: [{{path: raw, hash: md5, md5: {name}.dir}}]\n"
    (tree / "leak.txt.dvc").write_text(text)
    with pytest.raises(DatasetUnavailable, match="is no path below a folder"):
        fetched(source, data(tree))
    entry = FileEntry(f"raw/{named}", len(SECRET), "", f"md5:{md5}")
    with pytest.raises(DatasetUnavailable, match="is no path below a folder"):
        source.materialise(data(tree), [entry], quiet)
