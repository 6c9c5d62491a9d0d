"""What small containers on a host do with a dataset's volume, and how they say what they found.

A volume holds ``files``, which runs see, and while it is filled ``parts``, which are the pieces of large
files. The scripts need GNU's find and coreutils, as the base image has them. Names may be anything, so they
travel with zero bytes between them, as base64; a last line tells that the output is whole.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from orchestrator.domain.errors import EngineError, EngineUnavailable

MOUNT: Final = "/mlci-data"
_WIDTH = 1000
_END = b"end"

SURVEY: Final = (
    "survey",
    f"""set -e; cd {MOUNT}
find . -type f -print0 | xargs -0 -r stat --printf '%s %n\\0' -- | base64 -w {_WIDTH}; echo; echo end""",
)
"""A script, with its name: the size of every file."""

_NO_HASH = "-" * 64
_HASHES = (
    # Only plain files are opened: a link leads elsewhere, and a pipe that nobody writes to is never over.
    "{ find . -type f -print0 | xargs -0 -r sha256sum -z -- || :"
    f"; find . ! -type d ! -type f -printf '{_NO_HASH}  %p\\0' || :; }}"
    f" | base64 -w {_WIDTH}; echo; echo end"
)
"""The hash of every file, and of what is neither file nor folder one that no file has."""

FINISH: Final = (
    "finish",
    f"""set -e; cd {MOUNT}
while [ $# -gt 0 ]; do
  parts=parts/$1; whole=parts/$1.whole; file=files/$2; shift 2
  for part in "$parts"/*; do
    [ -f "$part" ] || continue
    dd if="$part" of="$whole" bs=1M oflag=seek_bytes seek="${{part##*/}}" conv=notrunc status=none
    rm -- "$part"
  done
  if [ -f "$whole" ]; then
    chmod 0444 "$whole"; chmod u+w "${{file%/*}}"; mv -f -- "$whole" "$file"
  fi
done
rm -rf parts
find files -type d ! -perm 0555 -exec chmod 0555 {{}} +
sync -f .
cd files; {_HASHES}""",
)
"""Puts together large files, each given as the name of its parts and its path; then the hash of every file.

Doing it again after a kill at any point is the same as doing it once: a part goes to its place in the file
before it is removed.
"""

HASH_FOLDER: Final = (
    "compare",
    f"""set -e; cd {MOUNT}/files
# What cannot be read is left out, and is missed then.
exec 2>/dev/null
sign() {{ find . -printf '%y %s %T@ %C@ %i %p\\0' | sha256sum | cut -c1-64; }}
before=$(sign); echo "$before"
if [ "$before" = "$1" ]; then echo same; exit; fi
{_HASHES}
sign""",
)
"""The signature of a folder; ``same`` if it is the one that was given, else the hashes, and it again."""


def decoded(said: bytes, what: str) -> bytes:
    """What a script said. EngineUnavailable when its end did not arrive, EngineError when it failed."""
    *lines, last = said.rstrip(b"\n").split(b"\n")
    if last != _END:
        raise EngineUnavailable(f"the output of {what} broke off", "it is run again")
    try:
        return base64.b64decode(b"".join(lines), validate=True)
    except binascii.Error as error:
        told = said[-500:].decode(errors="replace")
        raise EngineError(f"{what}: {told}") from error


def sizes(found: bytes) -> Mapping[str, int]:
    """Bytes of each file, by path."""
    pairs = (record.split(b" ", 1) for record in found.split(b"\0") if record)
    return {_path(name): int(size) for size, name in pairs}


def hashes(found: bytes) -> Mapping[str, str]:
    """SHA-256 of each file, by path."""
    records = (record for record in found.split(b"\0") if record)
    return {_path(record[66:]): record[:64].decode("ascii", "replace") for record in records}


def _path(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").removeprefix("./")
