"""Environments of several servers, from YAML to a real sshd: rolling, canary, approval, windows, back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import docker
import paramiko
import pytest

from orchestrator.domain.run import Run
from tests.support.deploying import Deployments, deployments, server_entry, whole
from tests.support.installation import COMMAND
from tests.support.releases import fresh_folder
from tests.support.sshd import SshServer, ssh_server

WEB = ("web1", "web2", "web3")
AFTERWARDS: list[dict[str, object]] = [{"deploy": {"environment": "web", "files": ["**"]}}]


@pytest.fixture(scope="module")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        yield server


class Farm:
    """Servers, each a folder of releases of its own, and the product in front of them."""

    def __init__(self, machine: SshServer, made: Deployments, look: paramiko.SFTPClient) -> None:
        self.machine, self.made, self._look = machine, made, look

    def path(self, server: str) -> str:
        return str(self.made.servers[server]["path"])

    def passed(self, word: str) -> Run:
        return self.made.passed({"model.bin": whole(word.encode())})

    def deployed(self, word: str) -> Run:
        """A run that is live on all servers of all environments."""
        run = self.passed(word)
        self.made.finish(run)
        assert {action.state.value for action in self.made.owed(run)} == {"done"}
        return run

    def serves(self, *servers: str) -> list[str]:
        """The word that each server's live model says, past the product; "" where none is live."""
        found = []
        for server in servers or WEB:
            path = self.path(server)
            there = "current" in self._look.listdir(path)
            link = (self._look.readlink(f"{path}/current") or "") if there else ""
            # Whatever happened: the record says what is live.
            live = self.made.live(server)
            assert link.removeprefix("releases/") == live, f"the record says '{live}', {server} has '{link}'"
            content = b""
            if there:
                with self._look.open(f"{path}/current/model.bin") as file:
                    content = file.read()
                assert whole(content[64:]) == content
            found.append(content[64:].decode())
        return found

    def refuse(self, server: str) -> None:
        """Take the right away to write there."""
        self.machine.run("chown", "-R", "root:root", self.path(server))

    def accept(self, server: str) -> None:
        self.machine.run("chown", "-R", "deploy:deploy", self.path(server))

    def states(self, run: Run) -> dict[str, str]:
        return {d.server: d.state.value for d in self.made.of(run)}

    def waits(self, run: Run, place: str = "web") -> str:
        """What the run's deployment to a place waits for."""
        (found,) = (a for a in self.made.owed(run) if getattr(a.spec, "environment", "") == place)
        return found.waits

    def orchestrator(self, *arguments: str, expect: int = 0) -> Any:  # noqa: ANN401 - JSON of any shape
        """Run the command; what it prints as JSON."""
        config = str(self.made.folder / "config")
        done = subprocess.run(
            [COMMAND, "--config", config, "--json", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def look(machine: SshServer) -> Iterator[paramiko.SFTPClient]:
    """A way to the servers past the product."""
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(machine.known_hosts_path))
        client.connect(
            machine.host, machine.port, machine.user, key_filename=str(machine.key_path), look_for_keys=False
        )
        yield client.open_sftp()


@pytest.fixture
def farm(machine: SshServer, look: paramiko.SFTPClient, tmp_path: Path) -> Iterator[Farm]:
    names = (*WEB, "stage1")
    servers = {name: server_entry(machine, fresh_folder(machine, "deploy")) for name in names}
    with deployments(tmp_path, servers, AFTERWARDS) as made:
        yield Farm(machine, made, look)


def configure(farm: Farm, **environments: dict[str, object]) -> Farm:
    farm.made.main = {"environments": environments}
    farm.made.actions = [{"deploy": {"environment": name, "files": ["**"]}} for name in environments]
    farm.made.write()
    return farm


def test_rolling_changes_one_batch_after_the_other_with_a_pause(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB), "strategy": "rolling", "batch": 1, "pause": "10m"})
    old = farm.deployed("old")
    assert farm.serves() == ["old"] * 3
    run = farm.passed("new")
    farm.made.carry_out()
    assert farm.serves() == ["new", "old", "old"]
    assert "web1 went first" in farm.waits(run)
    farm.made.carry_out()
    assert farm.serves() == ["new", "new", "old"]
    farm.made.carry_out()
    assert farm.serves() == ["new"] * 3
    assert farm.states(run) == dict.fromkeys(WEB, "active")
    assert farm.states(old) == dict.fromkeys(WEB, "retired")


@pytest.mark.parametrize("strategy", ["all", "rolling", "canary"])
def test_what_one_server_refuses_is_taken_back_from_all(farm: Farm, strategy: str) -> None:
    configure(farm, web={"servers": list(WEB), "strategy": strategy})
    farm.deployed("old")
    farm.refuse("web3")
    run = farm.passed("new")
    farm.made.finish(run)
    assert farm.serves() == ["old"] * 3
    states = farm.states(run)
    assert (states["web1"], states["web2"], states["web3"]) == ("rolled_back", "rolled_back", "failed")
    (action,) = farm.made.owed(run)
    assert action.state.value == "failed"
    assert "web3: " in action.message
    assert "permission denied" in action.message
    farm.accept("web3")
    farm.deployed("better")
    assert farm.serves() == ["better"] * 3


def test_a_canary_that_fails_keeps_the_others_untouched(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB), "strategy": "canary", "pause": "10m"})
    farm.deployed("old")
    farm.refuse("web1")
    run = farm.passed("new")
    farm.made.finish(run)
    assert farm.serves() == ["old"] * 3
    assert farm.states(run) == {"web1": "failed", "web2": "cancelled", "web3": "cancelled"}
    assert len(farm.machine.run("ls", f"{farm.path('web2')}/releases").split()) == 1


