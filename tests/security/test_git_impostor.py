"""An impostor in the place of a Git server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand
from orchestrator.adapters.ssh.keys import fingerprint
from orchestrator.domain.errors import SourceRefused
from tests.support.git import GitRepository
from tests.support.gitssh import believe, git_of, source_of, with_repository
from tests.support.sshd import SshServer, make_key


@pytest.fixture
def server(sshd_server: Callable[[], SshServer], git_repository: GitRepository) -> SshServer:
    git_repository.commit({"train.py": "print(1)\n"}, "Train")
    return with_repository(sshd_server(), git_repository)


def test_another_key_than_the_trusted_one_is_refused_with_both_fingerprints(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, kind, right = server.host_key_line.split()
    wrong = make_key(tmp_path / "wrong").with_suffix(".pub").read_text().split()[1]
    believe(tmp_path, f"{name} {kind} {wrong}")
    # What the user tells git of ssh does not count.
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
