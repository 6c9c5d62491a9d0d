"""Watched repositories behind a real sshd: deploy keys, and which servers are believed."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters.ssh.keys import fingerprint
from orchestrator.domain.errors import SourceRefused, SourceUnavailable
from tests.support.git import GitRepository
from tests.support.gitssh import believe, git_of, source_of, with_repository
from tests.support.installation import COMMAND
from tests.support.sshd import SshServer, make_key


@pytest.fixture
def server(sshd_server: Callable[[], SshServer], git_repository: GitRepository) -> SshServer:
    git_repository.commit({"train.py": "print(1)\n"}, "Train")
    return with_repository(sshd_server(), git_repository)


def test_a_deploy_key_opens_a_repository_of_a_server_that_is_trusted(
    server: SshServer, git_repository: GitRepository, tmp_path: Path
) -> None:
    git, source = git_of(tmp_path, server), source_of(server)
    with pytest.raises(SourceRefused, match="is not known yet") as raised:
        git.refs(source)
    assert raised.value.remedy == "compare and accept it: orchestrator sources trust wine"
    believe(tmp_path, server.host_key_line)
    refs = git.refs(source)
    assert (refs.branches, refs.default) == ({"main": git_repository.head()}, "main")
    git.checkout(source, git_repository.head(), tmp_path / "into")
    assert (tmp_path / "into/train.py").read_text() == "print(1)\n"
    assert git.resolve(source, "main").subject == "Train"

    with pytest.raises(SourceRefused, match="no such repository"):
        git.refs(source_of(server, "renamed.git"))

    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(SourceRefused, match="is not let in") as raised:
        git_of(tmp_path, server, stranger).refs(source)
    assert f"{stranger}.pub" in raised.value.remedy
    assert "deploy keys" in raised.value.remedy

    server.container.stop(timeout=1)
    with pytest.raises(SourceUnavailable, match="refuses connections") as silent:
        git.refs(source)
    assert not isinstance(silent.value, SourceRefused)


def test_the_key_of_a_git_server_is_trusted_by_its_source(server: SshServer, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "runners").mkdir()
    (folder / "orchestrator.yaml").write_text(json.dumps({"storage": {"path": str(tmp_path / "var")}}))
    (folder / "runners/cpu.yaml").write_text("runner: cpu\nimage: mlci/base:1\n")
    source = {"git": source_of(server).location, "ssh": {"identity_file": str(server.key_path)}}
    pipeline = {"pipeline": "wine", "source": source, "run": {"runner": "cpu", "command": "true"}}
    (folder / "pipelines/wine.yaml").write_text(json.dumps(pipeline))

    def trust(*words: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "--config", str(folder), "--json", "sources", "trust", *words]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    shown = fingerprint(server.host_key_line.split()[2])
    assert trust("wine").returncode == 2
    refused = trust("wine", "--fingerprint", "SHA256:" + "a" * 43)
    assert (refused.returncode, shown in refused.stderr) == (1, True)
    assert not (tmp_path / "var/ssh/known_hosts").exists()
    done = trust("wine", "--fingerprint", shown)
    assert done.returncode == 0, done.stderr
    assert [(entry["source"], entry["fingerprint"]) for entry in json.loads(done.stdout)] == [("wine", shown)]
    assert (tmp_path / "var/ssh/known_hosts").read_text() == server.host_key_line + "\n"
