"""Which host keys are trusted where nobody sits at a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from orchestrator.cli.hosttrust import _agreed
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.links import HostKey
from tests.unit.cli.conftest import Command

SHOWN = "SHA256:" + "a" * 43
OTHER = "SHA256:" + "b" * 43
KEY = HostKey("lab1", "ssh-ed25519", "AAAA", SHOWN, ())


def test_the_key_that_nobody_has_compared_is_not_what_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(InvalidInput) as caught:
        _agreed("lab1", KEY, ())
    assert SHOWN not in caught.value.remedy
    assert "administrator reads out" in caught.value.remedy


def test_only_a_key_with_the_fingerprint_that_was_given_is_agreed_to() -> None:
    assert _agreed("lab1", KEY, (OTHER, SHOWN))
    assert not _agreed("lab1", KEY, (OTHER,))


@pytest.mark.parametrize(
    "text", ["SHA256:abc", SHOWN + "a", SHOWN.removeprefix("SHA256:"), "MD5:aa:bb", SHOWN + "=", ""]
)
def test_what_is_no_fingerprint_is_refused_before_any_machine_is_asked(
    command: Command, folder: Path, text: str
) -> None:
    ended = command("hosts", "trust", "desk", "--fingerprint", text)
    assert ended.code == 2
    assert f'"{text}" is no fingerprint' in ended.err


def test_a_fingerprint_in_its_form_is_taken(command: Command, folder: Path) -> None:
    ended = command("hosts", "trust", "desk", "--fingerprint", SHOWN)
    assert ended.code == 0, ended.err
    assert "there is no key to trust" in ended.err
