"""``docker-compose up`` for real: the server with PostgreSQL, as the checkout's own file describes them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import docker
import httpx
import pytest
import yaml
from docker.models.containers import Container

from tests.support.compose import COMMAND, Composed, composed
from tests.support.engine import remove_instance
from tests.support.git import GitRepository
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(COMMAND is None, reason="docker-compose is not installed (Debian has it)")

SERVICES = {"server": "1000", "postgres": "999"}
"""The services with their users."""
TRAIN = """\
import json, os, socket, sys, time
def answers(host, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
gateway = next(line.split()[2] for line in open("/proc/net/route").read().splitlines()[1:]
               if line.split()[1] == "00000000")
host = socket.inet_ntoa(bytes.fromhex(gateway)[::-1])
found = [path for path in ("/var/run/docker.sock", "/run/postgresql", "/run/secrets", "/orchestrator")
         if os.path.exists(path)]
found += [name for name in ("127.0.0.1", host) if answers(name, int(os.environ["SERVER_PORT"]))]
print("found:", found, flush=True)
time.sleep(3)
json.dump({"found": len(found)}, open("metrics.json", "w"))
"""


@pytest.fixture(scope="module")
def password() -> str:
    """One that a shell, a URL and libpq's password file would each like to be quoted."""
    return f"p'a$s:w\\ord \"%40{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    """A repository on this machine, which the server is given to read."""
    made = GitRepository.create(tmp_path_factory.mktemp("git"))
    made.commit({"train.py": TRAIN}, "Look around")
    return made


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory,
    docker_engine: docker.DockerClient,
    base_image: str,
    password: str,
    repository: GitRepository,
) -> Iterator[Composed]:
    """Server and PostgreSQL, started once; the server watches the repository."""
    folder = tmp_path_factory.mktemp("compose")
    secret = folder / "secrets" / "postgres_password"
    secret.parent.mkdir(mode=0o700)
    secret.write_text(f"{password}\n")
    secret.chmod(0o600)
    override = folder / "override.yml"
    mounts = [f"{repository.remote}:/orchestrator/remote.git:ro"]
    override.write_text(yaml.safe_dump({"services": {"server": {"volumes": mounts}}}))
    made = Composed(docker_engine, folder / "config", secret.parent, override)
    _write_configuration(made.config, base_image, made.port)
    try:
        with composed(made):
            yield made
    finally:
        if made.instance:
            remove_instance(docker_engine, made.instance)
    assert made.left() == []


def _write_configuration(config: Path, image: str, port: int) -> None:
    files = {
        "orchestrator.yaml": {"hosts": {"local": {"slots": 1}}},
        "runners/cpu.yaml": {"runner": "cpu", "image": image, "resources": {"memory": "256m", "cpus": 1}},
        "pipelines/look.yaml": {
            "pipeline": "look",
            "source": {"git": "/orchestrator/remote.git", "branches": ["main"], "poll": "1s", "settle": "0s"},
            "run": {"runner": "cpu", "command": "python3 train.py", "env": {"SERVER_PORT": str(port)}},
            "collect": ["metrics.json"],
            "gate": {"checks": ["found <= 0"]},
        },
    }
    for name, content in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def _process(services: Composed, service: str) -> dict[str, str]:
    """What /proc tells of a container's first process."""
    status = services.call("exec", "-T", service, "cat", "/proc/1/status")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in status.splitlines())}


