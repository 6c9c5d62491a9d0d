"""A whole installation for tests: configuration, repository, data, mail, a server to deploy to.

The product runs as a user runs it: the ``orchestrator`` command in processes of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
import yaml

from tests.support.engine import remove_instance
from tests.support.git import GitRepository
from tests.support.network import free_port
from tests.support.smtp import SmtpServer
from tests.support.sshd import SshServer
from tests.support.waiting import wait_until

COMMAND = str(Path(sys.executable).with_name("orchestrator"))
TRAIN = """\
import json, os, time
lines, pause = int(os.environ.get("LINES", "5")), float(os.environ.get("PAUSE", "0.05"))
for number in range(lines):
    print("line", number)
    time.sleep(pause)
rows = sum(len(open(os.path.join(os.environ["MLCI_DATA_ROWS"], n)).readlines())
           for n in os.listdir(os.environ["MLCI_DATA_ROWS"]))
accuracy = float(open("accuracy.txt").read())
json.dump({"accuracy": accuracy, "rows": rows}, open("metrics.json", "w"))
open("model.txt", "w").write(f"model {accuracy}\\n")
"""


@dataclass
class Server:
    """A running ``orchestrator serve``."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.process.kill()
        self.process.wait(30)

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM, and wait for its end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def get(self, path: str) -> str:
        """Fetch a page."""
        return httpx.get(self.url + path, timeout=10).raise_for_status().text


