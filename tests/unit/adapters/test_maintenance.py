"""The lock between those who copy what is stored and those who remove it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.adapters.files.maintenance import NAME, Maintenance
from orchestrator.domain.errors import StoreUnavailable


def test_many_copy_at_once_and_nobody_removes_meanwhile(tmp_path: Path) -> None:
    lock = Maintenance(tmp_path / "var")
    with lock.copying(), Maintenance(tmp_path / "var").copying(), lock.removing() as ours:
        assert not ours
    with lock.removing() as ours:
        assert ours
        with Maintenance(tmp_path / "var").removing() as other:
            assert not other
    assert stat.S_IMODE((tmp_path / "var" / NAME).stat().st_mode) == 0o600


def test_who_would_copy_while_somebody_removes_waits_and_is_told(tmp_path: Path) -> None:
    with (
        Maintenance(tmp_path).removing() as ours,
        pytest.raises(StoreUnavailable, match="being removed"),
        Maintenance(tmp_path).copying(patience=0.15),
    ):
        pass
    assert ours
    with Maintenance(tmp_path).copying(patience=0):
        pass
