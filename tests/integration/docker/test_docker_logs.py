"""Logs of the real engine, read frame by frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.docker.engine import DockerEngine
from orchestrator.adapters.docker.frames import LONGEST_LINE
from orchestrator.domain.errors import EngineUnavailable
from tests.support.containers import SOCKET, Bench
from tests.support.relay import Relay
from tests.support.waiting import wait_until


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path / "s", SOCKET.removeprefix("unix://")) as relay:
        yield relay


@pytest.fixture
def far(bench: Bench, relay: Relay) -> Iterator[DockerEngine]:
    """The engine of ``bench``, through a link that can be cut."""
    engine = DockerEngine(relay.url, bench.prefix, timeout=2)
    yield engine
    engine.close()


def test_a_burst_of_300_000_lines_arrives_whole_and_in_order(bench: Bench) -> None:
    spec = bench.spec("seq 1 300000 | sed 's/^/loss=0.123456789 number=/'")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    began = time.monotonic()
    count = 0
    for count, line in enumerate(bench.engine.logs(spec.name, None), start=1):
        assert line.text == b"loss=0.123456789 number=%d" % count
    assert count == 300_000
    assert time.monotonic() - began < 60


def test_a_line_that_the_engine_cut_in_parts_is_one_line(bench: Bench) -> None:
    _, lines = bench.shell("head -c 100000 /dev/zero | tr '\\0' x; echo; echo next")
    assert [line.text for line in lines] == [b"x" * 100_000, b"next"]


def test_parts_of_the_two_outputs_are_not_mixed(bench: Bench) -> None:
    half = "head -c 20000 /dev/zero | tr '\\0'"
    _, lines = bench.shell(
        f"{half} o; sleep 0.2; {half} e >&2; sleep 0.2; echo whole >&2; sleep 0.2; {half} O; echo",
    )
    assert [line.text for line in lines] == [b"e" * 20_000 + b"whole", b"o" * 20_000 + b"O" * 20_000]
    assert lines[1].timestamp < lines[0].timestamp


def test_a_last_line_without_an_end_is_not_lost(bench: Bench) -> None:
    _, lines = bench.shell("echo whole; printf torn")
    assert [line.text for line in lines] == [b"whole", b"torn"]


def test_a_line_without_an_end_does_not_fill_the_memory(bench: Bench) -> None:
    _, lines = bench.shell(f"head -c {2 * LONGEST_LINE + 5} /dev/zero | tr '\\0' x")
    assert [len(line.text) for line in lines] == [LONGEST_LINE, LONGEST_LINE, 5]
    assert len({line.timestamp for line in lines}) == 1


def test_progress_bars_stay_one_line(bench: Bench) -> None:
    _, lines = bench.shell(r"printf '10%%\r20%%\r30%%\n'")
    assert [line.text for line in lines] == [b"10%\r20%\r30%"]


def test_a_log_ends_without_an_error_when_the_engine_goes_away_and_is_resumed_without_a_gap(
    bench: Bench, relay: Relay, far: DockerEngine
) -> None:
    spec = bench.spec(
        "echo one; printf begun; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo -ended; echo two"
    )
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    log = far.logs(spec.name, None)
    first = next(log)
    threading.Timer(0.2, relay.cut).start()
    assert list(log) == []
    with pytest.raises(EngineUnavailable):
        far.find(spec.name)
    with pytest.raises(EngineUnavailable):
        far.logs(spec.name, None)
    relay.restore()
    resumed = far.logs(spec.name, first.timestamp)
    assert next(resumed) == first
    _touch(bench, spec.name)
    assert [line.text for line in resumed] == [b"begun-ended", b"two"]


def _touch(bench: Bench, name: str) -> None:
    import docker

    client = docker.APIClient(SOCKET)
    command = client.exec_create(name, ["touch", "/tmp/go"])
    client.exec_start(command["Id"], detach=True)
    client.close()


def test_a_frozen_link_makes_calls_fail_in_bounded_time(
    bench: Bench, relay: Relay, far: DockerEngine
) -> None:
    bench.engine.create(bench.spec("true"))
    assert far.find(bench.name()) is not None
    relay.freeze()
    began = time.monotonic()
    with pytest.raises(EngineUnavailable):
        far.find(bench.name())
    assert time.monotonic() - began < 10
    relay.thaw()
    assert far.find(bench.name()) is not None


def test_an_archive_that_breaks_off_is_an_error_and_no_short_file(
    bench: Bench, relay: Relay, far: DockerEngine
) -> None:
    bench.shell("truncate -s 4G /tmp/big")
    archive = far.get(bench.name(), "/tmp/big")
    assert archive is not None
    with archive:
        assert len(archive.read(1 << 20)) == 1 << 20
        relay.cut()
        with pytest.raises(EngineUnavailable):
            archive.read()


@pytest.mark.parametrize("how", ["close", "forget", "end"])
def test_a_log_leaves_no_connection_behind(bench: Bench, relay: Relay, far: DockerEngine, how: str) -> None:
    spec = bench.spec("echo one; echo two; exec sleep 600")
    bench.engine.create(spec)
    bench.engine.start(spec.name)
    far.find(spec.name)
    idle = 1
    wait_until(lambda: relay.connections == idle, "the connection that asked for the version to be closed")
    log = far.logs(spec.name, None)
    next(log)
    assert relay.connections == idle + 1
    if how == "close":
        log.close()
    elif how == "forget":
        del log
    else:
        bench.engine.stop(spec.name, 0)
        list(log)
    wait_until(lambda: relay.connections == idle, "the connection to be closed", seconds=5)


def test_threads_share_connections_until_the_engine_is_closed(relay: Relay, far: DockerEngine) -> None:
    far.info()
    ready, leave = threading.Event(), threading.Event()

    def look() -> None:
        far.info()
        ready.set()
        leave.wait(10)

    other = threading.Thread(target=look)
    other.start()
    assert ready.wait(10)
    assert relay.connections == 1
    far.close()
    wait_until(lambda: relay.connections == 0, "all connections to be closed", seconds=5)
    leave.set()
    other.join()
    assert far.info().id


def test_a_thread_that_ends_leaves_its_connection_to_the_next_one(relay: Relay, far: DockerEngine) -> None:
    for _ in range(5):
        thread = threading.Thread(target=far.info)
        thread.start()
        thread.join()
        assert relay.connections == 1
