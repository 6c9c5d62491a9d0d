"""The command as people use it, without a server: real repository, data, engine and mail server."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import docker

from tests.support.installation import COMMAND, Installation
from tests.support.waiting import wait_until


def command(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [COMMAND, "--config", str(installation.config), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "TERM": "xterm"},
    )


def started(installation: Installation, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line."""
    return subprocess.Popen(
        [COMMAND, "--config", str(installation.config), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_without_a_server_trains_judges_mails_and_tells(
    installation: Installation, tmp_path: Path
) -> None:
    installation.commit(0.9)
    assert command(installation, "validate").returncode == 0
    planned = installation.json("plan", "line")
    assert planned["hosts"][0]["image"].endswith("on the host")
    assert not (tmp_path / "var").exists()

    first = command(installation, "run", "line", "--follow")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("line #1  passed  main")
    assert "accuracy 0.9" in first.stdout
    assert "mail to team@example.org: delivered" in first.stdout
    assert "| line 4" in first.stderr
    assert "line 4" not in first.stdout
    assert "\x1b" not in first.stdout + first.stderr
    assert len(installation.smtp.messages) == 1

    installation.commit(0.7)
    worse = command(installation, "run", "line")
    assert worse.returncode == 1
    assert "rejected" in worse.stdout or "broken" in worse.stdout
    assert "▼ worse" in worse.stdout

    installation.commit(0.9, {"train.py": "raise SystemExit('no data today')\n"})
    failed = command(installation, "run", "line", "--json")
    assert failed.returncode == 1
    told = json.loads(failed.stdout)
    assert (told["state"], told["reason"]) == ("failed", "exit_code")

    rows = installation.json("runs", "list")
    assert [(r["reference"], r["state"]) for r in rows] == [
        ("line#3", "failed"),
        ("line#2", "rejected"),
        ("line#1", "passed"),
    ]
    assert command(installation, "runs", "logs", "line#1", "--tail", "2").stdout == "line 3\nline 4\n"
    assert "no data today" in command(installation, "runs", "logs", "line#3").stdout
    lines = command(installation, "runs", "logs", "line#1", "--json").stdout.splitlines()
    last = json.loads(lines[-1])
    assert (last["replicate"], last["text"]) == (0, "line 4")
    assert datetime.fromisoformat(last["timestamp"]).tzinfo is not None
    kept = tmp_path / "kept"
    assert command(installation, "runs", "artifacts", "1", "--download", str(kept)).returncode == 0
    assert (kept / "model.txt").read_text() == "model 0.9\n"
    assert {p.name for p in kept.iterdir()} == {"model.txt", "metrics.json"}


def test_a_detached_run_goes_on_and_is_picked_up_once(
    installation: Installation, docker_engine: docker.DockerClient
) -> None:
    installation.environment.update({"LINES": "40", "PAUSE": "0.2", "PYTHONUNBUFFERED": "1"})
    installation.write()
    installation.commit(0.8)
    running = started(installation, "run", "line")
    installation.wait_for_line("line 3")
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 3
    assert "goes on in its container" in told
    assert "orchestrator runs resume 1" in told
    label = f"mlci.instance={installation.instance()}"
    going: dict[str, str | list[str] | bool] = {"label": [label, "mlci.role=attempt"], "status": "running"}
    assert len(docker_engine.containers.list(filters=going, ignore_removed=True)) == 1

    resumed = command(installation, "runs", "resume", "line#1")
    assert resumed.returncode == 0, resumed.stderr
    lines = command(installation, "runs", "logs", "line#1").stdout.splitlines()
    assert lines == [f"line {n}" for n in range(40)]
    shown = installation.json("runs", "show", "1")
    assert [a["number"] for a in shown["attempts"]] == [1]
    assert len(installation.smtp.messages) == 1
    left = docker_engine.volumes.list(filters={"label": label})
    assert [volume.name for volume in left if "checkpoint" in volume.name] == []
    assert docker_engine.networks.list(filters={"label": label}) == []


def test_a_running_run_is_cancelled_from_another_terminal(installation: Installation) -> None:
    installation.environment.update({"LINES": "1000", "PAUSE": "0.2", "PYTHONUNBUFFERED": "1"})
    installation.write()
    installation.commit(0.8)
    running = started(installation, "run", "line")
    installation.wait_for_line("line 1")
    assert command(installation, "runs", "cancel", "line#1").returncode == 0
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "cancelled" in out
    shown = installation.json("runs", "show", "1", "--journal")
    assert (shown["state"], shown["reason"]) == ("cancelled", "cancelled_by_person")
    assert any(socket.gethostname() in entry["who"] for entry in shown["journal"])


def test_an_engine_that_is_not_there_is_told_and_makes_no_run(
    installation: Installation, tmp_path: Path
) -> None:
    installation.engine = f"unix://{tmp_path}/nothing.sock"
    installation.retries = 0
    installation.write()
    installation.commit(0.8)
    ran = command(installation, "run", "line")
    assert ran.returncode == 3
    assert "nothing.sock" in ran.stderr
    assert "no run was made" in ran.stderr
    assert installation.json("runs", "list") == []
    doctor = command(installation, "doctor", "--json")
    assert doctor.returncode == 3
    results = {finding["what"]: finding["result"] for finding in json.loads(doctor.stdout)}
    assert results["host local"] == "fail"
    assert results["mail"] == results["source remote"] == results["database"] == "ok"
    server = installation.serve()
    wait_until(lambda: "cannot execute runs now" in server.log.read_text(), "the server to say so")
    assert server.terminate() == 0


def test_host_check_runs_a_real_container_and_leaves_nothing(
    installation: Installation, docker_engine: docker.DockerClient
) -> None:
    checked = command(installation, "hosts", "check", "--json")
    assert checked.returncode == 0, checked.stdout
    parts = [result["part"] for result in json.loads(checked.stdout)]
    assert parts[-4:] == ["end", "get", "gpu", "remove"]
    label = f"mlci.instance={installation.instance()}"
    assert docker_engine.containers.list(all=True, filters={"label": label}, ignore_removed=True) == []
    assert docker_engine.networks.list(filters={"label": label}) == []


def probes(installation: Installation, folder: Path) -> list[dict[str, Any]]:
    """What ``images list`` says of the images that are built from a folder."""
    return [row for row in installation.json("images", "list") if f"/{folder.name}:" in row["image"]]


def test_an_image_on_another_base_is_said_and_built_again(
    installation: Installation, docker_engine: docker.DockerClient
) -> None:
    folder = installation.folder / "images" / f"older{os.getpid()}"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(f"ARG BASE=mlci/base:1\nFROM ${{BASE}}\nLABEL probe={folder}\n")
    runner = installation.config / "runners" / "built.yaml"
    runner.write_text(f"runner: built\nimage: {{build: {folder}}}\n")
    installation.orchestrator("images", "build", "built")
    (row,) = probes(installation, folder)
    assert row["state"] == ""
    other = docker_engine.images.build(fileobj=io.BytesIO(b"FROM scratch\nCOPY Dockerfile /\n"), rm=True)[0]
    other.tag(row["image"])
    (row,) = probes(installation, folder)
    assert row["state"] == "on an older base"
    base, made = installation.json("images", "build", "built")
    assert (base["told"], made["told"]) == ("it was there", "built again, on the base as it is now")
    (row,) = probes(installation, folder)
    assert row["state"] == ""
    docker_engine.images.remove(str(other.id))


def test_images_are_built_listed_and_pruned(
    installation: Installation, docker_engine: docker.DockerClient
) -> None:
    folder = installation.folder / "images" / f"probe{os.getpid()}"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(f"FROM {installation.image}\nRUN echo {folder} > /tmp/probe\n")
    runner = installation.config / "runners" / "built.yaml"
    runner.write_text(f"runner: built\nimage: {{build: {folder}}}\n")
    assert command(installation, "images", "build", "built").returncode == 0
    (row,) = probes(installation, folder)
    assert (row["own"], row["used_by"], row["state"]) == (True, ["runner built"], "")
    assert row["size"] > 0
    assert installation.json("images", "prune", "--dry-run") == []
    installation.main = {"storage": {"path": "../another"}}
    installation.write()
    (seen,) = probes(installation, folder)
    installation.main = {}
    installation.write()
    assert (seen["image"], seen["own"], seen["used_by"]) == (row["image"], False, ["runner built"])
    runner.unlink()
    assert "--yes" in command(installation, "images", "prune").stderr
    going = installation.json("images", "prune", "--dry-run")
    assert [(image["image"], image["host"]) for image in going] == [(row["image"], "local")]
    assert 0 < going[0]["size"] < row["size"], "what it shares with its base stays"
    assert installation.json("images", "prune", "--yes") == going
    assert probes(installation, folder) == []
    assert command(installation, "images", "build", str(installation.folder)).returncode == 2


def test_what_an_installation_left_on_a_host_goes_when_it_is_asked_for(
    installation: Installation, docker_engine: docker.DockerClient
) -> None:
    installation.commit(0.8)
    installation.orchestrator("run", "line")
    label: dict[str, str | list[str] | bool] = {"label": f"mlci.instance={installation.instance()}"}
    assert docker_engine.volumes.list(filters=label) != []
    assert "--yes" in command(installation, "hosts", "prune", "--all").stderr
    assert installation.json("hosts", "prune", "--dry-run") == [], "all of it is of use to the next run"
    kinds = {thing["kind"] for thing in installation.json("hosts", "prune", "--all", "--dry-run")}
    assert "volume" in kinds
    assert docker_engine.volumes.list(filters=label) != []
    assert command(installation, "hosts", "prune", "--all", "--yes").returncode == 0
    engine = docker_engine
    assert engine.containers.list(all=True, filters=label, ignore_removed=True) == []
    assert engine.networks.list(filters=label) == engine.volumes.list(filters=label) == []
    assert engine.images.list(filters=label) == []
    server = installation.serve()
    assert command(installation, "hosts", "prune", "--all", "--yes").returncode == 2
    assert command(installation, "hosts", "prune", "--now", "--yes").returncode == 0
    assert server.terminate() == 0
