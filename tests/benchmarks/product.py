"""The product in this process, wired as ``serve`` wires it, with a pipeline that does next to nothing."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import copy
from pathlib import Path

import docker
import yaml

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.change import Cause
from orchestrator.domain.pipeline import Pipeline
from orchestrator.domain.run import Run
from orchestrator.observe import configure_logging
from orchestrator.ports.records import NewRun
from orchestrator.scheduler import Service
from tests.support.engine import remove_instance
from tests.support.git import GitRepository

COMMAND = ("sh", "-c", 'date +%s%N; echo "{\\"accuracy\\": 0.9}" > metrics.json')
"""Its first act is to print the time; the container has the clock of its host."""
_PATIENCE = 300.0


class Product:
    """A serving orchestrator on a database, a repository and an engine that are all real."""

    def __init__(self, app: Application, service: Service, repository: GitRepository) -> None:
        self.app = app
        self._service = service
        self._repository = repository
        self._pipeline: Pipeline = app.pipeline("trivial")
        self._changes = 0
        # A look of its own into the file, so that looking costs the product nothing.
        self._database = sqlite3.connect(f"file:{app.state}/orchestrator.db?mode=ro", uri=True)

    def push(self) -> Run:
        """A new commit, seen and accepted: returns at once after the change's run is committed."""
        self._changes += 1
        content = f"{self._pipeline.name} {self._changes}\n"
        self._repository.commit({"change.txt": content}, f"Change {self._changes}")
        run, *_ = self.app.detector.poll_source(self._pipeline, self._pipeline.sources[0])
        self._service.wake()
        return run

    def of(self, pipeline: str) -> Product:
        """The same orchestrator, for the runs of another of its pipelines."""
        other = copy(self)
        other._pipeline = self.app.pipeline(pipeline)
        return other

    def again(self, run: Run) -> int:
        """One more run of the same change, accepted; its id."""
        new = NewRun(self._pipeline, Cause.MANUAL, run.change.revision, run.change.datasets)
        made = self.app.store.runs.enqueue(new, (), self._pipeline.name, self.app.clock.now())
        self._service.wake()
        if made is None:
            raise RuntimeError("the run was not accepted")
        return made.id

    def judged(self, run_ids: range) -> int:
        """Wait until all of these runs are judged, all as passed; when that was, in nanoseconds."""
        wanted = (run_ids.start, run_ids.stop - 1)
        ended = "SELECT count(*) FROM runs WHERE id BETWEEN ? AND ?"
        unfinished = "SELECT 1 FROM runs WHERE state IN ('queued', 'running', 'evaluating') LIMIT 1"
        passed = "SELECT count(*) FROM runs WHERE id BETWEEN ? AND ? AND state = 'passed'"
        pause = 0.001 if len(run_ids) == 1 else 0.2
        deadline = time.monotonic() + _PATIENCE
        while self._database.execute(unfinished).fetchone() or self._database.execute(
            ended, wanted
        ).fetchone()[0] < len(run_ids):
            if time.monotonic() > deadline:
                raise TimeoutError(f"runs {wanted} did not end within {_PATIENCE:.0f} s")
            time.sleep(pause)
        at = time.time_ns()
        if self._database.execute(passed, wanted).fetchone()[0] != len(run_ids):
            raise RuntimeError(f"not all of the runs {wanted} passed")
        return at

    def first_instruction(self, run_id: int) -> int:
        """When the run's command began, in nanoseconds."""
        (attempt,) = self.app.store.attempts.of_run(run_id)
        _, line = next(self.app.logs.lines(attempt.id))
        return int(line.text)

    def names(self, run_id: int) -> tuple[str, str]:
        """What the run's container and its volume are called on the engine."""
        (attempt,) = self.app.store.attempts.of_run(run_id)
        volume = f"mlci-{self.app.store.instance[:8]}-checkpoint-{run_id}-0"
        return attempt.container, volume

    def close(self) -> None:
        """Stop as a server stops."""
        self._service.stop()
        self._database.close()


@contextmanager
def serving(
    folder: Path,
    image: str,
    slots: int,
    network: str,
    engine: docker.DockerClient,
    hosts: Mapping[str, Mapping[str, object]] | None = None,
    commands: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Product]:
    """Serve from ``folder``; what it made on the engine is removed at the end.

    For each of ``hosts``, which are as in orchestrator.yaml, there is a pipeline of that name whose runs
    execute there; for each of ``commands`` another one on every host, named ``HOST-NAME``.
    """
    repository = GitRepository.create(folder)
    files: dict[str, str | bytes | None] = {f"data/{number}.bin": os.urandom(1 << 17) for number in range(8)}
    repository.commit({**files, "change.txt": "0\n"}, "Begin")
    _configure(folder / "config", repository, image, slots, network, hosts or {}, commands or {})
    app = Application(read_configuration(folder / "config"))
    with closing(app), (folder / "serve.log").open("w") as log:
        # What a server says costs, too; where it goes to, hardly.
        configure_logging("INFO", masker=app.masker, stream=log)
        service = app.service("")
        service.start()
        product = Product(app, service, repository)
        try:
            service.wake()
            product.judged(range(1, 1 + len(app.pipelines)))
            yield product
        finally:
            product.close()
            remove_instance(engine, app.store.instance)
            logging.getLogger().handlers.clear()


def _configure(
    config: Path,
    repository: GitRepository,
    image: str,
    slots: int,
    network: str,
    hosts: Mapping[str, Mapping[str, object]],
    commands: Mapping[str, Sequence[str]],
) -> None:
    local = {"engine": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"), "slots": slots}
    files: dict[str, Mapping[str, object]] = {
        "orchestrator.yaml": {
            "storage": {"path": "../var"},
            "web": {"port": 0},
            "hosts": {"local": local, **hosts},
        }
    }
    for host in ("local", *hosts):
        files[f"runners/{host}.yaml"] = {
            "runner": host,
            "image": image,
            "network": network,
            "resources": {"memory": "256m", "cpus": 1},
            "hosts": [host],
        }
    pipelines: dict[str, tuple[str, Sequence[str]]] = {"trivial": ("local", COMMAND)}
    pipelines |= {host: (host, COMMAND) for host in hosts}
    for name, command in commands.items():
        pipelines |= {f"{host}-{name}": (host, command) for host in ("local", *hosts)}
    for pipeline, (host, command) in pipelines.items():
        files[f"pipelines/{pipeline}.yaml"] = {
            "pipeline": pipeline,
            "source": {"git": repository.url, "branches": ["main"], "poll": "1h", "settle": "0s"},
            "run": {"runner": host, "command": list(command)},
            "collect": ["metrics.json"],
            "gate": {"checks": ["accuracy >= 0.5"]},
        }
    for name, content in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
