"""Room to be kept free, and logins at registries, as people write them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.config.models.machines import Host
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.domain.space import Reserve

GIB = 1 << 30


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5g", Reserve(size=5 * GIB)),
        ("10%", Reserve(share=0.1)),
        ("2.5 %", Reserve(share=0.025)),
        ("0", Reserve()),
        (0, Reserve()),
    ],
)
def test_room_is_a_size_a_share_or_nothing(written: str | int, meant: Reserve) -> None:
    assert Host.model_validate({"min_free": written}).min_free == meant


@pytest.mark.parametrize("written", ["100%", "-1%", "%", "5", 5, "much", True, None, ["5g"]])
def test_what_is_no_room_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        Host.model_validate({"min_free": written})


def test_some_room_is_kept_unless_told_otherwise() -> None:
    made = OrchestratorFile.model_validate({})
    assert made.storage.min_free == Reserve(size=GIB)
    assert made.hosts["local"].min_free == Reserve(size=2 * GIB)


def test_a_login_is_kept_by_the_name_that_images_begin_with() -> None:
    login = {"username": "ci", "password": "made-up-password"}
    made = OrchestratorFile.model_validate({"registries": {"docker.io": login, "127.0.0.1:5000": login}})
    assert set(made.registries) == {"docker.io", "127.0.0.1:5000"}
    assert "made-up-password" not in repr(made)
    assert "made-up-password" not in made.model_dump_json()


@pytest.mark.parametrize("name", ["https://ghcr.io", "ghcr.io/team", "GHCR.io", "index.docker.io", "a b", ""])
def test_what_is_no_registry_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not the name of a registry"):
        OrchestratorFile.model_validate({"registries": {name: {"username": "ci", "password": "x"}}})


def test_a_login_needs_both_parts() -> None:
    with pytest.raises(ValidationError):
        OrchestratorFile.model_validate({"registries": {"ghcr.io": {"username": "ci"}}})
