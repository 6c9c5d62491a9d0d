"""A host's networks are proven by looking from within."""

from __future__ import annotations

import pytest

from orchestrator.domain.errors import ImageNotFound
from orchestrator.domain.pipeline import HostSpec, Protection
from orchestrator.ports.engine import ContainerSpec
from orchestrator.services.networkcheck import Finding, try_out
from orchestrator.services.networks import Networks
from tests.support.fake_engine import FakeEngine, Script
from tests.unit.services.worlds import ManualClock


def looked(*lines: str, host: HostSpec | None = None) -> tuple[Finding, FakeEngine]:
    engine, clock = FakeEngine(), ManualClock()
    spec = host or HostSpec("local", "unix:///x")
    said = Script(tuple(line.encode() for line in lines))
    engine.script(said, lambda container: container.name.endswith("-look"))
    networks = Networks("0123456789abcdef", [spec], clock)
    return try_out(networks, engine, spec, "check", clock), engine


def looks(engine: FakeEngine) -> list[str]:
    return [name for call, name in engine.calls if call == "create"]


def test_what_is_shut_is_counted() -> None:
    finding, engine = looked("shut 169.254.169.254", "shut 192.0.2.2", "names")
    assert finding == Finding("ok", "1 address of the host and the cloud's metadata are shut")
    assert engine.guests == {}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("shut 169.254.169.254", "open 192.0.2.2", "names"), "192.0.2.2"),
        (("shut 169.254.169.254", "names"), "the host"),
        ((), "the host"),
    ],
)
def test_what_is_open_or_was_not_looked_at_is_a_failure(lines: tuple[str, ...], says: str) -> None:
    finding, engine = looked(*lines)
    assert finding.result == "fail"
    assert says in finding.told
    assert engine.guests == {}


def test_names_that_are_not_found_are_a_warning() -> None:
    finding, _ = looked("shut 169.254.169.254", "shut 192.0.2.2")
    assert finding.result == "warn"
    assert "names" in finding.told


def test_no_protection_is_a_warning_and_looks_at_nothing() -> None:
    finding, engine = looked(host=HostSpec("local", "unix:///x", protection=Protection.NONE))
    assert finding.result == "warn"
    assert looks(engine) == []


def test_what_the_administrator_left_open_is_not_looked_at() -> None:
    host = HostSpec("local", "unix:///x", reachable=("192.0.2.2",))
    seen: list[ContainerSpec] = []
    engine, clock = FakeEngine(), ManualClock()

    def keep(spec: ContainerSpec) -> bool:
        seen.append(spec)
        return True

    engine.script(Script((b"shut 169.254.169.254", b"names")), keep)
    found = try_out(Networks("0123456789abcdef", [host], clock), engine, host, "check", clock)
    assert found.result == "ok"
    assert "192.0.2.2" not in seen[0].command


def test_a_missing_helper_image_is_an_error() -> None:
    with pytest.raises(ImageNotFound):
        looked(host=HostSpec("local", "unix:///x", helper_image="none:1"))
