"""Bare repositories on the disk, written and read without much ado."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

NOTHING = "0" * 40
_GIT_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
}


def git(repository: Path, *arguments: str, told: bytes | None = None) -> str:
    """Run git in a bare repository."""
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=told,
        env=_GIT_ENVIRONMENT,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def init(path: Path) -> None:
    """Make an empty bare repository that gives any commit and takes pushes over http."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
    with (path / "config").open("a") as config:
        config.write("[uploadpack]\n\tallowAnySHA1InWant = true\n[http]\n\treceivepack = true\n")


def commit(
    path: Path,
    ref: str,
    parent: str,
    files: Mapping[str, str | bytes],
    message: str,
    who: tuple[str, int],
) -> None:
    """Let a ref name a new commit; without a parent, one without history. ``who``: a login and seconds."""
    login, stamp = who
    lines = [
        f"commit {ref}\n".encode(),
        f"committer {login} <{login}@example.org> {stamp} +0000\n".encode(),
        _data(message.encode()),
        f"from {parent}\n".encode() if parent else b"",
    ]
    for name, content in files.items():
        lines += [f"M 100644 inline {name}\n".encode(), _data(_bytes(content))]
    git(path, "fast-import", "--quiet", "--force", told=b"".join(lines))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"


def packed(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = (path / "packed-refs").read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        if line[:1] not in ("#", "^"):
            sha, _, name = line.partition(" ")
            yield name, sha
