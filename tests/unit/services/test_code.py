"""The tars of commits: made once, shared, bounded, and nowhere to be found on the disk."""

from __future__ import annotations

import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.domain.errors import RevisionGone
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.services import code
from orchestrator.services.code import CodeArchives, CodeTar
from orchestrator.services.prepare import folders_head
from tests.unit.services.worlds import FakeSources, commit_id

SOURCE = SourceSpec("repo", "/repo", ("main",))
COMMIT = commit_id("first")


class CountingSources(FakeSources):
    """Counts checkouts, and lets them wait."""

    def __init__(self) -> None:
        super().__init__()
        self.checkouts: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def checkout(self, source: SourceSpec, commit: str, into: Path) -> None:
        self.checkouts.append(commit)
        assert self.may_go_on.wait(10)
        super().checkout(source, commit, into)


@pytest.fixture
def sources() -> CountingSources:
    return CountingSources()


@pytest.fixture
def archives(sources: CountingSources, tmp_path: Path) -> CodeArchives:
    return CodeArchives(sources, tmp_path / "scratch")


def names_in(tar: CodeTar, head: bytes = b"") -> list[str]:
    with tar.after(head) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
        return [member.name for member in packed]


def test_attempts_that_ask_at_once_share_one_checkout(
    archives: CodeArchives, sources: CountingSources
) -> None:
    sources.may_go_on.clear()
    coming = [archives.begin(SOURCE, COMMIT, 1000, 1000) for _ in range(3)]
    sources.may_go_on.set()
    assert {id(future.result(10)) for future in coming} == {id(coming[0].result())}
    assert archives.begin(SOURCE, COMMIT, 1000, 1000).result(10) is coming[0].result()
    assert sources.checkouts == [COMMIT]


def test_another_owner_of_the_files_has_a_tar_of_its_own(
    archives: CodeArchives, sources: CountingSources
) -> None:
    mine, others = (archives.begin(SOURCE, COMMIT, uid, 1000).result(10) for uid in (1000, 0))
    assert mine is not others
    assert sources.checkouts == [COMMIT, COMMIT]


@pytest.mark.parametrize(
    "asked",
    [replace(SOURCE, submodules=True), replace(SOURCE, lfs=True), replace(SOURCE, strangers=True)],
    ids=["submodules", "lfs", "strangers"],
)
def test_files_that_others_got_by_their_own_rules_are_not_shared(
    archives: CodeArchives, sources: CountingSources, asked: SourceSpec
) -> None:
    """A stranger's run has not what a login brought for others."""
    mine, others = (archives.begin(source, COMMIT, 1000, 1000).result(10) for source in (SOURCE, asked))
    assert mine is not others
    assert sources.checkouts == [COMMIT, COMMIT]


def test_a_checkout_that_failed_is_tried_again(archives: CodeArchives, sources: CountingSources) -> None:
    sources.vanished.add(COMMIT)
    with pytest.raises(RevisionGone):
        archives.begin(SOURCE, COMMIT, 1000, 1000).result(10)
    sources.vanished.clear()
    assert "workspace/train.py" in names_in(archives.begin(SOURCE, COMMIT, 1000, 1000).result(10))


def test_each_reader_reads_all_of_it_behind_its_own_entries(archives: CodeArchives) -> None:
    tar = archives.begin(SOURCE, COMMIT, 1000, 1000).result(10)
    with tar.after(b"") as first, tar.after(b"head") as second:
        whole = first.read()
        assert second.read(4) == b"head"
        assert second.read() == whole
    head = folders_head(1000, 1000, {"TOKEN": "a secret"})
    assert names_in(tar, head) == [
        "mlci",
        "mlci/output",
        "mlci/checkpoint",
        "mlci/home",
        "mlci/secrets",
        "mlci/secrets/env",
        "workspace",
        "workspace/train.py",
    ]


def test_nothing_of_it_has_a_name_on_the_disk(archives: CodeArchives, tmp_path: Path) -> None:
    tar = archives.begin(SOURCE, COMMIT, 1000, 1000).result(10)
    assert tar.size > 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_only_the_last_ones_are_kept(
    archives: CodeArchives, sources: CountingSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_KEPT", 2)
    for word in ("a", "b", "c"):
        archives.begin(SOURCE, commit_id(word), 1000, 1000).result(10)
    for word in ("c", "b", "a"):
        archives.begin(SOURCE, commit_id(word), 1000, 1000).result(10)
    assert sources.checkouts == [commit_id(word) for word in ("a", "b", "c", "a")]


def test_what_is_larger_than_the_bound_is_used_and_not_kept(
    archives: CodeArchives, sources: CountingSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_KEPT_BYTES", 100)
    tar = archives.begin(SOURCE, COMMIT, 1000, 1000).result(10)
    archives.begin(SOURCE, COMMIT, 1000, 1000).result(10)
    assert sources.checkouts == [COMMIT, COMMIT]
    assert "workspace/train.py" in names_in(tar)
