"""Large files by the real git-lfs, from a repository on this machine and from a server."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.domain.errors import SourceRefused, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git
from tests.support.gitlfs import git_lfs
from tests.support.gitserver import GitServer, git_server

WEIGHTS = bytes(range(256)) * 4000
TOKEN = "large-file-token"


@pytest.fixture(scope="session")
def git_lfs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = git_lfs(tmp_path_factory.mktemp("lfs"))
    if found is None:
        pytest.skip("there is no package git-lfs to be had")
    return found


@pytest.fixture
def with_lfs(git_lfs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{git_lfs_folder}:{os.environ['PATH']}")


@pytest.fixture
def server(git_repository: GitRepository) -> Iterator[GitServer]:
    with git_server(git_repository.remote.parent) as served:
        yield served


def pointer(oid: str, size: int) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


def commit_of(repository: GitRepository, server: GitServer, **more: str) -> str:
    """A commit with a large file of the server's, and one that only looks like a pointer."""
    text = pointer(server.store(WEIGHTS), len(WEIGHTS))
    return repository.commit(
        {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "w/a.bin": text, "a.txt": text}
        | more
    )


def over(server: GitServer) -> SourceSpec:
    return SourceSpec("wine", f"{server.url}/remote.git", lfs=True)


@pytest.mark.usefixtures("with_lfs")
def test_large_files_are_in_the_working_tree_with_their_content(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    server.logins = {"x-access-token": TOKEN}
    commit = commit_of(git_repository, server)
    git = GitCommand(tmp_path / "mirrors", access=lambda _: Access(password=TOKEN))
    into = tmp_path / "into"
    git.checkout(over(server), commit, into)
    assert (into / "w/a.bin").read_bytes() == WEIGHTS
    assert (into / "a.txt").read_text().startswith("version ")
    config = (into / ".git/config").read_text()
    assert "lfs" not in config
    assert "remote" not in config
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in everything)


@pytest.mark.usefixtures("with_lfs")
def test_a_large_file_is_fetched_once(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    git = GitCommand(tmp_path / "mirrors")
    git.checkout(over(server), commit_of(git_repository, server), tmp_path / "one")
    asked = len(server.asked)
    git.checkout(over(server), git_repository.head(), tmp_path / "two")
    assert (tmp_path / "two/w/a.bin").read_bytes() == WEIGHTS
    assert len(server.asked) == asked


@pytest.mark.usefixtures("with_lfs")
def test_a_large_file_that_nobody_has_used_for_weeks_is_forgotten(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    git = GitCommand(tmp_path / "mirrors")
    old = commit_of(git_repository, server)
    git.checkout(over(server), old, tmp_path / "old")
    (kept,) = (path for path in (tmp_path / "mirrors").rglob("objects/*/*/*") if path.stat().st_size > 10**6)
    os.utime(kept, (1, 1))
    other = pointer(server.store(b"other"), 5)
    git.checkout(over(server), git_repository.commit({"w/a.bin": other}), tmp_path / "new")
    assert not kept.exists()
    git.checkout(over(server), old, tmp_path / "again")
    assert (tmp_path / "again/w/a.bin").read_bytes() == WEIGHTS


@pytest.mark.usefixtures("with_lfs")
def test_large_files_stay_pointers_when_nobody_asks_for_them(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    commit = commit_of(git_repository, server)
    source = SourceSpec("wine", f"{server.url}/remote.git")
    GitCommand(tmp_path / "mirrors").checkout(source, commit, tmp_path / "into")
    assert (tmp_path / "into/w/a.bin").read_text().startswith("version ")
    assert not any("info/lfs" in asked.path for asked in server.asked)


@pytest.mark.usefixtures("with_lfs")
def test_large_files_of_a_repository_on_this_machine(git_repository: GitRepository, tmp_path: Path) -> None:
    git_repository.git("lfs", "install", "--local")
    git_repository.git("lfs", "track", "*.bin")
    commit = git_repository.commit({"a.bin": WEIGHTS})
    assert run_git(git_repository.remote, "cat-file", "-s", f"{commit}:a.bin") != str(len(WEIGHTS))
    source = SourceSpec("wine", git_repository.url, lfs=True)
    GitCommand(tmp_path / "mirrors").checkout(source, commit, tmp_path / "into")
    assert (tmp_path / "into/a.bin").read_bytes() == WEIGHTS


@pytest.mark.usefixtures("with_lfs")
def test_a_large_file_that_the_server_lacks_is_named(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    commit = commit_of(git_repository, server)
    server.large_files.clear()
    with pytest.raises(SourceUnavailable, match="large file"):
        GitCommand(tmp_path / "mirrors").checkout(over(server), commit, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.usefixtures("with_lfs")
def test_a_damaged_large_file_never_reaches_a_run(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    git = GitCommand(tmp_path / "mirrors")
    commit = commit_of(git_repository, server)
    git.checkout(over(server), commit, tmp_path / "one")
    (kept,) = (path for path in (tmp_path / "mirrors").rglob("objects/*/*/*") if path.stat().st_size > 10**6)
    kept.chmod(0o600)
    kept.write_bytes(b"x" * len(WEIGHTS))
    with pytest.raises(SourceUnavailable, match="not what the commit says"):
        git.checkout(over(server), commit, tmp_path / "two")
    git.checkout(over(server), commit, tmp_path / "two")
    assert (tmp_path / "two/w/a.bin").read_bytes() == WEIGHTS


@pytest.mark.usefixtures("with_lfs")
def test_a_repository_cannot_send_us_elsewhere_for_large_files(
    git_repository: GitRepository, server: GitServer, tmp_path: Path
) -> None:
    with git_server(tmp_path) as elsewhere:
        evil = f"[lfs]\n\turl = {elsewhere.url}/evil\n\tfetchexclude = *\n"
        evil += f'[remote "mlci-remote"]\n\tlfsurl = {elsewhere.url}/evil\n'
        commit = commit_of(git_repository, server, **{".lfsconfig": evil})
        GitCommand(tmp_path / "mirrors").checkout(over(server), commit, tmp_path / "into")
        assert elsewhere.asked == []
    assert (tmp_path / "into/w/a.bin").read_bytes() == WEIGHTS


def test_a_missing_git_lfs_is_told_when_the_source_is_looked_at(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    program = shutil.which("git")
    assert program is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    git, source = GitCommand(tmp_path / "mirrors"), SourceSpec("wine", git_repository.url, lfs=True)
    for call in (
        lambda: git.refs(source),
        lambda: git.fetch(source, commit, "main"),
        lambda: git.checkout(source, commit, tmp_path / "into"),
    ):
        with pytest.raises(SourceRefused, match="git-lfs is not installed") as raised:
            call()
        assert raised.value.remedy == "apt-get install git-lfs"
    assert git.refs(SourceSpec("wine", git_repository.url)).branches == {"main": commit}
