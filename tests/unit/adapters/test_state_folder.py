"""Whose the files of a state folder are."""

from __future__ import annotations

import stat
from pathlib import Path

from orchestrator.adapters.files.state import INSTANCE, LocalState


def test_a_folder_belongs_to_the_first_database_that_claims_it(tmp_path: Path) -> None:
    assert LocalState(tmp_path).belongs_to("one", claim=True)
    assert LocalState(tmp_path).belongs_to("one", claim=True)
    assert not LocalState(tmp_path).belongs_to("two", claim=True)
    assert not LocalState(tmp_path).belongs_to("two", claim=False)
    assert stat.S_IMODE((tmp_path / INSTANCE).stat().st_mode) == 0o600


def test_who_only_asks_claims_nothing(tmp_path: Path) -> None:
    assert LocalState(tmp_path).belongs_to("one", claim=False)
    assert LocalState(tmp_path).belongs_to("two", claim=False)
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_was_cut_off_claims_nothing(tmp_path: Path) -> None:
    (tmp_path / INSTANCE).touch()
    assert LocalState(tmp_path).belongs_to("one", claim=True)


def test_one_at_a_time_tidies_up(tmp_path: Path) -> None:
    with LocalState(tmp_path).alone() as first, LocalState(tmp_path).alone() as second:
        assert (first, second) == (True, False)
    with LocalState(tmp_path).alone() as third:
        assert third