def test_a_newer_change_overtakes_a_rollout_between_its_batches(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB), "strategy": "canary", "pause": "10m"})
    farm.deployed("old")
    slow = farm.passed("slow")
    farm.made.carry_out()
    assert farm.serves() == ["slow", "old", "old"]
    newer = farm.passed("newer")
    farm.made.finish(newer)
    farm.made.finish(slow)
    assert farm.serves() == ["newer"] * 3
    assert farm.states(newer) == dict.fromkeys(WEB, "active")
    assert "active" not in farm.states(slow).values()


def test_nothing_is_sent_before_a_person_approves(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB), "approval": True})
    run = farm.passed("new")
    farm.made.carry_out()
    farm.made.carry_out()
    assert set(farm.states(run).values()) == {"awaiting_approval"}
    assert "waits for approval" in farm.waits(run)
    assert farm.serves() == [""] * 3
    farm.orchestrator("deployments", "approve", f"line#{run.number}", "--reason", "looks good", "--no-wait")
    farm.made.finish(run)
    assert farm.serves() == ["new"] * 3
    shown = farm.orchestrator("deployments", "show", str(farm.made.of(run)[0].id))
    assert (shown["decision"]["ruling"], shown["decision"]["reason"]) == ("approved", "looks good")


def test_what_a_person_rejects_never_goes_live_and_says_who_and_why(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB), "approval": True})
    run = farm.passed("new")
    farm.made.carry_out()
    farm.orchestrator("deployments", "reject", f"line#{run.number}", "--reason", "too slow")
    farm.made.finish(run)
    assert set(farm.states(run).values()) == {"rejected"}
    (action,) = farm.made.owed(run)
    assert action.state.value == "skipped"
    assert action.message.startswith("rejected by ")
    assert action.message.endswith(": too slow")
    assert farm.serves() == [""] * 3


def test_only_named_people_may_approve(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB), "approval": {"by": ["somebody-else"]}})
    run = farm.passed("new")
    farm.made.carry_out()
    farm.orchestrator("deployments", "approve", f"line#{run.number}", "--no-wait", expect=2)
    farm.made.carry_out()
    assert set(farm.states(run).values()) == {"awaiting_approval"}
    assert farm.serves() == [""] * 3


def test_a_deployment_waits_for_its_window(farm: Farm) -> None:
    # The process works hours ahead; two days from now is far enough to be outside, whatever the hour.
    day = f"{datetime.now(UTC) + timedelta(days=2):%a}"
    configure(farm, web={"servers": list(WEB), "windows": [f"{day} 00:00-24:00"]})
    run = farm.passed("new")
    farm.made.carry_out()
    assert "may be deployed to from" in farm.waits(run)
    assert farm.serves() == [""] * 3
    farm.made.finish(run, 72)
    assert farm.serves() == ["new"] * 3


def test_production_comes_after_staging_and_promotion_needs_no_new_run(farm: Farm) -> None:
    staging: dict[str, object] = {"servers": ["stage1"]}
    configure(farm, staging=staging, web={"servers": list(WEB), "after": "staging"})
    farm.made.actions = [{"deploy": {"environment": "staging", "files": ["**"]}}]
    farm.made.write()
    run = farm.passed("new")
    farm.made.finish(run)
    assert farm.serves("stage1", *WEB) == ["new", "", "", ""]
    farm.orchestrator("deployments", "promote", "staging", "web", "--no-wait")
    farm.made.finish(run)
    assert farm.serves("stage1", *WEB) == ["new"] * 4
    stages = {v["number"]: v["stages"] for v in farm.orchestrator("models", "list", "line")}
    assert stages[run.number] == ["production"]


def test_what_failed_in_staging_never_reaches_production(farm: Farm) -> None:
    configure(farm, staging={"servers": ["stage1"]}, web={"servers": list(WEB), "after": "staging"})
    farm.refuse("stage1")
    run = farm.passed("new")
    farm.made.finish(run)
    assert farm.serves("stage1", *WEB) == [""] * 4
    assert farm.states(run)["stage1"] == "failed"
    assert "it is not live in staging" in " ".join(action.message for action in farm.made.owed(run))


def test_rolling_back_is_one_word_and_sends_nothing(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB)})
    old, new = farm.deployed("old"), farm.deployed("new")
    before = farm.machine.run(
        "stat", "-c", "%i", f"{farm.path('web1')}/releases/{farm.made.of(old)[0].release}"
    )
    farm.orchestrator("deployments", "rollback", "web", "--reason", "worse")
    assert farm.serves() == ["old"] * 3
    after = farm.machine.run("stat", "-Lc", "%i", f"{farm.path('web1')}/current")
    assert after == before
    assert set(farm.states(new).values()) == {"retired"}
    stages = {v["number"]: v["stages"] for v in farm.orchestrator("models", "list", "line")}
    assert (stages[old.number], stages[new.number]) == (["production"], ["archived"])


def test_a_run_that_passed_earlier_is_deployed_by_hand(farm: Farm) -> None:
    configure(farm, web={"servers": list(WEB)})
    old = farm.deployed("old")
    farm.deployed("new")
    farm.orchestrator("deployments", "deploy", f"line#{old.number}", "web", "--reason", "compare")
    assert farm.serves() == ["old"] * 3
