"""What the scripts of staging do, on the fake engine, which runs none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from tests.support.fake_engine import FakeContainer, FakeEngine, Script


def act_as_stager(engine: FakeEngine) -> None:
    """Let the scripts of :mod:`orchestrator.services.staged` do what they would."""
    engine.commands |= {"survey": _survey, "finish": _finish, "compare": _compare}


def _survey(container: FakeContainer, files: dict[str, bytes]) -> Script:
    return Script(_said(f"{len(content)} ./{path}" for path, content in files.items()))


def _finish(container: FakeContainer, files: dict[str, bytes]) -> Script:
    keys = container.spec.command[4::2]
    for key, path in zip(keys, container.spec.command[5::2], strict=True):
        pieces = {int(p.rpartition("/")[2]): p for p in files if p.startswith(f"parts/{key}/")}
        if pieces:
            files[f"files/{path}"] = b"".join(files.pop(pieces[offset]) for offset in sorted(pieces))
    return Script(_hashes({p.removeprefix("files/"): c for p, c in files.items() if p.startswith("files/")}))


def _compare(container: FakeContainer, files: dict[str, bytes]) -> Script:
    sign = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest().encode()
    if container.spec.command[4].encode() == sign:
        return Script((sign, b"same"))
    return Script((sign, *_hashes(files), sign))


def _hashes(files: dict[str, bytes]) -> tuple[bytes, ...]:
    return _said(f"{hashlib.sha256(content).hexdigest()}  ./{path}" for path, content in files.items())


def _said(records: Iterable[str]) -> tuple[bytes, ...]:
    told = base64.b64encode(b"".join(record.encode() + b"\0" for record in records))
    return (*(told[at : at + 1000] for at in range(0, len(told), 1000)), b"end")
