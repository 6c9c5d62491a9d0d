"""Submodules of real repositories, beside each other and on a server."""

from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.domain.errors import RevisionGone, SourceRefused
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git
from tests.support.gitserver import git_server

TOKEN = "submodule-token"


def beside(repository: GitRepository, name: str) -> GitRepository:
    """Another repository, whose remote is beside this one's as ``NAME.git``."""
    folder = repository.remote.parent / name
    folder.mkdir()
    made = GitRepository.create(folder)
    made.remote.rename(repository.remote.parent / f"{name}.git")
    found = GitRepository(made.work, repository.remote.parent / f"{name}.git")
    found.git("remote", "set-url", "origin", str(found.remote))
    return found


def add(repository: GitRepository, path: str, url: str, commit: str, more: str = "") -> str:
    """Commit a submodule, as ``git submodule add`` does without looking at it."""
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    modules = repository.work / ".gitmodules"
    text = modules.read_text() if modules.exists() else ""
    modules.write_text(f'{text}[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n{more}')
    repository.git("add", ".gitmodules")
    repository.git("commit", "--quiet", "--message", f"Add {path}")
    repository.push()
    return repository.head()


@pytest.fixture
def git(tmp_path: Path) -> GitCommand:
    return GitCommand(tmp_path / "mirrors")


@pytest.fixture
def library(git_repository: GitRepository) -> GitRepository:
    made = beside(git_repository, "library")
    made.commit({"library.py": "1"})
    return made


def source_of(repository: GitRepository) -> SourceSpec:
    return SourceSpec("wine", repository.url, submodules=True)


def test_submodules_come_with_their_own_submodules(
    git: GitCommand, git_repository: GitRepository, library: GitRepository, tmp_path: Path
) -> None:
    inner = beside(git_repository, "inner")
    pinned = inner.commit({"inner.py": "1"})
    inner.commit({"inner.py": "2"})
    outer = add(library, "vendor/inner", "../inner.git", pinned)
    git_repository.commit({"train.py": "1"})
    commit = add(git_repository, "lib/the library", "../library.git", outer)
    into = tmp_path / "into"
    git.checkout(source_of(git_repository), commit, into)
    assert (into / "train.py").read_text() == "1"
    assert (into / "lib/the library/library.py").read_text() == "1"
    assert (into / "lib/the library/vendor/inner/inner.py").read_text() == "1"
    assert run_git(into / "lib/the library", "rev-parse", "HEAD") == outer
    assert run_git(into, "status", "--porcelain") == ""
    assert run_git(into / "lib/the library", "remote") == ""


def test_submodules_come_only_when_asked_for_and_where_their_author_wants_it(
    git: GitCommand, git_repository: GitRepository, library: GitRepository, tmp_path: Path
) -> None:
    commit = add(git_repository, "lib", "../library.git", library.head(), "\tupdate = none\n")
    git.checkout(source_of(git_repository), commit, tmp_path / "none")
    assert list((tmp_path / "none/lib").iterdir()) == []
    (git_repository.work / ".gitmodules").unlink()
    commit = add(git_repository, "lib2", "../library.git", library.head())
    plain = SourceSpec("wine", git_repository.url)
    git.checkout(plain, commit, tmp_path / "plain")
    assert list((tmp_path / "plain/lib2").iterdir()) == []
    with pytest.raises(SourceRefused, match=r"submodule at lib, and \.gitmodules does not say"):
        git.checkout(source_of(git_repository), commit, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_submodule_on_the_same_server_gets_the_login_of_its_source(
    git_repository: GitRepository, library: GitRepository, tmp_path: Path
) -> None:
    git = GitCommand(tmp_path / "mirrors", access=lambda _: Access(password=TOKEN))
    git_repository.commit({"a": "1"})
    with git_server(git_repository.remote.parent) as server:
        server.logins = {"x-access-token": TOKEN}
        source = SourceSpec("wine", f"{server.url}/remote.git", submodules=True)
        add(git_repository, "relative", "../library.git", library.head())
        add(git_repository, "absolute", f"{server.url}/library.git", library.head())
        commit = add(git_repository, "by-ssh", "git@127.0.0.1:library.git", library.head())
        git.checkout(source, commit, tmp_path / "into")
    for name in ("relative", "absolute", "by-ssh"):
        assert (tmp_path / "into" / name / "library.py").read_text() == "1"


def test_a_submodule_whose_commit_is_gone_is_named(
    git: GitCommand, git_repository: GitRepository, library: GitRepository, tmp_path: Path
) -> None:
    assert library.head()
    commit = add(git_repository, "lib", "../library.git", "1" * 40)
    with pytest.raises(RevisionGone, match="submodule lib: commit 111111111111"):
        git.checkout(source_of(git_repository), commit, tmp_path / "into")


def test_submodules_without_end_are_given_up(
    git: GitCommand, git_repository: GitRepository, library: GitRepository, tmp_path: Path
) -> None:
    commit = git_repository.commit({"a": "1"})
    for _ in range(7):
        (git_repository.work / ".gitmodules").unlink(missing_ok=True)
        commit = add(git_repository, "again", "./../remote.git", commit)
    with pytest.raises(SourceRefused, match="5 deep"):
        git.checkout(source_of(git_repository), commit, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []
