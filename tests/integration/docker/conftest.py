"""A real and a fake engine behind the same port."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import docker
import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.domain.pipeline import HELPER_IMAGE
from tests.support.containers import SOCKET, Bench, docker_bench
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def make_bench(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Callable[[], Bench]]:
    """Call it for a bench on the real engine, an instance of its own; all its things go after the test."""
    with ExitStack() as benches:
        yield lambda: benches.enter_context(docker_bench(base_image))


@pytest.fixture
def bench(make_bench: Callable[[], Bench]) -> Bench:
    """A bench on the real engine."""
    return make_bench()


@pytest.fixture
def engine(bench: Bench) -> DockerEngine:
    """The real engine of ``bench``."""
    assert isinstance(bench.engine, DockerEngine)
    return bench.engine


@pytest.fixture(params=["fake", "docker"])
def either(request: pytest.FixtureRequest) -> Bench:
    """A bench on the fake engine, and then on the real one."""
    if request.param == "docker":
        bench: Bench = request.getfixturevalue("bench")
        return bench
    prefix = f"mlci-test-{uuid.uuid4().hex[:8]}"
    return Bench(FakeEngine(instance=prefix, images=["image:1", HELPER_IMAGE]), "image:1", prefix)


@pytest.fixture(scope="session")
def socket() -> str:
    """The real engine's address."""
    return SOCKET
