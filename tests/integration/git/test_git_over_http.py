"""Watched repositories behind real web servers, and what these do wrong."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.domain.errors import SecretMissing, SourceRefused, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git
from tests.support.gitserver import (
    Answer,
    Asked,
    Authority,
    GitServer,
    git_server,
    make_authority,
    silent_server,
)

TOKEN = "glpat-0123456789abcdef"


@pytest.fixture
def server(git_repository: GitRepository) -> Iterator[GitServer]:
    with git_server(git_repository.remote.parent) as served:
        yield served


@pytest.fixture
def commit(git_repository: GitRepository) -> str:
    return git_repository.commit({"train.py": "print(1)\n"}, "Train")


@pytest.fixture
def git(tmp_path: Path) -> GitCommand:
    return GitCommand(tmp_path / "mirrors")


def source_of(server: GitServer, **more: object) -> SourceSpec:
    return SourceSpec("wine", f"{server.url}/remote.git", **more)  # type: ignore[arg-type]


def with_token(tmp_path: Path, token: str = TOKEN) -> GitCommand:
    return GitCommand(tmp_path / "mirrors", access=lambda _: Access(password=token))


def test_a_repository_is_watched_and_fetched_over_http(
    git: GitCommand, server: GitServer, git_repository: GitRepository, commit: str, tmp_path: Path
) -> None:
    git_repository.git("tag", "--annotate", "--message=Release", "v1")
    git_repository.git("push", "--quiet", "origin", "v1")
    refs = git.refs(source_of(server, tags=("v*",)))
    assert (refs.branches, refs.tags) == ({"main": commit}, {"v1": commit})
    assert git.refs(source_of(server)).tags == {}
    assert git.fetch(source_of(server), commit, "refs/tags/v1").subject == "Train"
    git.checkout(source_of(server), commit, tmp_path / "into")
    assert (tmp_path / "into/train.py").read_text() == "print(1)\n"


def test_a_look_asks_for_no_refs_but_branches(
    git: GitCommand, server: GitServer, git_repository: GitRepository, commit: str
) -> None:
    run_git(git_repository.remote, "update-ref", "refs/pull/7/head", commit)
    git.refs(source_of(server))
    server.asked.clear()
    assert git.refs(source_of(server)).branches == {"main": commit}
    listing = server.asked[-1]
    assert len(server.asked) == 2
    assert b"ref-prefix refs/heads/" in listing.body
    assert b"refs/pull" not in server.answer(listing).body


def test_the_default_branch_is_asked_for_again_once_it_is_gone(
    git: GitCommand, server: GitServer, git_repository: GitRepository, commit: str
) -> None:
    assert git.refs(source_of(server)).default == "main"
    git_repository.git("push", "--quiet", "origin", "HEAD:trunk")
    assert git.refs(source_of(server)).default == "main"
    run_git(git_repository.remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    git_repository.delete_branch("main")
    assert git.refs(source_of(server)).default == "trunk"


def test_a_pull_request_is_fetched_by_its_ref_and_never_taken_for_a_branch(
    git: GitCommand, server: GitServer, git_repository: GitRepository, commit: str
) -> None:
    git_repository.switch("theirs")
    pull = git_repository.commit({"a": "1"}, "Theirs", push=False)
    git_repository.git("push", "--quiet", "origin", "HEAD:refs/pull/7/head")
    git_repository.git("push", "--quiet", "origin", f"{commit}:refs/heads/refs/pull/8/head")
    source = source_of(server)
    assert git.fetch(source, pull, "refs/pull/7/head").branch == "refs/pull/7/head"
    assert git.resolve(source, "refs/pull/7/head").commit == pull
    assert git.refs(source).branches == git.heads(source) == {"main": commit}
    assert git.merge_base(source, commit, pull) == commit


def test_a_token_opens_a_private_repository_and_is_asked_for_where_it_lacks(
    git: GitCommand, server: GitServer, commit: str, tmp_path: Path
) -> None:
    server.logins = {"x-access-token": TOKEN}
    with pytest.raises(SourceRefused, match="wants a login"):
        git.refs(source_of(server))
    assert with_token(tmp_path).refs(source_of(server)).branches == {"main": commit}
    assert with_token(tmp_path).fetch(source_of(server), commit, "main").commit == commit


def test_a_user_and_password_open_a_private_repository(
    server: GitServer, commit: str, tmp_path: Path
) -> None:
    server.logins = {"ada@example.org": "p%4 ss:w/ord'\""}
    git = GitCommand(tmp_path / "mirrors", access=lambda _: Access("ada@example.org", "p%4 ss:w/ord'\""))
    assert git.heads(source_of(server)) == {"main": commit}


def test_a_revoked_token_is_told_without_showing_it(server: GitServer, commit: str, tmp_path: Path) -> None:
    server.logins = {"x-access-token": TOKEN}
    git = with_token(tmp_path)
    git.fetch(source_of(server), commit, "main")
    server.logins = {"x-access-token": "another"}
    for call in (lambda: git.refs(source_of(server)), lambda: git.fetch(source_of(server), "1" * 40, "main")):
        with pytest.raises(SourceRefused, match="login is not accepted") as raised:
            call()
        assert "revoked" in raised.value.remedy
        assert TOKEN not in str(raised.value)


def test_a_token_that_cannot_be_read_is_told_on_the_source(server: GitServer, tmp_path: Path) -> None:
    def access(_: SourceSpec) -> Access:
        raise SecretMissing("the environment variable WINE_TOKEN is not set", "set it")

    with pytest.raises(SourceRefused, match=r"cannot log in to wine: .*WINE_TOKEN"):
        GitCommand(tmp_path / "mirrors", access=access).refs(source_of(server))
    with pytest.raises(SourceRefused, match="more than one line"):
        with_token(tmp_path, "two\nlines").refs(source_of(server))


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (403, SourceRefused, "forbids it"),
        (404, SourceRefused, "no such repository"),
        (410, SourceRefused, "no such repository"),
        (429, SourceUnavailable, "asked too often"),
        (500, SourceUnavailable, "out of order"),
        (503, SourceUnavailable, "out of order"),
    ],
)
def test_each_refusal_of_a_server_is_told_apart(
    git: GitCommand, server: GitServer, status: int, kind: type[SourceUnavailable], told: str
) -> None:
    server.fails_with(status)
    for call in (
        lambda: git.refs(source_of(server)),
        lambda: git.default_branch(source_of(server)),
        lambda: git.fetch(source_of(server), "1" * 40, "main"),
    ):
        with pytest.raises(SourceUnavailable, match=told) as raised:
            call()
        assert type(raised.value) is kind
        assert str(server.url) in raised.value.message
        assert raised.value.remedy


def test_a_server_that_fails_is_asked_once_for_a_fetch(git: GitCommand, server: GitServer) -> None:
    server.fails_with(500)
    with pytest.raises(SourceUnavailable):
        git.fetch(source_of(server), "1" * 40, "main")
    assert len(server.asked) == 1


def test_a_repository_that_is_gone_is_told(
    git: GitCommand, server: GitServer, git_repository: GitRepository, commit: str
) -> None:
    assert git.heads(source_of(server)) == {"main": commit}
    shutil.rmtree(git_repository.remote)
    with pytest.raises(SourceRefused, match="no such repository") as raised:
        git.refs(source_of(server))
    assert "renamed" in raised.value.remedy


def test_a_repository_that_was_renamed_is_followed_and_told_once(
    git: GitCommand, server: GitServer, commit: str, caplog: pytest.LogCaptureFixture
) -> None:
    def moved(asked: Asked) -> Answer | None:
        if not asked.path.startswith("/old.git/"):
            return None
        new = f"{server.url}{asked.path.replace('/old.git', '/remote.git')}?{asked.query}"
        return Answer(301, [("Location", new)], b"")

    server.fault = moved
    source = SourceSpec("wine", f"{server.url}/old.git")
    assert git.heads(source) == {"main": commit}
    assert git.fetch(source, commit, "main").commit == commit
    told = [record.getMessage() for record in caplog.records if "moved" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"{server.url}/old.git has moved to {server.url}/remote.git")


def test_a_server_that_says_nothing_is_left_in_time(tmp_path: Path) -> None:
    with silent_server() as url, pytest.raises(SourceUnavailable, match="did not end within 1 s") as raised:
        GitCommand(tmp_path / "mirrors", quick=1).refs(SourceSpec("wine", f"{url}/wine.git"))
    assert not isinstance(raised.value, SourceRefused)


def test_a_server_that_is_not_there_is_unavailable(git: GitCommand) -> None:
    with silent_server() as url:
        pass
    with pytest.raises(SourceUnavailable, match=r"[Ff]ailed to connect|Couldn't connect") as raised:
        git.refs(SourceSpec("wine", f"{url}/wine.git"))
    assert not isinstance(raised.value, SourceRefused)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def test_a_certificate_is_checked_and_an_authority_of_ones_own_can_be_named(
    git: GitCommand,
    git_repository: GitRepository,
    commit: str,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with git_server(git_repository.remote.parent, authority.server) as server:
        with pytest.raises(SourceRefused, match="certificate is not trusted") as raised:
            git.refs(source_of(server))
        assert "GIT_SSL_CAINFO" in raised.value.remedy
        assert server.asked == []
        monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.certificate))
        assert git.refs(source_of(server)).branches == {"main": commit}
        other = SourceSpec("wine", f"{server.url.replace('localhost', '127.0.0.1')}/remote.git")
        with pytest.raises(SourceRefused, match="certificate is not trusted"):
            git.refs(other)


def test_pipelines_share_a_mirror_and_fetch_what_is_new(
    server: GitServer, git_repository: GitRepository, commit: str, tmp_path: Path
) -> None:
    one, other = with_token(tmp_path), with_token(tmp_path)
    one.fetch(source_of(server), commit, "main")
    asked = len(server.asked)
    assert other.fetch(SourceSpec("grapes", f"{server.url}/remote.git"), commit, "main").commit == commit
    assert len(server.asked) == asked
    newer = git_repository.commit({"b": "2"})
    other.fetch(source_of(server), newer, "main")
    assert f"have {commit}".encode() in server.asked[-1].body
