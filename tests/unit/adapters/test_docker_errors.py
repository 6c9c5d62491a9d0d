"""Errors of the Docker libraries become ours by type and status."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import requests
import urllib3
from docker.errors import DockerException

from orchestrator.adapters.docker.errors import Refused, check, translate
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
