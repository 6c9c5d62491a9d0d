"""Datasets that a host has already, as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.config.models.machines import Host
from orchestrator.config.models.orchestrator import OrchestratorFile

SSH = {"hostname": "lab1.example.org"}


def test_a_folder_is_named_by_the_dataset() -> None:
    made = Host.model_validate({"ssh": SSH, "data": {"wine": "/mnt/data/wine/"}, "data_budget": "200g"})
    assert made.data == {"wine": "/mnt/data/wine"}
    assert made.data_budget == 200 << 30


@pytest.mark.parametrize("path", ["/", "/etc", "/var/run", "/data/../root", "data/wine", "~/wine", ""])
@pytest.mark.parametrize("way", [{"ssh": SSH}, {}], ids=["over ssh", "here"])
def test_folders_of_the_system_are_refused(path: str, way: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="data"):
        Host.model_validate({**way, "data": {"wine": path}})


def test_a_link_to_a_folder_of_the_system_is_refused_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "wine").symlink_to("/etc")
    with pytest.raises(ValidationError, match="leads to /etc"):
        Host.model_validate({"data": {"wine": str(tmp_path / "wine")}})


@pytest.mark.parametrize("inside", ["", "logs", ".."])
def test_the_orchestrators_own_state_is_refused_on_this_machine(tmp_path: Path, inside: str) -> None:
    state = tmp_path / "state"
    (state / "logs").mkdir(parents=True)
    (tmp_path / "link").symlink_to((state / inside).resolve())
    main = {"storage": {"path": str(state)}, "hosts": {"local": {"data": {"wine": str(tmp_path / "link")}}}}
    with pytest.raises(ValidationError, match="cannot be shown to runs"):
        OrchestratorFile.model_validate(main)
