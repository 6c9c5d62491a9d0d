"""What OpenSSH is told, what it says, and which keys it is to trust."""

from __future__ import annotations

import hashlib
import stat
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.ssh import settings
from orchestrator.adapters.ssh.keys import KnownHosts, fingerprint
from orchestrator.adapters.ssh.link import pause
from orchestrator.adapters.ssh.trouble import engine_trouble, trouble_of
from orchestrator.domain.errors import EngineUnavailable, HostRefused, InvalidInput
from orchestrator.domain.pipeline import SshSpec
from orchestrator.ports.links import HostKey

LAB = SshSpec("lab1", "ci", 2222, identity_file="/keys/ci")
KNOWN = Path("/state/ssh/known_hosts")
OLD = "AAAAC3NzaC1lZDI1NTE5AAAAIBfbwmeR/uVwyKEmnCxyVxQbIcS8G3eK7PsW1ESel5us"
LOCKED = """\
-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF

AAAA
-----END RSA PRIVATE KEY-----
"""
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
The fingerprint for the ED25519 key sent by the remote host is
SHA256:lEKvyJMuRsyPJz5P3WHj7UgQF/Zii7xTEFtzVKqY1R0.
Offending ED25519 key in /state/ssh/known_hosts:1
Host key for [lab1]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = """\
No ED25519 host key is known for [lab1]:2222 and you have requested strict checking.
Host key verification failed.
"""
SAID = {
    "a new key of the kind that is known": (CHANGED, True, "[lab1]:2222 shows another host key"),
    "no known key": (UNKNOWN, True, "the host key of [lab1]:2222 is not known yet"),
    "the user": ("ci@lab1: Permission denied (publickey).\n", True, "ci@lab1 is not let in with /keys/ci"),
    "the user on the way": (
        (
            "who@bastion: Permission denied (publickey,password).\n"
            "kex_exchange_identification: Connection closed by remote host\n"
        ),
        True,
        "who@bastion is not let in",
    ),
    "a key that others may read": (
        (
            "@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\n"
            "ci@lab1: Permission denied (publickey).\n"
        ),
        True,
        "others may read /keys/ci",
    ),
    "its own configuration": (
        "/c: line 1: Bad configuration option: frobnicate\n/c: terminating, 1 bad configuration options\n",
        True,
        "ssh does not understand its configuration",
    ),
    "nobody at the port": (
        "ssh: connect to host lab1 port 2222: Connection refused\n",
        False,
        "lab1 refuses connections at port 2222",
    ),
    "a name": (
        "ssh: Could not resolve hostname lab1: Name or service not known\n",
        False,
        "no machine of that name is known",
    ),
    "a dark machine": (
        "ssh: connect to host lab1 port 2222: Connection timed out\n",
        False,
        "ssh://ci@lab1:2222 cannot be reached",
    ),
    "a dark machine behind another": (
        "stdio forwarding failed\nkex_exchange_identification: Connection closed by remote host\n",
        False,
        "cannot be reached from the machine before it",
    ),
    "a broken connection": ("", False, "the connection to ssh://ci@lab1:2222 broke"),
    "an end from there": (
        "Connection to lab1 closed by remote host.\n",
        False,
        "the connection to ssh://ci@lab1:2222 broke",
    ),
    "what nobody has seen before": (
        "sorry\x1b[31m, no\n",
        False,
        "no connection to ssh://ci@lab1:2222: sorry",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_ssh_says_becomes_a_reason_and_whether_a_person_has_to_act(case: str) -> None:
    said, refused, told = SAID[case]
    trouble = trouble_of("lab", LAB, said)
    assert told in trouble.told
    assert trouble.refused is refused
    assert trouble.remedy, "nothing is said that could be done"
    assert "\x1b" not in trouble.told
    error = trouble.error("lab")
    assert type(error) is (HostRefused if refused else EngineUnavailable)
    assert error.message.startswith("host lab: ")


def test_a_changed_key_is_told_with_both_fingerprints_and_the_command_that_accepts_it() -> None:
    trouble = trouble_of("lab", LAB, CHANGED, lambda name: ("SHA256:old",) if name == "[lab1]:2222" else ())
    assert "SHA256:lEKvyJMuRsyPJz5P3WHj7UgQF/Zii7xTEFtzVKqY1R0" in trouble.told
    assert "SHA256:old" in trouble.told
    assert "nothing was sent" in trouble.told
    assert "orchestrator hosts trust lab" in trouble.remedy


def test_a_key_of_another_kind_than_the_trusted_one_is_no_unknown_key() -> None:
    assert "another host key" in trouble_of("lab", LAB, UNKNOWN, lambda name: ("SHA256:old",)).told


@pytest.mark.parametrize(
    ("looked", "told", "remedy"),
    [
        ("absent\n", "has no /var/run/docker.sock", "install Docker"),
        ("other\n", "is no socket", "socket:"),
        ("denied\nci\n", "ci may not use /var/run/docker.sock", "usermod -aG docker ci"),
        ("there\n", "nobody answers", "systemctl start docker"),
        ("", "no engine answers", "see that Docker runs"),
    ],
)
def test_an_engine_that_does_not_answer_is_told_with_what_to_do(looked: str, told: str, remedy: str) -> None:
    trouble = engine_trouble(LAB, looked)
    assert told in trouble.told
    assert remedy in trouble.remedy


@pytest.mark.parametrize(
    ("rights", "groups", "steps"),
    [
        ("srw------- docker", "ci docker", ["chmod g+rw /var/run/docker.sock"]),
        ("srw-rw---- docker", "ci", ["usermod -aG docker ci"]),
        ("srw-r----- mlusers", "ci", ["chmod g+rw /var/run/docker.sock", "usermod -aG mlusers ci"]),
        (
            "srw-rw---- root",
            "ci",
            ["chgrp docker /var/run/docker.sock", "usermod -aG docker ci"],
        ),
        ("srw-rw---- root; reboot", "ci", ["usermod -aG docker ci"]),
    ],
)
def test_a_socket_that_is_denied_is_told_with_the_steps_that_its_rights_ask_for(
    rights: str, groups: str, steps: list[str]
) -> None:
    trouble = engine_trouble(LAB, f"denied\nci\ngroups {groups}\nrights {rights}\n")
    told, _, otherwise = trouble.remedy.rpartition("; or ")
    assert told.removeprefix("there, as root: ").split("; ") == steps
    assert otherwise == "use an engine of that user's own"


def test_rights_that_allow_a_socket_are_not_what_is_to_be_changed() -> None:
    trouble = engine_trouble(LAB, "denied\nci\ngroups ci docker\nrights srw-rw---- docker\n")
    assert "(srw-rw----, group docker)" in trouble.told
    assert "usermod" not in trouble.remedy
    assert "AppArmor" in trouble.remedy


def test_a_key_with_a_passphrase_is_told_as_what_keeps_us_out(tmp_path: Path) -> None:
    key = tmp_path / "ci"
    key.write_text(LOCKED)
    trouble = trouble_of(
        "lab", replace(LAB, identity_file=str(key)), "ci@lab1: Permission denied (publickey).\n"
    )
    assert f"{key} has a passphrase" in trouble.told
    assert f"ssh-keygen -p -f {key}" in trouble.remedy
    assert "authorized_keys" not in trouble.remedy
    assert trouble.refused


def test_what_decides_about_safety_stands_before_the_users_own_configuration() -> None:
    text = settings.configuration(LAB, KNOWN)
    own, _, users = text.partition("Include")
    for line in (
        "StrictHostKeyChecking yes",
        "BatchMode yes",
        'UserKnownHostsFile "/state/ssh/known_hosts"',
        "GlobalKnownHostsFile /dev/null",
        "VerifyHostKeyDNS no",
        "ForwardAgent no",
        "ControlPath none",
        "PermitLocalCommand no",
        "ServerAliveInterval 5",
        "ExitOnForwardFailure yes",
        'IdentityFile "/keys/ci"',
    ):
        assert line in own.splitlines()
    assert users.split() == ["~/.ssh/config", "Include", "/etc/ssh/ssh_config"]
    assert "Host " not in own, "a block would end before the users' own words"


def test_a_file_that_is_named_takes_the_place_of_the_users_own_configuration() -> None:
    text = settings.configuration(SshSpec("lab1", config="/etc/ml ci/ssh"), KNOWN)
    assert text.splitlines()[-1] == 'Include "/etc/ml ci/ssh"'
    assert "~/.ssh/config" not in text
    assert "IdentitiesOnly" not in text


def test_known_hosts_that_a_person_keeps_take_the_place_of_our_own() -> None:
    text = settings.configuration(SshSpec("lab1", known_hosts="/etc/100%/known"), KNOWN)
    assert 'UserKnownHostsFile "/etc/100%%/known"' in text.splitlines()
    assert str(KNOWN) not in text


@pytest.mark.parametrize("path", ['/a"\nProxyCommand x', "/a\nb", "/${HOME}/x"])
def test_a_path_that_ssh_would_read_otherwise_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="OpenSSH cannot be told the path"):
        settings.configuration(SshSpec("lab1", identity_file=path), KNOWN)


def test_the_tunnel_is_an_argument_list_with_the_host_behind_the_options() -> None:
    spec = SshSpec("lab1", "ci", 2222, proxy_jump="a,b:3", socket="/run/user/1000/docker.sock")
    assert settings.tunnel(spec, Path("/t/1.conf"), Path("/t/1.sock")) == [
        *("ssh", "-F", "/t/1.conf", "-N", "-T", "-L", "/t/1.sock:/run/user/1000/docker.sock"),
        *("-l", "ci", "-p", "2222", "-o", "ProxyJump=a,b:3", "--", "lab1"),
    ]


def test_a_remote_command_reaches_the_far_shell_word_by_word() -> None:
    command = settings.remote(SshSpec("lab1"), Path("/c"), ["echo", "$(id)", "a b"])
    assert command[-3:] == ["--", "lab1", "echo '$(id)' 'a b'"]


def test_ssh_sees_no_secret_of_this_process() -> None:
    seen = settings.environment({"PATH": "/bin", "SMTP_PASSWORD": "x", "LC_ALL": "de_DE.UTF-8"})
    assert seen == {"PATH": "/bin", "LC_ALL": "C"}


def test_pauses_grow_to_a_minute_and_a_refusal_has_longer_ones() -> None:
    assert [pause(n, False, 1.0) for n in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert (pause(2, False, 0.0), pause(2, False, 1.0)) == (1, 2)
    assert pause(1, True, 1.0) == 300


def key(name: str, blob: str) -> HostKey:
    return HostKey(name, "ssh-ed25519", blob, fingerprint(blob), ())


def test_a_fingerprint_is_the_one_that_ssh_shows() -> None:
    assert fingerprint(b64encode(b"key").decode()) == "SHA256:" + b64encode(
        hashlib.sha256(b"key").digest()
    ).decode().rstrip("=")
    assert fingerprint("no base64!") == "damaged"


def test_a_newly_trusted_key_replaces_the_machines_old_one_and_no_other(tmp_path: Path) -> None:
    file = KnownHosts(tmp_path / "ssh" / "known_hosts")
    assert file.fingerprints("lab1") == ()
    new = b64encode(b"new").decode()
    file.trust(key("lab1", OLD))
    file.trust(key("[lab1]:2222", OLD))
    file.trust(key("lab1", new))
    assert file.fingerprints("lab1") == (fingerprint(new),)
    assert file.fingerprints("[lab1]:2222") == (fingerprint(OLD),)
    assert file.path.read_text() == f"[lab1]:2222 ssh-ed25519 {OLD}\nlab1 ssh-ed25519 {new}\n"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700


def test_markers_and_comments_of_a_file_of_keys_are_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"# lab1 ssh-ed25519 {OLD}\n@revoked lab1 ssh-ed25519 {OLD}\nlab1\n\n")
    assert KnownHosts(path).fingerprints("lab1") == ()


def test_words_that_an_older_openssh_does_not_know_are_ignored_before_they_come() -> None:
    first = settings.configuration(SshSpec("lab"), Path("/known")).splitlines()[0]
    word, _, ignored = first.partition(" ")
    assert word == "IgnoreUnknown"
    assert {"KnownHostsCommand", "ForkAfterAuthentication"} <= set(ignored.split(","))
