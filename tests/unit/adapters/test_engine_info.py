"""What an engine says of itself is checked before anything is decided by it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.adapters.docker.info import info_of
from orchestrator.domain.errors import EngineError

SAID: dict[str, object] = {
    "ID": "7TRN",
    "ServerVersion": "28.5.1",
    "NCPU": 8,
    "MemTotal": 16 << 30,
    "OperatingSystem": "Debian",
    "OSType": "linux",
    "Architecture": "x86_64",
    "Name": "lab1",
    "DockerRootDir": "/var/lib/docker",
    "SystemTime": "2026-01-01T12:00:00.5Z",
    "Warnings": ["no swap limit"],
}


def test_an_honest_answer_is_taken() -> None:
    info = info_of(SAID)
    assert (info.id, info.cpus, info.memory, info.platform) == ("7TRN", 8, 16 << 30, "linux/amd64")
    assert info.clock == datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC)
    assert info.warnings == ("no swap limit",)


def test_what_engines_may_leave_out_may_be_left_out() -> None:
    needed = ("ID", "ServerVersion", "NCPU", "MemTotal", "OperatingSystem")
    info = info_of({**{key: SAID[key] for key in needed}, "Warnings": None})
    assert (info.name, info.data_root, info.clock, info.warnings) == ("", "", None, ())


def test_a_limit_that_has_no_effect_is_told() -> None:
    (_, warning) = info_of({**SAID, "Rootless": True, "CgroupVersion": "1"}).warnings
    assert "have no effect" in warning


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ID", None),
        ("ID", 7),
        ("ServerVersion", None),
        ("NCPU", "8"),
        ("NCPU", 0),
        ("NCPU", 1.5),
        ("MemTotal", None),
        ("MemTotal", -1),
        ("MemTotal", 1 << 70),
        ("OperatingSystem", ["Debian"]),
        ("Architecture", {}),
        ("Name", 1),
        ("DockerRootDir", []),
        ("SystemTime", 12),
        ("SystemTime", "2026-13-45T99:00:00Z"),
        ("SystemTime", "9999-12-31T23:59:59-23:59"),
        ("Warnings", "all of them"),
        ("Warnings", [None]),
    ],
)
def test_what_no_engine_says_is_an_error_of_the_engine(key: str, value: object) -> None:
    with pytest.raises(EngineError, match=f"{key} is .*, which no engine says"):
        info_of({**SAID, key: value})


@pytest.mark.parametrize("said", [None, "OK", [SAID]])
def test_what_is_no_object_at_all_is_one_too(said: object) -> None:
    with pytest.raises(EngineError, match="which no engine says"):
        info_of(said)
