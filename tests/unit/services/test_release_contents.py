"""What of a repository goes into a release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from orchestrator.domain.errors import (
    ActionUnavailable,
    InvalidInput,
    NotFound,
    RevisionGone,
    SourceError,
    SourceUnavailable,
)
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.world import BlobStore, SourceControl
from orchestrator.services.contents import Contents
from orchestrator.services.deploying.repository import Repository

COMMIT = "a" * 40
SOURCE = cast("SourceSpec", object())


class Sources:
    """A repository with the files given, or with the error given."""

    def __init__(self, files: dict[str, bytes], error: SourceError | None = None) -> None:
        self._files = files
        self._error = error

    def read(self, source: SourceSpec, commit: str, path: str, limit: int) -> bytes | None:
        if self._error is not None:
            raise self._error
        return self._files.get(path)

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        if self._error is not None:
            raise self._error
        (into / ".git").mkdir()
        (into / ".git" / "HEAD").write_text("x")
        for path, content in self._files.items():
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            (into / path).write_bytes(content)
        (into / "link").symlink_to("/etc/passwd")


class Upper:
    def fill(self, name: str, text: str, values: object) -> str:
        return text.upper()


def repository(tmp_path: Path, files: dict[str, bytes], error: SourceError | None = None) -> Repository:
    return Repository(cast("SourceControl", Sources(files, error)), Upper(), tmp_path / "scratch")


def test_the_code_goes_along_without_links_and_without_git(tmp_path: Path) -> None:
    code = repository(tmp_path, {"serve.py": b"print()", "sub/a b": b"x"})
    with Contents(cast("BlobStore", None)) as contents:
        left_out = contents.add_folder("code", code.code(SOURCE, COMMIT))
        assert [file.path for file in contents.files] == ["code/serve.py", "code/sub/a b"]
        with contents.open(contents.files[0]) as stream:
            assert stream.read() == b"print()"
        assert left_out == ["code/link"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_template_is_read_at_the_commit_and_filled_in(tmp_path: Path) -> None:
    assert repository(tmp_path, {"a.ini": b"x"}).filled(SOURCE, COMMIT, "a.ini", {}) == b"X"
    with pytest.raises(NotFound, match=r"no template b\.ini"):
        repository(tmp_path, {}).filled(SOURCE, COMMIT, "b.ini", {})
    with pytest.raises(InvalidInput, match="no text"):
        repository(tmp_path, {"a.ini": b"\xff"}).filled(SOURCE, COMMIT, "a.ini", {})


@pytest.mark.parametrize(
    ("error", "becomes"), [(SourceUnavailable("down"), ActionUnavailable), (RevisionGone("gone"), NotFound)]
)
def test_a_repository_that_is_silent_is_asked_again_and_a_commit_that_is_gone_is_not(
    tmp_path: Path, error: SourceError, becomes: type[Exception]
) -> None:
    asked = repository(tmp_path, {}, error)
    with pytest.raises(becomes):
        asked.filled(SOURCE, COMMIT, "a.ini", {})
    with pytest.raises(becomes):
        asked.code(SOURCE, COMMIT).__enter__()


def test_the_folder_is_let_go_when_the_contents_are_left_by_an_error(tmp_path: Path) -> None:
    left: list[str] = []

    @contextmanager
    def opened() -> Iterator[Path]:
        try:
            yield tmp_path
        finally:
            left.append("left")

    def broken() -> None:
        with Contents(cast("BlobStore", None)) as contents:
            contents.add_folder("code", opened())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert left == ["left"]
