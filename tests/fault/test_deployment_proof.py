"""Releases that do not serve, deployed while a reader polls what is served (fault 20).

Each one is put back by itself, whatever happens meanwhile; no reader ever finds a missing or mixed release.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from orchestrator.domain.deployment import Deployment, DeploymentState
from tests.support.deploying import whole
from tests.support.releases import fresh_folder
from tests.support.servedfile import Reader
from tests.support.servingscene import FAULTS, Look, Scene, files_of, look_at, scene_at
from tests.support.sshd import SshServer as Machine
from tests.support.sshd import ssh_server
from tests.support.waiting import wait_until

SERVICE = """
import http.server, json, os, sys, time

base = sys.argv[1]

class Look(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        model = open(base + "/current/model.bin", "rb").read()
        if b"SILENT" in model:
            time.sleep(600)
        good = b"SICK" not in model and not os.path.exists(base + "-down")
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Look)
with open(base + "-service.new", "w") as told:
    told.write("%d %d" % (os.getpid(), server.server_port))
os.rename(base + "-service.new", base + "-service")
server.serve_forever()
"""
ACTIVATE = "! grep -q BROKEN model.bin || exit 3; ! grep -q STUCK model.bin || exec sleep 600"
LOGS = "the log of the failed one"
WHY = {
    "SICK": "not healthy after 2 looks",
    "SILENT": "no answer within 0.5 s",
    "BROKEN": "ended with status 3",
    "STUCK": "did not end within 1 s, and was stopped",
}
KILLS = max(12, FAULTS // 3)


@pytest.fixture(scope="module")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def look(machine: Machine) -> Iterator[Look]:
    with look_at(machine) as made:
        yield made


@pytest.fixture
def proved(machine: Machine, look: Look, tmp_path: Path) -> Iterator[Scene]:
    """A server whose releases are activated by a command and asked over HTTP whether they serve."""
    path = fresh_folder(machine, "deploy")
    machine.container.exec_run(["python3", "-c", SERVICE, path], user="root", detach=True)
    told = f"{path}-service"
    wait_until(lambda: told in machine.run("sh", "-c", f"ls -d {path}*").split(), "the service")
    pid, port = machine.run("cat", told).split()
    proof = {
        "activate": [{"run": ["sh", "-c", ACTIVATE], "timeout": "1s"}],
        "health": {
            "url": f"http://localhost:{port}/",
            "tries": 2,
            "interval": "100ms",
            "timeout": "500ms",
        },
        "logs": [["echo", LOGS]],
    }
    try:
        with scene_at(machine, look, tmp_path, path, "deploy", **proof) as scene:
            yield scene
    finally:
        machine.run("kill", "-9", pid)
        machine.run("rm", "-rf", path, told, f"{path}-down")


def bad(word: str) -> dict[str, bytes]:
    return files_of(0) | {"model.bin": whole(f"{word} ".encode() + os.urandom(20_000))}


def deployed(scene: Scene, files: dict[str, bytes]) -> Deployment:
    run = scene.made.passed(files)
    scene.made.finish(run)
    (deployment,) = scene.made.of(run)
    return deployment


def test_a_release_that_does_not_serve_is_put_back_by_itself_each_time(proved: Scene) -> None:
    proved.deploy()
    tried: list[str] = []
    with Reader(proved.machine, proved.path) as reader:
        for _ in range(2):
            for word, why in WHY.items():
                deployment = deployed(proved, bad(word))
                tried.append(deployment.release)
                assert deployment.state is DeploymentState.ROLLED_BACK, deployment.message
                assert why in deployment.message
                assert LOGS in deployment.output
                assert proved.on_the_server() == proved.made.live() == proved.activated[-1]
            proved.deploy()
    assert reader.wrong == ()
    # After each came what was live before it; the reader may miss one that was live for a moment.
    first, second, third = proved.activated
    switches = [first, *(r for bad in tried[:4] for r in (bad, first))]
    switches += [second, *(r for bad in tried[4:] for r in (bad, second)), third]
    rest = iter(switches)
    assert all(release in rest for release in reader.seen), reader.seen
    assert len(reader.seen) > len(tried)


def test_a_server_killed_while_a_bad_release_is_live_or_put_back_puts_the_old_one_back(proved: Scene) -> None:
    proved.deploy()
    proved.link.arm()
    assert deployed(proved, bad("SICK")).state is DeploymentState.ROLLED_BACK
    # What comes before the switch, in the first half, is the same as for a good release.
    chunks = proved.link.chunks[len(proved.link.chunks) // 2 :]
    caught: set[tuple[DeploymentState, bool]] = set()
    with Reader(proved.machine, proved.path) as reader:
        for number in range(KILLS):
            at = chunks[len(chunks) * number // KILLS] + 1
            run = proved.made.passed(bad("SICK"))
            proved.link.arm(at, proved.made.kill)
            proved.made.carry_out()
            proved.broken += proved.link.sprung.is_set()
            proved.link.arm()
            live = proved.on_the_server()
            caught |= {(deployment.state, deployment.release == live) for deployment in proved.made.of(run)}
            assert live in proved.made.may_be_live(), f"after the kill at byte {at}"
            proved.made.finish(run)
            (deployment,) = proved.made.of(run)
            told = f"after the kill at byte {at}: {deployment.message}"
            assert deployment.state is DeploymentState.ROLLED_BACK, told
            assert proved.on_the_server() == proved.made.live() == proved.activated[-1], told
    assert reader.wrong == ()
    assert proved.broken == KILLS
    back = DeploymentState.PUTTING_BACK
    assert {(DeploymentState.ACTIVATING, True), (back, True), (back, False)} <= caught


def test_a_release_that_cannot_be_put_back_either_is_failed_and_the_record_says_what_is_live(
    proved: Scene,
) -> None:
    proved.deploy()
    with Reader(proved.machine, proved.path) as reader:
        proved.machine.run("touch", f"{proved.path}-down")
        deployment = deployed(proved, files_of(1))
        assert deployment.state is DeploymentState.FAILED
        assert f"release {proved.activated[0]} was put back and does not serve either" in deployment.message
        assert proved.on_the_server() == proved.made.live() == proved.activated[0]
        proved.machine.run("rm", f"{proved.path}-down")
        proved.deploy()
    assert reader.wrong == ()
    assert set(proved.activated) <= {*reader.seen, proved.activated[-1]}
