"""What the scripts that look at data on a host say of what lies there, with the tools of this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from orchestrator.services.staged import HASH_FOLDER, MOUNT, decoded, hashes


def compared(folder: Path) -> dict[str, str]:
    what, script = HASH_FOLDER
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace(f"{MOUNT}/files", str(folder)), what, ""],
        stdout=subprocess.PIPE,
        timeout=20,
        check=True,
    )
    first, _, rest = done.stdout.rstrip(b"\n").partition(b"\n")
    body, _, last = rest.rpartition(b"\n")
    assert first == last
    return dict(hashes(decoded(body, what)))


def test_only_plain_files_of_a_folder_are_opened_and_all_else_differs(tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    (folder / "below").mkdir(parents=True)
    outside.write_bytes(b"1")
    (folder / "below" / "a b\n.csv").write_bytes(b"1")
    (folder / "link").symlink_to(outside)
    (folder / "nowhere").symlink_to("/nowhere/at/all")
    os.mkfifo(folder / "pipe")
    found = compared(folder)
    assert found.pop("below/a b\n.csv") == hashlib.sha256(b"1").hexdigest()
    assert set(found) == {"link", "nowhere", "pipe"}
    assert set(found.values()) == {"-" * 64}
