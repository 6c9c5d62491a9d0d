"""Logins of watched repositories: where they must not be seen."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.adapters.git.location import Location
from orchestrator.domain.errors import SourceRefused
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository
from tests.support.gitserver import git_server

TOKEN = "glpat-s3cr3t_0123456789"

# Git writes down the arguments of all that it starts, which others could list.
WATCHING = """#!/bin/sh
printf '%s\\n' "$@" >>"{log}"
GIT_TRACE="{log}" exec "{git}" "$@"
"""


def test_a_token_is_in_no_argument_file_or_working_tree(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    real = shutil.which("git")
    folder, log, home = tmp_path / "bin", tmp_path / "log", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    with git_server(git_repository.remote.parent) as server:
        server.logins = {"x-access-token": TOKEN}
        watching = folder / "git"
        watching.write_text(WATCHING.format(log=log, git=real))
        watching.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setenv("HOME", str(home))
        git = GitCommand(tmp_path / "mirrors", access=lambda _: Access(password=TOKEN))
        source = SourceSpec("wine", f"{server.url}/remote.git", submodules=True)
        git.refs(source)
        git.resolve(source, commit[:8])
        git.checkout(source, commit, tmp_path / "into")
        assert any(asked.login == ("x-access-token", TOKEN) for asked in server.asked)
    for word in ("ls-remote", "remote-http", "MLCI_GIT_PASSWORD", "checkout"):
        assert word in log.read_text()
    files = [path for path in tmp_path.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    assert len(files) > 10
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_token_goes_to_its_own_server_alone_also_when_the_user_sends_git_elsewhere(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_repository.commit({"a": "1"})
    with git_server(git_repository.remote.parent) as elsewhere:
        elsewhere.logins = {"x-access-token": TOKEN}
        config = tmp_path / "gitconfig"
        config.write_text(f'[url "{elsewhere.url}/"]\n\tinsteadOf = http://git.example.org/\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        git = GitCommand(tmp_path / "mirrors", access=lambda _: Access(password=TOKEN))
        with pytest.raises(SourceRefused):
            git.refs(SourceSpec("wine", "http://git.example.org/remote.git"))
        assert elsewhere.asked
        assert all(asked.login is None for asked in elsewhere.asked)


def test_a_repository_on_this_machine_and_one_over_ssh_get_no_password() -> None:
    for address in ("/srv/wine.git", "git@git.example.org:wine.git", "file:///srv/wine.git"):
        location = Location.parse(address, Access("ada", TOKEN))
        assert location.password == ""
        assert [key for key, _ in location.settings] == ["remote.mlci-remote.url"]
