"""Privileged container, Docker socket in a run, a run that reaches other runs: what a container may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import docker
import pytest

from orchestrator.domain.errors import EngineError
from orchestrator.ports.engine import VolumeMount
from tests.support.containers import Bench, docker_bench


@pytest.fixture
def bench(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Bench]:
    with docker_bench(base_image) as bench:
        yield bench


def test_a_container_is_made_with_every_safe_default(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    bench.engine.create(bench.spec("true"))
    seen = docker_engine.containers.get(bench.name()).attrs
    host = seen["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert host["Init"] is True
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["AutoRemove"] is False
    assert (host["Memory"], host["MemorySwap"]) == (256 << 20, 256 << 20)
    assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (1_000_000_000, 128, 64 << 20)
    assert host["NetworkMode"] == "none"
    assert (host["PidMode"], host["IpcMode"], host["UsernsMode"], host["UTSMode"]) == ("", "private", "", "")
    assert not host["Binds"]
    assert not host.get("Mounts")
    assert not host["Devices"]
    assert not host["DeviceRequests"]
    assert not host["PortBindings"]
    assert host["PublishAllPorts"] is False
    assert host["OomKillDisable"] in (None, False)
    assert seen["Config"]["User"] == "1000:1000"
    assert seen["Config"]["Tty"] is False


def test_no_line_of_a_log_is_ever_rotated_away_or_dropped(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    bench.engine.create(bench.spec("true"))
    seen = docker_engine.containers.get(bench.name()).attrs["HostConfig"]["LogConfig"]
    assert seen["Type"] == "json-file"
    assert (seen["Config"]["max-size"], seen["Config"]["max-file"]) == ("1p", "1")
    assert seen["Config"]["mode"] == "blocking"


def test_the_kernel_holds_what_was_asked_for(bench: Bench) -> None:
    _, lines = bench.shell(
        "grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; id -u; id -g;"
        "df -B1 --output=size /dev/shm | tail -1; cat /proc/1/comm; ls /sys/class/net"
    )
    text = [line.text.decode().split() for line in lines]
    assert text[:5] == [
        ["CapPrm:", "0" * 16],
        ["CapEff:", "0" * 16],
        ["CapBnd:", "0" * 16],
        ["NoNewPrivs:", "1"],
        ["Seccomp:", "2"],
    ]
    assert text[5:] == [["1000"], ["1000"], [str(64 << 20)], ["docker-init"], ["lo"]]


def test_a_fork_bomb_meets_the_limit_on_processes(bench: Bench) -> None:
    ending, lines = bench.shell("for i in $(seq 300); do sleep 5 & done; wait")
    assert any(b"fork" in line.text for line in lines)
    assert ending.code != 0


def test_two_containers_on_one_network_do_not_reach_each_other(
    bench: Bench, docker_engine: docker.DockerClient
) -> None:
    network = bench.name("net")
    bench.engine.ensure_network(network, {})
    listener = (
        "import http.server as h; print('ready', flush=True); h.test(h.SimpleHTTPRequestHandler, port=8000)"
    )
    server = replace(
        bench.spec("", what="server"), command=("python3", "-u", "-c", listener), network=network
    )
    bench.engine.create(server)
    bench.engine.start(server.name)
    assert next(bench.engine.logs(server.name, None)).text == b"ready"
    networks = docker_engine.containers.get(server.name).attrs["NetworkSettings"]["Networks"]
    address = networks[network]["IPAddress"]
    probe = f"import socket; socket.create_connection(('{address}', 8000), timeout=2)"
    ending, lines = bench.shell("", command=("python3", "-c", probe), network=network)
    assert ending.code != 0
    assert b"timed out" in lines[-1].text or b"unreachable" in lines[-1].text
    inside = f"import socket; socket.create_connection(('{address}', 8000), timeout=2)"
    done = docker_engine.containers.get(server.name).exec_run(["python3", "-c", inside])
    assert done.exit_code == 0, "the server itself has to answer, or the probe proves nothing"


@pytest.mark.parametrize("network", ["host", "bridge", "none"])
def test_a_network_that_we_did_not_make_is_refused(bench: Bench, network: str) -> None:
    with pytest.raises(EngineError, match=network):
        bench.engine.create(replace(bench.spec("true"), network=network))


def test_another_containers_network_is_refused(bench: Bench) -> None:
    bench.engine.create(bench.spec("true", what="other"))
    with pytest.raises(EngineError, match="container:"):
        bench.engine.create(replace(bench.spec("true"), network=f"container:{bench.name('other')}"))


@pytest.mark.parametrize("source", ["/", "/var/run", "/var/run/docker.sock", "/proc", "../.."])
def test_a_folder_of_the_host_cannot_be_mounted_as_a_volume(bench: Bench, source: str) -> None:
    with pytest.raises(EngineError):
        bench.engine.create(replace(bench.spec("true"), mounts=(VolumeMount(source, "/data"),)))
    assert bench.engine.find(bench.name()) is None


def test_a_dataset_cannot_be_changed_by_a_run(bench: Bench) -> None:
    volume = bench.name("vol")
    bench.engine.ensure_volume(volume, {})
    ending, _ = bench.shell("touch /data/x", mounts=(VolumeMount(volume, "/data"),), user="0:0")
    assert ending.code != 0
