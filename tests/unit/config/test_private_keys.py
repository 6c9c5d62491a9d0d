"""Keys that only a person could use are told apart before ssh is not let in with them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from orchestrator.config.private_keys import has_passphrase
from tests.support.configuration import ConfigFolder


def openssh(cipher: bytes, kdf: bytes) -> str:
    """A private key as OpenSSH writes it, as far as it tells how it is encrypted."""
    body = b"openssh-key-v1\0" + b"".join(len(part).to_bytes(4, "big") + part for part in (cipher, kdf, b""))
    text = base64.encodebytes(body + bytes(200)).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"


LOCKED = openssh(b"aes256-ctr", b"bcrypt")
PLAIN = openssh(b"none", b"none")


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        (PLAIN, False),
        (LOCKED, True),
        ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n", True),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", True),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", False),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nno base64!\n-----END OPENSSH PRIVATE KEY-----\n", False),
        ("ssh-ed25519 AAAA ci\n", False),
    ],
    ids=["plain", "locked", "older", "pkcs8", "plain pkcs8", "damaged", "public"],
)
def test_a_key_tells_whether_it_has_a_passphrase(tmp_path: Path, text: str, locked: bool) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    assert has_passphrase(file) is locked


def test_a_key_that_cannot_be_read_is_not_said_to_have_one(tmp_path: Path) -> None:
    assert not has_passphrase(tmp_path / "nothing")
    assert not has_passphrase(tmp_path)


def test_a_host_whose_key_has_a_passphrase_is_a_warning_of_validate(folder: ConfigFolder) -> None:
    (folder.path / "plain").write_text(PLAIN)
    (folder.path / "locked").write_text(LOCKED)
    folder.write(
        "orchestrator.yaml",
        "hosts:\n"
        "  lab1: {ssh: {hostname: lab1, identity_file: ./plain}}\n"
        "  lab2: {ssh: {hostname: lab2, identity_file: ./locked}}\n",
    )
    told = [str(problem) for problem in folder.load().warnings if "passphrase" in problem.message]
    assert len(told) == 1
    assert "orchestrator.yaml:3:" in told[0]
    assert f"ssh-keygen -p -f {folder.path / 'locked'}" in told[0]
