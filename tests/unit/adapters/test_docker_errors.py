"""Errors of the Docker libraries become ours by type and status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import urllib3
from docker.errors import DockerException

from orchestrator.adapters.docker.clients import Clients
from orchestrator.adapters.docker.errors import Refused, check, translate, way_ended
from orchestrator.domain.errors import EngineError, EngineFull, EngineUnavailable


def answer(status: int, message: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"message": message}).encode()  # the only way to make one without a server
    return response


@pytest.mark.parametrize("status", [400, 404, 409, 500])
def test_a_refusal_keeps_its_status_and_the_engines_words(status: int) -> None:
    with pytest.raises(Refused, match="making x: because") as caught, translate("making x"):
        check(answer(status, "because"))
    assert caught.value.status == status


def test_a_full_disk_is_told_from_other_failures_of_the_engine() -> None:
    with pytest.raises(EngineFull, match="no space left on the host"), translate("making x"):
        check(answer(500, "mkdir /var/lib/docker/overlay2/abc: no space left on device"))


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_an_engine_behind_it_means_unavailable(status: int) -> None:
    with pytest.raises(EngineUnavailable), translate("making x"):
        check(answer(status, "bad gateway"))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        TimeoutError("late"),
        requests.exceptions.ReadTimeout("late"),
        requests.exceptions.ConnectionError("gone"),
        urllib3.exceptions.ProtocolError("broken off"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_keeps_an_answer_from_arriving_means_unavailable(error: Exception) -> None:
    with pytest.raises(EngineUnavailable, match="making x"), translate("making x"):
        raise error


@pytest.mark.parametrize(
    ("error", "told", "remedy"),
    [
        (FileNotFoundError(2, "no"), "there is no socket", "install Docker"),
        (PermissionError(13, "no"), "this user may not use its socket", "usermod -aG docker"),
        (ConnectionRefusedError(111, "no"), "nobody listens at its socket", "systemctl start docker"),
        (TimeoutError("late"), "late", "hosts check"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_engine_that_cannot_be_reached_is_told_with_what_to_do(
    error: OSError, told: str, remedy: str
) -> None:
    wrapped = requests.exceptions.ConnectionError("wrapped")
    wrapped.__cause__ = error
    with pytest.raises(EngineUnavailable) as caught, translate("making x"):
        raise wrapped
    assert caught.value.message == f"making x: the engine does not answer ({told})"
    assert remedy in caught.value.remedy


class Way:
    """A way whose far end is gone: it was good a moment ago, and nothing listens any more."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix://{folder}/1.sock"

    def ready(self) -> None:
        """It seems to be there."""


def test_a_way_that_has_just_ended_is_told_as_that_and_not_as_an_engine_to_be_started(tmp_path: Path) -> None:
    clients = Clients("ssh://ci@lab1", 5.0, Way(tmp_path))
    with pytest.raises(EngineUnavailable) as caught:
        clients.control()
    assert "the connection to ssh://ci@lab1 broke" in caught.value.message
    assert "made anew by itself" in caught.value.remedy
    assert "install" not in caught.value.remedy


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "no"), "the connection to ssh://lab broke"),
        (ConnectionResetError(104, "no"), "the connection to ssh://lab broke, or the engine there ended"),
        (BrokenPipeError(32, "no"), "the connection to ssh://lab broke, or the engine there ended"),
        (TimeoutError("late"), None),
        (PermissionError(13, "no"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_ended_a_connection_over_a_way_is_told_apart(error: OSError, told: str | None) -> None:
    wrapped = urllib3.exceptions.ProtocolError("wrapped")
    wrapped.__cause__ = error
    ended = way_ended("ssh://lab", wrapped)
    assert (None if ended is None else str(ended)) == told


def test_anything_else_of_the_library_is_an_engine_error_that_may_not_be_retried_blindly() -> None:
    with pytest.raises(EngineError, match="odd") as caught, translate("making x"):
        raise DockerException("odd")
    assert not isinstance(caught.value, EngineUnavailable)


def test_a_defect_of_ours_is_no_engine_error() -> None:
    with pytest.raises(ZeroDivisionError), translate("making x"):
        _ = 1 / 0


def test_the_libraries_are_loaded_with_the_first_connection_and_not_before() -> None:
    code = (
        "import sys, orchestrator.adapters.docker.engine; print(*{'docker', 'requests'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