@pytest.mark.parametrize(("service", "uid"), SERVICES.items())
def test_a_service_has_no_root_no_capability_and_no_way_to_either(
    services: Composed, service: str, uid: str
) -> None:
    process = _process(services, service)
    assert set(process["Uid"].split()) == set(process["Gid"].split()) == {uid}
    assert process["Groups"].split() in ([], [_group_of_the_socket()] if service == "server" else [])
    assert [process[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == ["0" * 16] * 4
    assert process["NoNewPrivs"] == "1"
    host = services.container(service).attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["Privileged"] is False


def _group_of_the_socket() -> str:
    return str(Path("/var/run/docker.sock").stat().st_gid)


def test_health_is_what_the_engine_tells_of_both_services(services: Composed) -> None:
    def healthy() -> bool:
        found = [services.container(service).attrs["State"]["Health"]["Status"] for service in SERVICES]
        return found == ["healthy"] * len(SERVICES)

    wait_until(healthy, "both services to be healthy", 60)
    assert httpx.get(f"http://127.0.0.1:{services.port}/healthz", timeout=10).text == "ok\n"
    stopped = services.container("server").exec_run(["answers", "/nothing"])
    assert stopped.exit_code != 0


def test_make_up_says_where_the_pages_of_a_healthy_server_are(services: Composed) -> None:
    done = services.awaited()
    assert (done.returncode, done.stderr) == (0, "")
    assert f"http://127.0.0.1:{services.port}" in done.stdout


def test_make_up_fails_with_the_reason_where_the_server_does_not_start_and_succeeds_once_it_is_mended(
    services: Composed, docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    other = Composed(docker_engine, tmp_path / "config", services.secrets, tmp_path / "override.yml")
    other.config.mkdir()
    alone = {"ORCHESTRATOR_DATABASE": "sqlite:////orchestrator/var/orchestrator.db"}
    other.override.write_text(yaml.safe_dump({"services": {"server": {"environment": alone}}}))
    try:
        other.call("up", "--detach", "--no-deps", "server")
        done = other.awaited()
        assert done.returncode == 1
        assert "there is no orchestrator.yaml in this folder" in done.stderr
        assert "ends as soon as it starts" in done.stderr
        (other.config / "orchestrator.yaml").write_text("hosts: {local: {slots: 1}}\n")
        assert other.awaited().returncode == 0
    finally:
        other.call("down", "--volumes")
    assert other.left() == []


def test_the_database_is_postgres_which_only_its_socket_leads_to(services: Composed) -> None:
    [database] = [f for f in services.doctor() if f["what"] == "database"]
    assert database["result"] == "ok"
    assert database["told"].startswith("PostgreSQL 15")
    assert "orchestrator.db" not in services.call("exec", "-T", "server", "ls", "/orchestrator/var")
    container = services.container("postgres")
    assert list(container.attrs["NetworkSettings"]["Networks"]) == ["none"]
    listening = services.call("exec", "-T", "postgres", "cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
    assert [line for line in listening if line.split()[0] != "sl"] == []
    refused = container.exec_run(["psql", "--no-password", "--username=orchestrator", "--command=SELECT 1"])
    assert refused.exit_code != 0
    assert b"no password supplied" in refused.output


def test_a_secret_of_mode_0600_is_read_and_shown_nowhere(services: Composed, password: str) -> None:
    kept = "/run/orchestrator/credentials/postgres_password"
    told = services.call("exec", "-T", "server", "stat", "-c", "%u %a %n", kept, "/run/orchestrator/pgpass")
    assert told.split() == ["1000", "400", kept, "1000", "600", "/run/orchestrator/pgpass"]
    shown = services.call("config") + services.call("logs", "--no-color")
    for service, uid in SERVICES.items():
        shown += str(services.container(service).attrs)
        told = services.call("exec", "-T", "-u", uid, service, "cat", "/proc/1/environ", "/proc/1/cmdline")
        assert "PATH=" in told
        shown += told
    assert "/run/secrets" in shown
    assert password not in shown


def test_what_a_person_starts_in_the_server_is_no_root_either(services: Composed) -> None:
    services.orchestrator("runs", "list")
    folder = "/orchestrator/var"
    assert services.call("exec", "-T", "server", "find", folder, "!", "-user", "1000") == ""
    assert services.call("exec", "-T", "server", "as-orchestrator", "id", "-u") == "1000\n"


def test_what_is_packed_for_the_engine_has_the_room_of_the_volume(services: Composed) -> None:
    told = services.call("exec", "-T", "server", "as-orchestrator", "python", "-c", _WHERE)
    assert told.split() == ["/orchestrator/var/tmp", "700"]


_WHERE = "import os, tempfile; t = tempfile.gettempdir(); print(t, oct(os.stat(t).st_mode)[-3:])"


def test_a_run_executes_on_the_hosts_engine_and_gets_nothing_of_the_server(
    services: Composed, repository: GitRepository, docker_engine: docker.DockerClient
) -> None:
    sha = repository.commit({"again.txt": "once more"}, "Look around again")

    def training() -> Container | None:
        mine: dict[str, str | list[str] | bool] = {"label": f"mlci.instance={services.instance}"}
        running = docker_engine.containers.list(filters=mine, ignore_removed=True)
        return next((c for c in running if f"MLCI_COMMIT={sha}" in c.attrs["Config"]["Env"]), None)

    host = wait_until(training, "the run's container on this machine's engine", 15).attrs["HostConfig"]
    assert not host["Binds"]
    assert all(mount["Type"] == "volume" for mount in host.get("Mounts") or [])
    assert host["NetworkMode"] != "host"
    assert host["CapDrop"] == ["ALL"]

    def ended() -> dict[str, object] | None:
        runs = [run for run in services.orchestrator("runs", "list") if run["commit"] == sha]
        return next((run for run in runs if run["state"] not in ("queued", "running", "evaluating")), None)

    run = wait_until(ended, "the run to end", 60)
    log = services.call("exec", "-T", "server", "orchestrator", "runs", "logs", str(run["id"]))
    assert run["state"] == "passed", log
    assert "found: []" in log
