"""Watched repositories behind a real sshd: deploy keys, and which servers are believed."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.adapters.ssh.keys import KnownHosts, fingerprint
from orchestrator.domain.errors import SourceRefused, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.links import HostKey
from tests.support.git import GitRepository
from tests.support.installation import COMMAND
from tests.support.sshd import SshServer, make_key

HOME = "/home/deploy"


@pytest.fixture
def server(sshd_server: Callable[[], SshServer], git_repository: GitRepository) -> SshServer:
    """A Git server with the repository ``wine.git``, which has one commit on main."""
    git_repository.commit({"train.py": "print(1)\n"}, "Train")
    started = sshd_server()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(git_repository.remote, "wine.git", filter=_deploys)
    started.container.put_archive(HOME, packed.getvalue())
    return started


def _deploys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 2000
    return member


def source_of(server: SshServer, name: str = "wine.git") -> SourceSpec:
    return SourceSpec("wine", f"ssh://{server.user}@{server.host}:{server.port}{HOME}/{name}")


def git_of(tmp_path: Path, server: SshServer, key: Path | None = None) -> GitCommand:
    access = Access(identity_file=str(key or server.key_path))
    return GitCommand(tmp_path / "mirrors", keys=tmp_path / "known_hosts", access=lambda _: access)


def believe(tmp_path: Path, line: str) -> None:
    name, kind, blob = line.split()
    KnownHosts(tmp_path / "known_hosts").trust(HostKey(name, kind, blob, fingerprint(blob), ()))


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


def test_another_key_than_the_trusted_one_is_refused_with_both_fingerprints(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, kind, right = server.host_key_line.split()
    wrong = make_key(tmp_path / "wrong").with_suffix(".pub").read_text().split()[1]
    believe(tmp_path, f"{name} {kind} {wrong}")
    # What the user's own files say of servers does not count.
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/known_hosts").write_text(server.host_key_line + "\n")
    (home / ".ssh/config").write_text("StrictHostKeyChecking no\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null")
    with pytest.raises(SourceRefused, match="another host key") as raised:
        git_of(tmp_path, server).refs(source_of(server))
    assert fingerprint(right) in raised.value.message
    assert fingerprint(wrong) in raised.value.message
    assert "orchestrator sources trust wine" in raised.value.remedy
    own = tmp_path / "own_known_hosts"
    own.write_text(server.host_key_line + "\n")
    access = Access(identity_file=str(server.key_path), known_hosts=str(own))
    git = GitCommand(tmp_path / "mirrors", keys=tmp_path / "known_hosts", access=lambda _: access)
    assert list(git.heads(source_of(server))) == ["main"]


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
    unknown = trust("whine")
    assert unknown.returncode != 0
    assert "there are: wine" in unknown.stderr
