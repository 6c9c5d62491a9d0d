"""What strangers propose, as it is looked at before anybody has approved it: it cannot fill the disk."""

import os
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand, mirror
from orchestrator.domain.change import PullRequest, Refs
from orchestrator.domain.errors import RevisionTooLarge
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.services.heads import Head
from orchestrator.services.moves import Moves
from tests.support.git import GitRepository
from tests.support.gitserver import git_server

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "LARGEST_PROPOSAL", MIB)
    monkeypatch.setattr(mirror, "MOST_PROPOSED", 2 * MIB)


def propose(repository: GitRepository, number: int, size: int) -> PullRequest:
    """A pull request with a file of so many bytes, which nothing makes smaller."""
    repository.git("switch", "--quiet", "--detach", "origin/main")
    commit = repository.commit({f"file-{number}": os.urandom(size)}, push=False)
    repository.git("push", "--quiet", "origin", f"HEAD:refs/pull/{number}/head")
    return PullRequest(number, "main", commit)


def taken(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def test_a_large_pull_request_of_a_stranger_is_not_fetched_and_says_so(
    git_repository: GitRepository, tmp_path: Path
) -> None:
    large_base = os.urandom(3 * MIB)
    main = git_repository.commit({"data": large_base})
    small, large = propose(git_repository, 1, 1000), propose(git_repository, 2, 3 * MIB)
    mirrors = tmp_path / "mirrors"
    with git_server(git_repository.remote.parent) as server:
        source = SourceSpec("wine", f"{server.url}/remote.git", paths=("file-*",))
        git = GitCommand(mirrors)
        git.fetch(source, main, "main")
        before = taken(mirrors)
        moves, refs = Moves(git), Refs({"main": main}, pulls=(small, large), default="main")
        (step,) = moves.steps(source, refs, Head(large.ref, large.commit, large), None)
        assert step.revision is None
        assert step.commit == large.commit
        assert "is more than 1.0 MiB" in step.why_not
        assert taken(mirrors) - before < MIB
        (step,) = moves.steps(source, refs, Head(small.ref, small.commit, small), None)
        assert step.revision is not None
        assert step.revision.commit == small.commit
        assert taken(mirrors) - before < MIB


def test_many_pull_requests_of_strangers_do_not_add_up(git_repository: GitRepository, tmp_path: Path) -> None:
    main = git_repository.commit({"a": "1"})
    pulls = [propose(git_repository, number, MIB - 50_000) for number in range(1, 6)]
    mirrors = tmp_path / "mirrors"
    with git_server(git_repository.remote.parent) as server:
        source = SourceSpec("wine", f"{server.url}/remote.git", strangers=True)
        git = GitCommand(mirrors)
        for pull in pulls:
            assert git.fetch(source, pull.commit, pull.ref).commit == pull.commit
            assert taken(mirrors) < 4 * MIB
        # What went is fetched again when it is needed.
        git.checkout(source, pulls[0].commit, tmp_path / "into")
        assert (tmp_path / "into/file-1").stat().st_size == MIB - 50_000
        assert git.is_ancestor(source, main, pulls[0].commit)


def test_a_slow_pull_request_of_a_stranger_is_given_up(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_repository.commit({"a": "1"})
    pull = propose(git_repository, 1, 1000)
    monkeypatch.setattr(mirror, "LONGEST_PROPOSAL", 0.001)
    with git_server(git_repository.remote.parent) as server:
        source = SourceSpec("wine", f"{server.url}/remote.git", strangers=True)
        with pytest.raises(RevisionTooLarge, match="took more than"):
            GitCommand(tmp_path / "mirrors").fetch(source, pull.commit, pull.ref)
