"""Privileged container, runs that reach other runs: the containers that the product itself makes."""

from __future__ import annotations

import json
import uuid
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from tests.security.conftest import InstallationMaker
from tests.support.waiting import wait_until

TRAIN = """\
import http.server, json, os, threading, time
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("listening", flush=True)
while not os.path.exists("/tmp/go"):
    time.sleep(0.05)
json.dump({"accuracy": 0.8}, open("metrics.json", "w"))
"""
DOCKERFILE = """\
FROM {base}
LABEL mlci.test={unique}
USER root
RUN cp /bin/sh /root-shell && chmod 4755 /root-shell
RUN mkdir -p /mlci/secrets && ln -s /etc /mlci/output && chown -R 1000:1000 /mlci
RUN env > /built-with
ENV MLCI_SEED=1 HOME=/elsewhere LD_DEBUG_OUTPUT=/tmp/ld
LABEL mlci.instance=someone-else mlci.role=none
VOLUME ["/var/run/extra"]
EXPOSE 8000
ENTRYPOINT ["/bin/false"]
HEALTHCHECK CMD /bin/false
ONBUILD RUN exit 1
"""


SECRET = f"made-up-{uuid.uuid4().hex}"


class Running:
    """Two attempts that run at the same time, each in an image that the repository's own Dockerfile made."""

    def __init__(self, containers: list[Container]) -> None:
        self.containers = containers

    @property
    def json(self) -> list[dict[str, Any]]:
        return [container.attrs for container in self.containers]

    def shell(self, index: int, line: str) -> tuple[int, str]:
        """Run a line as the attempt's user in the attempt's container."""
        done = self.containers[index].exec_run(["sh", "-c", line])
        output = done.output
        assert isinstance(output, bytes)
        return done.exit_code or 0, output.decode()


@pytest.fixture(scope="module")
def running(
    shared_installation: InstallationMaker, docker_engine: docker.DockerClient, base_image: str
) -> Running:
    installation = shared_installation()
    installation.pipeline = {
        "replicates": 2,
        "run": {"runner": "cpu", "command": "python3 train.py", "secrets": ["TOKEN"], "timeout": "5m"},
    }
    installation.main = {"secrets": {"TOKEN": "${{ env.MLCI_TEST_SECRET }}"}}
    installation.write()
    limits = "{memory: 256m, cpus: 1, pids: 64, shm_size: 32m}"
    (installation.config / "runners" / "cpu.yaml").write_text(
        f"runner: cpu\nimage: {{dockerfile: Dockerfile}}\nresources: {limits}\n"
    )
    installation.commit(
        0.8, {"train.py": TRAIN, "Dockerfile": DOCKERFILE.format(base=base_image, unique=uuid.uuid4().hex)}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLCI_TEST_SECRET", SECRET)
        installation.serve()
    logs = installation.folder / "var" / "logs"

    def both_listen() -> bool:
        return [log.read_bytes().count(b" listening\n") for log in logs.glob("[12].log")] == [1, 1]

    wait_until(both_listen, "both to listen", 120)
    labels = [f"mlci.instance={installation.instance()}", "mlci.role=attempt"]
    containers = docker_engine.containers.list(filters={"label": labels}, ignore_removed=True)
    assert len(containers) == 2
    return Running(containers)


def test_every_attempt_has_the_safe_defaults_whatever_its_image_says(running: Running) -> None:
    for seen in running.json:
        host = seen["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Privileged"] is False
        assert host["Init"] is True
        assert (host["Memory"], host["MemorySwap"]) == (256 << 20, 256 << 20)
        assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (10**9, 64, 32 << 20)
        assert host["RestartPolicy"]["Name"] == "no"
        assert (host["PidMode"], host["IpcMode"], host["UTSMode"]) == ("", "private", "")
        assert not host["Devices"]
        assert not host["DeviceRequests"]
        assert not host["PortBindings"]
        assert not any(seen["NetworkSettings"]["Ports"].values())
        assert seen["Config"]["User"] == "1000:1000"


def test_nothing_of_the_host_is_mounted_and_no_socket_is_there(running: Running) -> None:
    for seen in running.json:
        assert not seen["HostConfig"]["Binds"]
        assert {mount["Type"] for mount in seen["Mounts"]} == {"volume"}
        writable = {mount["Destination"] for mount in seen["Mounts"] if mount["RW"]}
        assert writable == {"/mlci/checkpoint", "/var/run/extra"}
    _, found = running.shell(0, "find / -xdev -type s 2>/dev/null; ls -l /var/run/docker.sock 2>&1")
    assert "No such file" in found
    assert "srw" not in found


def test_a_setuid_root_shell_of_the_repositorys_image_gains_nothing(running: Running) -> None:
    assert running.shell(0, "stat -c '%U %a' /root-shell; /root-shell -p -c 'id -u'")[1].split() == [
        "root",
        "4755",
        "1000",
    ]
    code, said = running.shell(0, "/root-shell -p -c 'cat /etc/shadow'")
    assert code != 0
    assert "Permission denied" in said


def test_a_repositorys_dockerfile_gets_no_secret(
    running: Running, docker_engine: docker.DockerClient
) -> None:
    _, built = running.shell(0, "cat /built-with")
    image = docker_engine.images.get(running.json[0]["Image"])
    assert "PATH=" in built
    for text in (built, json.dumps(image.attrs), json.dumps(image.history())):
        assert SECRET not in text
        assert "TOKEN" not in text
        assert "MLCI_TEST_SECRET" not in text


def test_what_the_image_declares_does_not_replace_what_we_say(running: Running) -> None:
    for container in running.containers:
        environment = dict(entry.split("=", 1) for entry in container.attrs["Config"]["Env"])
        assert environment["HOME"] == "/mlci/home"
        assert environment["MLCI_SEED"] != "1"
        assert container.labels["mlci.instance"] != "someone-else"


def test_folders_that_the_image_planted_are_replaced_by_ours(running: Running) -> None:
    _, listed = running.shell(0, "stat -c '%n %F %u %a' /mlci /mlci/output /mlci/secrets")
    assert listed.splitlines() == [
        "/mlci directory 0 755",
        "/mlci/output directory 1000 755",
        "/mlci/secrets directory 1000 700",
    ]


def test_two_runs_have_a_network_each_and_do_not_reach_each_other(running: Running) -> None:
    modes = [seen["HostConfig"]["NetworkMode"] for seen in running.json]
    assert all(mode.startswith("container:") for mode in modes)
    assert modes[0] != modes[1]
    _, address = running.shell(1, "hostname -i")
    address = address.strip()
    name = running.containers[1].name
    probe = "import socket; socket.create_connection(('{}', 8000), timeout=2); print('reached')"
    assert running.shell(1, f'python3 -c "{probe.format(address)}"') == (0, "reached\n")
    for target in (address, name):
        code, said = running.shell(0, f'python3 -c "{probe.format(target)}"')
        assert code != 0, said
        assert "reached" not in said
