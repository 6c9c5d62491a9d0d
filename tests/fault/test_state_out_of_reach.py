"""The server's own state: two servers on it, a full or read-only disk, a stop while a run is prepared."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from tests.support.installation import COMMAND, Installation, Server
from tests.support.smalldisk import SmallDisk, mounted
from tests.support.waiting import wait_until

PATIENCE = 90.0


@pytest.fixture
def small_disk(plain: Installation) -> Iterator[SmallDisk]:
    """The state folder as a disk of 4 MB."""
    with mounted(plain.folder / "var", "4m") as disk:
        yield disk
        plain.close()


def test_two_servers_on_one_database_do_everything_once(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    plain.pipeline = {
        "source": {"git": plain.repository.url, "branches": ["main", "try/*"], "poll": "1s", "settle": "0s"}
    }
    plain.write()
    plain.commit(0.8)
    servers = [plain.serve(), plain.serve()]
    plain.smtp.wait_for(1, PATIENCE)
    commits = []
    for name in ("a", "b", "c"):
        plain.repository.switch(f"try/{name}")
        commits.append(plain.commit(0.81, {"name.txt": name}))
    (plain.data / "b.csv").write_text("3\n")
    plain.smtp.wait_for(5, PATIENCE)
    assert [server.terminate() for server in servers] == [0, 0]
    runs = plain.json("runs", "list")
    assert sorted(r["commit"] for r in runs if r["cause"] == "push") == sorted(commits)
    assert sorted(r["cause"] for r in runs if r["cause"] != "push") == ["data", "first_sight"]
    assert {r["state"] for r in runs} == {"passed"}
    assert [len(plain.json("runs", "show", str(r["id"]))["attempts"]) for r in runs] == [1] * 5
    assert len(plain.smtp.messages) == len({m.message["Message-ID"] for m in plain.smtp.messages}) == 5


def test_a_server_that_is_stopped_while_it_prepares_leaves_the_run_to_the_next(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    # A command of its own: an earlier test's layer would be used otherwise.
    marker = f"echo {uuid.uuid4()}; touch ~/prepared; sleep 6"
    plain.pipeline = {
        "run": {
            "runner": "cpu",
            "setup": {"run": marker, "key": ["train.py"]},
            "command": "test -e ~/prepared && python3 train.py",
        }
    }
    plain.write()
    plain.commit(0.8)
    first = plain.serve()

    def setups() -> list[Container]:
        labels = [f"mlci.instance={plain.instance()}", "mlci.role=setup"]
        found: list[Container] = docker_engine.containers.list(filters={"label": labels}, ignore_removed=True)
        return found

    wait_until(setups, "the setup to run", PATIENCE)
    assert first.terminate(30) == 0
    assert setups() == []
    assert plain.smtp.messages == []
    plain.serve()
    plain.smtp.wait_for(1, PATIENCE)
    run = plain.json("runs", "show", "1")
    assert run["state"] == "passed"
    assert [a["number"] for a in run["attempts"]] == [1]
    assert plain.orchestrator("runs", "logs", "1").splitlines() == [f"line {n}" for n in range(5)]


def test_a_full_disk_is_said_and_the_run_goes_on_once_there_is_room(
    plain: Installation, small_disk: SmallDisk
) -> None:
    plain.commit(0.8)
    server = plain.serve()
    plain.wait_for_mails(1)
    small_disk.fill()
    plain.commit(0.81)
    wait_until(lambda: says_full(server), "the full disk to be said", 60)
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()
    small_disk.empty()
    plain.smtp.wait_for(2, PATIENCE)
    runs = plain.json("runs", "list")
    assert [(r["cause"], r["state"]) for r in runs] == [("push", "passed"), ("first_sight", "passed")]
    assert len(plain.smtp.messages) == 2
    assert server.terminate() == 0


def says_full(server: Server) -> bool:
    """Whether the server has complained, in the database's words or in git's."""
    lines = [line for line in server.log.read_text().splitlines() if " error " in line or " warning " in line]
    return any("free space on the disk" in line or "No space left" in line for line in lines)


def test_a_database_that_cannot_be_written_is_said_with_the_remedy(
    plain: Installation, small_disk: SmallDisk
) -> None:
    plain.orchestrator("db", "upgrade")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.path)], check=True)
    plain.commit(0.8)
    for arguments in (["serve", "--port", "0"], ["run", "line"]):
        done = subprocess.run(
            [COMMAND, "--config", str(plain.config), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr
        assert f"{small_disk.path}/orchestrator.db cannot be" in done.stderr
        assert "Read-only file system" in done.stderr


def test_a_second_server_on_the_same_port_is_refused_and_the_first_goes_on(plain: Installation) -> None:
    plain.commit(0.8)
    first = plain.serve()
    port = first.url.rpartition(":")[2]
    done = subprocess.run(
        [COMMAND, "--config", str(plain.config), "serve", "--port", port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    plain.smtp.wait_for(1, PATIENCE)
    assert json.loads(first.get("/readyz"))["ready"] is True
