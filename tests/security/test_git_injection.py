"""Command injection by branch, path and URL; what a repository may not start; what git may not tell."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.adapters.git import GitCommand
from orchestrator.adapters.git.location import Location
from orchestrator.domain.errors import RevisionGone, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git


def source_of(repository: GitRepository) -> SourceSpec:
    return SourceSpec("wine", repository.url)


@pytest.fixture
def git(tmp_path: Path) -> GitCommand:
    return GitCommand(tmp_path / "mirrors")


@pytest.mark.parametrize(
    "location",
    [
        "--upload-pack=touch {proof}",
        "-c",
        "ext::sh -c touch% {proof}",
        "::/tmp",
        "fd::17/x",
        "https::ext::sh -c touch% {proof}",
        "ext://x",
        "git://example.org/x.git",
        "ftp://example.org/x.git",
        "ssh://-oProxyCommand=touch% {proof}/x",
        "-oProxyCommand=touch {proof}:x",
        "git@-oProxyCommand=touch {proof}:x",
        "relative/path",
        "~/repository",
        "https:///nohost",
        "https://[broken",
        "/path\nwith newline",
        "",
    ],
)
def test_an_address_that_would_run_something_is_refused(
    git: GitCommand, tmp_path: Path, location: str
) -> None:
    proof = tmp_path / "proof"
    source = SourceSpec("wine", location.format(proof=proof))
    for call in (
        lambda: git.heads(source),
        lambda: git.fetch(source, "1" * 40, "main"),
        lambda: git.resolve(source, "main"),
        lambda: git.checkout(source, "1" * 40, tmp_path / "into"),
    ):
        with pytest.raises(SourceUnavailable, match="is not an address"):
            call()
    assert not proof.exists()
    assert not (tmp_path / "mirrors").exists()


@pytest.mark.parametrize(
    "location",
    ["/srv/wine.git", "https://github.com/acme/wine", "git@github.com:acme/wine.git", "ssh://git@host:2222/wine.git",
     "file:///srv/wine.git", "host:wine", "git@[::1]:wine.git", "http://localhost:3000/wine.git"],
)  # fmt: skip
def test_ordinary_addresses_are_taken(location: str) -> None:
    assert Location.parse(location).url == location


@pytest.mark.parametrize("address", ["ext::sh -c touch% {proof}", "git://127.0.0.1:1/"])
def test_the_users_configuration_cannot_allow_what_is_refused(
    git: GitCommand,
    git_repository: GitRepository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    git_repository.commit({"a": "1"})
    proof, config = tmp_path / "proof", tmp_path / "gitconfig"
    config.write_text(
        "[protocol]\n\tallow = always\n"
        f'[url "{address.format(proof=proof)}"]\n\tinsteadOf = {git_repository.url}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    with pytest.raises(SourceUnavailable, match="not allowed"):
        git.heads(source_of(git_repository))
    assert not proof.exists()


@pytest.mark.parametrize(
    "branch", ["$(touch {proof})", "`touch {proof}`", "x;touch {proof}", "--upload-pack=touch {proof}"]
)
def test_a_branch_name_is_no_command(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path, branch: str
) -> None:
    proof = tmp_path / "proof"
    commit = git_repository.commit({"a": "1"})
    assert git.fetch(source_of(git_repository), commit, branch.format(proof=proof)).commit == commit
    assert not proof.exists()


@pytest.mark.parametrize("commit", ["--upload-pack=touch x", "HEAD", "main", "$(id)", "1" * 39, "A" * 40, ""])
def test_a_commit_is_a_full_hash_and_nothing_else(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path, commit: str
) -> None:
    git_repository.commit({"a": "1"})
    source = source_of(git_repository)
    for call in (
        lambda: git.fetch(source, commit, "main"),
        lambda: git.checkout(source, commit, tmp_path / "into"),
        lambda: git.is_ancestor(source, "1" * 40, commit),
    ):
        with pytest.raises(RevisionGone, match="not the full hash"):
            call()
    assert not git.is_ancestor(source, commit, git_repository.head())
    assert git.logged(source, commit, git_repository.head(), 5) == ()


def test_hooks_and_filters_do_not_run_on_checkout(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, template, config = tmp_path / "proof", tmp_path / "template", tmp_path / ".gitconfig"
    (template / "hooks").mkdir(parents=True)
    hook = template / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {proof}\n")
    hook.chmod(0o755)
    config.write_text(
        f"[init]\n\ttemplateDir = {template}\n[core]\n\thooksPath = {template}/hooks\n"
        f'[filter "evil"]\n\tsmudge = "touch {proof}; cat"\n'
    )
    commit = git_repository.commit({".gitattributes": "* filter=evil\n", "a": "1"})
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    git.checkout(source_of(git_repository), commit, tmp_path / "into")
    assert (tmp_path / "into/a").read_text() == "1"
    assert not proof.exists()


def test_submodules_are_not_fetched(git: GitCommand, git_repository: GitRepository, tmp_path: Path) -> None:
    commit = git_repository.commit({"a": "1"})
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    (git_repository.work / ".gitmodules").write_text(
        f'[submodule "sub"]\n\tpath = sub\n\turl = {git_repository.url}\n'
    )
    git_repository.git("add", ".gitmodules")
    git_repository.git("commit", "--quiet", "--message", "Add a submodule")
    git_repository.push()
    git.checkout(source_of(git_repository), git_repository.head(), tmp_path / "into")
    assert list((tmp_path / "into/sub").iterdir()) == []
    assert not (tmp_path / "into/.git/modules").exists()


def test_variables_that_point_git_elsewhere_are_not_inherited(
    git: GitCommand, git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    trap = tmp_path / "trap"
    run_git(tmp_path, "init", "--quiet", str(trap))
    before = sorted(trap.rglob("*"))
    monkeypatch.setenv("GIT_DIR", str(trap / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(trap))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    git.checkout(source_of(git_repository), commit, tmp_path / "into")
    assert (tmp_path / "into/a").exists()
    assert sorted(trap.rglob("*")) == before
    assert not (tmp_path / "trace").exists()


PASSWORD = "s3cr3t%2Fpass"


@pytest.fixture
def refusing_server() -> Iterator[tuple[str, list[str]]]:
    """A server that wants a login and refuses each one; its address, and what it was offered."""
    offered: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            offered.append(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", offered
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_password_reaches_its_server_and_neither_messages_nor_disk(
    git: GitCommand, tmp_path: Path, refusing_server: tuple[str, list[str]]
) -> None:
    host, offered = refusing_server
    source = SourceSpec("wine", f"http://ada:{PASSWORD}@{host}/wine.git")
    messages = []
    for call in (lambda: git.heads(source), lambda: git.fetch(source, "1" * 40, "main")):
        with pytest.raises(SourceUnavailable) as raised:
            call()
        messages.append(str(raised.value))
    assert any(header.startswith("Basic YWRhOnMzY3IzdC9wYXNz") for header in offered)
    for secret in ("s3cr3t", "ada:"):
        assert not any(secret in message for message in messages)
        files = [path for path in (tmp_path / "mirrors").rglob("*") if path.is_file()]
        assert files
        assert not any(secret.encode() in path.read_bytes() for path in files)
    assert "***@" in messages[0]
    assert "s3cr3t" not in repr(Location.parse(source.location))


def test_a_password_is_no_argument_that_others_can_list(
    git: GitCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, folder = tmp_path / "arguments", tmp_path / "bin"
    folder.mkdir()
    fake = folder / "git"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(SourceUnavailable):
        git.heads(SourceSpec("wine", f"https://ada:{PASSWORD}@example.org/wine.git"))
    assert "ls-remote" in log.read_text()
    assert "s3cr3t" not in log.read_text()


def test_git_asks_nobody_for_a_password(
    git: GitCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing_server: tuple[str, list[str]]
) -> None:
    proof, ask = tmp_path / "proof", tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\ntouch {proof}\n")
    ask.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(SourceUnavailable):
        git.heads(SourceSpec("wine", f"http://{refusing_server[0]}/wine.git"))
    assert not proof.exists()


def test_what_a_server_says_cannot_command_a_terminal(
    git: GitCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / "git"
    fake.write_text(
        "#!/bin/sh\nprintf 'remote: \\033[2Jgone https://x:hunter22@host/\\n%5000d\\n' 1 >&2\nexit 128\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with pytest.raises(SourceUnavailable) as raised:
        git.heads(SourceSpec("wine", "https://example.org/wine.git"))
    assert str(raised.value).isprintable()
    assert "hunter22" not in str(raised.value)
    assert len(str(raised.value)) < 700
