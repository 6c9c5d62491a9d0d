"""Which host keys of Git servers are trusted where nobody sits at a terminal."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import Command


def test_a_source_that_is_not_there_is_told_with_those_that_are(command: Command, folder: Path) -> None:
    ended = command("sources", "trust", "whine")
    assert ended.code == 2
    assert 'nothing that is called "whine" is watched' in ended.err
    assert "source wine/remote" in ended.err


def test_a_source_that_is_not_reached_over_ssh_has_no_key(command: Command, folder: Path) -> None:
    ended = command("sources", "trust", "wine")
    assert ended.code == 0, ended.err
    assert "source wine/remote is not reached over SSH: there is no key to trust" in ended.err


def test_what_is_no_fingerprint_is_refused(command: Command, folder: Path) -> None:
    ended = command("sources", "trust", "wine", "--fingerprint", "SHA256:abc")
    assert ended.code == 2
    assert '"SHA256:abc" is no fingerprint' in ended.err
