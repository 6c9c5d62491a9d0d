"""Private keys to log in with: whether one can be used where nobody types."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

_OPENSSH: Final = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", re.DOTALL)
_OTHERS: Final = ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED")
_MAGIC: Final = b"openssh-key-v1\0"
_PLAIN: Final = b"\0\0\0\4none"
"""The name of the cipher in a key that has none, after its length."""
_LONGEST: Final = 1 << 20


def has_passphrase(file: Path) -> bool:
    """Whether a private key is encrypted; False for what cannot be read or is no key."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_LONGEST).decode("ascii", errors="replace")
    except OSError:
        return False
    if any(words in text for words in _OTHERS):
        return True
    found = _OPENSSH.search(text)
    if found is None:
        return False
    try:
        body = base64.b64decode("".join(found[1].split()), validate=True)
    except ValueError:
        return False
    return body.startswith(_MAGIC) and not body.startswith(_MAGIC + _PLAIN)


def passphrase_told(file: Path) -> str:
    """What is to be said of a key that has a passphrase."""
    return f"{file} has a passphrase, which nobody types here: it counts only while an SSH agent holds it"


def passphrase_remedy(file: Path) -> str:
    """What to do about it."""
    return f"a key without one: `ssh-keygen -p -f {file}` takes it away"