@dataclass
class Installation:
    """A folder with a valid configuration for one pipeline, ``line``."""

    folder: Path
    repository: GitRepository
    smtp: SmtpServer
    production: SshServer | None
    image: str
    engine: str = "unix:///var/run/docker.sock"
    runner_image: Mapping[str, str] | None = None
    """How the runner's image is built, in place of ``image``."""
    command: str | Sequence[str] = "python3 train.py"
    environment: dict[str, str] = field(default_factory=dict)
    checks: Sequence[str] = ("accuracy >= 0.5", "accuracy not worse than best by 1pp")
    main: dict[str, object] = field(default_factory=dict)
    """Keys of orchestrator.yaml that replace what stands there."""
    pipeline: dict[str, object] = field(default_factory=dict)
    """Keys of the pipeline that replace what stands there."""
    runners: dict[str, dict[str, object]] = field(default_factory=dict)
    """Keys of the runner ``cpu``, and of more runners, each as that one with these keys and with a pipeline
    of its own name, as ``line``."""
    retries: int = 2
    state_free: str = "0"
    engine_free: str = "0"
    """Room that is to stay free at the orchestrator and at the engine: no test waits for a full machine."""
    servers: list[Server] = field(default_factory=list)
    _instance: str | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def data(self) -> Path:
        return self.folder / "data" / "rows"

    def write(self) -> None:
        """Write the configuration anew from this object's fields."""
        (self.config / "runners").mkdir(parents=True, exist_ok=True)
        (self.config / "pipelines").mkdir(exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        if not list(self.data.iterdir()):
            (self.data / "a.csv").write_text("1\n2\n")
        self._write("orchestrator.yaml", self._main())
        runner: dict[str, object] = {
            "runner": "cpu",
            "image": self.runner_image or self.image,
            "resources": {"memory": "256m", "cpus": 1},
            **self.runners.get("cpu", {}),
        }
        self._write("runners/cpu.yaml", runner)
        line = self._pipeline()
        self._write("pipelines/line.yaml", line)
        for name, keys in self.runners.items():
            if name == "cpu":
                continue
            self._write(f"runners/{name}.yaml", {**runner, "runner": name, **keys})
            executed = {**_mapping(line["run"]), "runner": name}
            self._write(f"pipelines/{name}.yaml", {**line, "pipeline": name, "run": executed})

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        (self.config / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def _main(self) -> dict[str, object]:
        main: dict[str, object] = {
            "storage": {"path": "../var", "min_free": self.state_free},
            "web": {"port": 0},
            "email": {"smtp": f"smtp://{self.smtp.host}:{self.smtp.port}", "from": "ML CI <ci@example.org>"},
            "hosts": {"local": {"engine": self.engine, "slots": 2, "min_free": self.engine_free}},
        }
        if self.production is not None:
            ssh = {
                "hostname": self.production.host,
                "port": self.production.port,
                "user": self.production.user,
                "identity_file": str(self.production.key_path),
                "host_key": self.production.host_key_line.partition(" ")[2].strip(),
            }
            main["servers"] = {"prod": {"ssh": ssh, "path": self.production.models_path, "keep": 3}}
        return main | self.main

    def _pipeline(self) -> dict[str, object]:
        mail = {"email": {"to": ["team@example.org"]}}
        deploy = {"deploy": {"server": "prod", "files": ["model.txt", "metrics.json"], "report": True}}
        return {
            "pipeline": "line",
            "source": {"git": self.repository.url, "branches": ["main"], "poll": "1s", "settle": "0s"},
            "datasets": {"rows": {"path": "../data/rows", "poll": "1s", "settle": "1s"}},
            "run": {
                "runner": "cpu",
                "command": self.command,
                "env": self.environment,
                "timeout": "5m",
                "retry": {"infrastructure": self.retries},
            },
            "collect": ["metrics.json"],
            "artifacts": ["model.*"],
            "gate": {"checks": list(self.checks)},
            "actions": {
                "pass": [deploy, mail] if self.production is not None else [mail],
                **{trigger: [mail] for trigger in ("fail", "failed", "error", "inconclusive")},
            },
        } | self.pipeline

    def commit(self, accuracy: float, files: Mapping[str, str] | None = None) -> str:
        """Push a commit whose training reaches that accuracy."""
        content = {"train.py": TRAIN, "accuracy.txt": f"{accuracy}\n", **(files or {})}
        return self.repository.commit(content, f"Reach {accuracy}")

    def orchestrator(self, *arguments: str, expect: int | None = 0) -> str:
        """Run the command and return its standard output; its exit code must be as expected (None: any)."""
        done = subprocess.run(
            [COMMAND, "--config", str(self.config), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if expect is not None and done.returncode != expect:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON of any shape
        """What a command prints as JSON."""
        return json.loads(self.orchestrator("--json", *arguments))

    def serve(self) -> Server:
        """Start a server and wait until it answers."""
        log = self.folder / f"serve-{len(self.servers)}.log"
        port = free_port()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [COMMAND, "--config", str(self.config), "serve", "--port", str(port)],
                stdout=out,
                stderr=out,
                env={**os.environ, "NO_COLOR": "1"},
            )
        server = Server(process, f"http://127.0.0.1:{port}", log)
        self.servers.append(server)

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
            try:
                return server.get("/healthz") == "ok\n"
            except httpx.HTTPError:
                return False

        wait_until(answers, "the server to answer", 30)
        # A test may take the database away before it is asked what to clean up.
        self.instance()
        return server

    def wait_for_line(self, text: str, seconds: float = 60) -> None:
        """Return once the first attempt has printed a line."""
        log = self.folder / "var" / "logs" / "1.log"
        wait_until(lambda: log.exists() and f" {text}\n" in log.read_text(), f"'{text}' in the log", seconds)

    def wait_for_mails(self, count: int, seconds: float = 90) -> None:
        """Return once that many mails have arrived and nothing is owed any more."""
        wait_until(lambda: len(self.smtp.messages) >= count, f"{count} mails", seconds)
        wait_until(
            lambda: all(
                action["state"] not in ("pending", "running")
                for run in self.json("runs", "list")
                for action in self.json("runs", "show", str(run["id"]))["actions"]
            ),
            "all actions to end",
            seconds,
        )

    def instance(self) -> str | None:
        """The database's id, the label on everything made on the engine; None before the first start.

        Known for good once it was asked for: a restored database keeps it.
        """
        database = self.folder / "var" / "orchestrator.db"
        if self._instance is not None or not database.exists():
            return self._instance
        from orchestrator.store import open_store

        store = open_store(f"sqlite:///{database}")
        try:
            self._instance = store.instance
        finally:
            store.close()
        return self._instance

    def close(self) -> None:
        """End what still runs."""
        for server in self.servers:
            if server.process.poll() is None:
                server.kill()


def _mapping(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


@contextmanager
def closing(made: Installation) -> Iterator[Installation]:
    """Show the servers' logs when the test fails, and end what runs."""
    try:
        made.write()
        yield made
    except BaseException:
        for server in made.servers:
            sys.stdout.write(f"--- {server.log.name}\n{server.log.read_text()}")
        raise
    finally:
        made.close()


@contextmanager
def removed_afterwards(made: Installation, client: docker.DockerClient) -> Iterator[Installation]:
    """As :func:`closing`, and what it leaves on the engine is removed."""
    try:
        with closing(made):
            yield made
    finally:
        if (instance := made.instance()) is not None:
            remove_instance(client, instance)
