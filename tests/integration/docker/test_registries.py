"""Images from a registry that asks who one is, by the real engine."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.adapters.docker.registries import Login, Logins
from orchestrator.domain.errors import (
    EngineError,
    ImageNotFound,
    ImageRejected,
    RegistryDenied,
    RegistryUnavailable,
    SecretMissing,
)
from orchestrator.ports.progress import ProgressEvent
from tests.support.containers import SOCKET, Bench
from tests.support.registry import Registry

USER, PASSWORD = "ci", "made-up-password"


def ignore(event: ProgressEvent) -> None:
    """A sink for those who do not look."""


@pytest.fixture(params=[False, True], ids=["basic", "token"])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    with Registry((USER, PASSWORD), token=request.param) as made:
        yield made


@pytest.fixture
def private(docker_engine: docker.DockerClient, registry: Registry) -> Iterator[str]:
    """An image that only the registry has; it is off the engine again afterwards."""
    name = registry.add(docker_engine, "team/private")
    registry.asked.clear()
    try:
        yield name
    finally:
        with suppress(docker.errors.ImageNotFound):
            docker_engine.images.remove(name, force=True)


@pytest.fixture
def logged_in(bench: Bench) -> Iterator[Callable[[str, str], DockerEngine]]:
    """Call it with a registry and a password for an engine that has them."""
    with ExitStack() as made:

        def engine(host: str, password: str) -> DockerEngine:
            logins = Logins((host,), lambda asked: Login(USER, password))
            return made.enter_context(closing(DockerEngine(SOCKET, bench.prefix, logins=logins)))

        yield engine


def test_the_administrators_login_pulls_and_builds_on_what_is_private(
    bench: Bench,
    private: str,
    registry: Registry,
    docker_engine: docker.DockerClient,
    logged_in: Callable[[str, str], DockerEngine],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = logged_in(registry.host, PASSWORD)
    assert engine.pull(private, ignore) == engine.find_image(private)
    docker_engine.images.remove(private)
    (tmp_path / "Dockerfile").write_text(f"FROM {private}\nCOPY Dockerfile /\n")
    tag = f"{bench.prefix}:on-private"
    engine.build(tmp_path, "Dockerfile", tag, {}, ignore, credentials=True)
    made = docker_engine.images.get(tag)
    kept = json.dumps([made.attrs, made.history()])
    for secret in (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()):
        assert secret not in kept
        assert secret not in caplog.text


def test_a_strangers_dockerfile_is_lent_no_login(
    private: str,
    registry: Registry,
    bench: Bench,
    logged_in: Callable[[str, str], DockerEngine],
    tmp_path: Path,
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {private}\nCOPY Dockerfile /\n")
    engine = logged_in(registry.host, PASSWORD)
    with pytest.raises(ImageRejected, match="FROM") as caught:
        engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:strange", {}, ignore)
    assert private in str(caught.value.log)
    assert registry.asked
    assert {user for _, _, user in registry.asked} == {""}


def test_a_wrong_password_is_told_apart_from_a_registry_that_is_down(
    private: str,
    registry: Registry,
    bench: Bench,
    logged_in: Callable[[str, str], DockerEngine],
    tmp_path: Path,
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {private}\nCOPY Dockerfile /\n")

    def fails(password: str, how: type[EngineError]) -> None:
        engine = logged_in(registry.host, password)
        with pytest.raises(how) as pulling:
            engine.pull(private, ignore)
        with pytest.raises(how) as building:
            engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:no", {}, ignore, credentials=True)
        for caught in (pulling, building):
            assert type(caught.value) is how
            assert private in caught.value.message
            assert password not in str(caught.value)
            if how is RegistryDenied:
                assert f"registries.{registry.host}" in caught.value.remedy

    fails("another-password", RegistryDenied)
    registry.broken = True
    fails(PASSWORD, RegistryUnavailable)
    registry.broken = False
    registry.stop()
    fails(PASSWORD, RegistryUnavailable)
    registry.start()
    assert logged_in(registry.host, PASSWORD).pull(private, ignore)


def test_without_a_login_the_place_to_name_one_is_told(
    private: str, registry: Registry, bench: Bench
) -> None:
    with pytest.raises(RegistryDenied) as caught:
        bench.engine.pull(private, ignore)
    assert "registries:" in caught.value.remedy
    assert registry.host in caught.value.remedy


def test_an_image_that_a_registry_does_not_have_is_not_found(
    registry: Registry, logged_in: Callable[[str, str], DockerEngine], bench: Bench, tmp_path: Path
) -> None:
    engine = logged_in(registry.host, PASSWORD)
    with pytest.raises(ImageNotFound, match="no/such"):
        engine.pull(f"{registry.host}/no/such:1", ignore)
    (tmp_path / "Dockerfile").write_text(f"FROM {registry.host}/no/such:1\nCOPY Dockerfile /\n")
    with pytest.raises(ImageNotFound, match="no/such"):
        engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:no", {}, ignore, credentials=True)
    with pytest.raises(ImageRejected, match="no/such"):
        engine.build(tmp_path, "Dockerfile", f"{bench.prefix}:no", {}, ignore)


def test_what_docker_login_stored_counts_where_the_configuration_says_nothing(
    private: str, registry: Registry, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with closing(DockerEngine(SOCKET, bench.prefix)) as engine:
        assert engine.pull(private, ignore)


def test_a_password_without_a_value_is_missed_when_it_is_needed(registry: Registry, bench: Bench) -> None:
    def missing(host: str) -> Login:
        raise SecretMissing(f"{host}: nothing there")

    logins = Logins((registry.host,), missing)
    with closing(DockerEngine(SOCKET, bench.prefix, logins=logins)) as engine:
        assert engine.find_image(bench.image)
        with pytest.raises(SecretMissing, match="nothing there"):
            engine.pull(f"{registry.host}/any:1", ignore)
