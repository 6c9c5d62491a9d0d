"""Deployments of runs that have passed, by a process of the product that may be killed at any byte.

The runs themselves are written into the database: what is tested here begins where a verdict owes something.
The process is the product as its configuration wires it, with the loop of its actions alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import yaml

from orchestrator.adapters.process import SystemClock
from orchestrator.bootstrap import Application, read_configuration
from orchestrator.bootstrap.acting import actor_of
from orchestrator.domain.action import Action, Trigger
from orchestrator.domain.change import Cause, Revision
from orchestrator.domain.deployment import Deployment, DeploymentState
from orchestrator.domain.gate import Outcome, Verdict
from orchestrator.domain.run import AttemptState, Reason, Run, RunState
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import AttemptResult, NewAction, NewRun, StoredArtifact
from tests.support.sshd import SshServer

BRANCH = "main"
PATIENCE = 120.0
_processes = multiprocessing.get_context("forkserver")
# What the product imports when it first needs it: each process would pay for it anew after each kill.
_LATE = (
    "orchestrator.store",
    "orchestrator.store.migrations",
    "orchestrator.adapters.datasets",
    "orchestrator.adapters.git",
    "orchestrator.adapters.render",
    "orchestrator.adapters.sftp.target",
    "orchestrator.adapters.ssh",
    "sqlalchemy.dialects.sqlite",
)
_processes.set_forkserver_preload(["tests.support.deploying", *_LATE])


def whole(content: bytes) -> bytes:
    """A content that shows by itself whether it is whole."""
    return hashlib.sha256(content).hexdigest().encode() + content


class _Later(SystemClock):
    """The real time and so many seconds: what is postponed is due without waiting for it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


def _ignore(event: ProgressEvent) -> None:
    """Progress that nobody looks at."""


def _serve(config: str, orders: Connection) -> None:
    """Carry out what is due whenever told, until nothing is: in a process of its own."""
    os.setsid()
    clock = _Later()
    app = Application(read_configuration(Path(config)), clock=clock)
    actor = actor_of(app, threading.Event(), lambda run_id: True, _ignore)
    with contextlib.suppress(EOFError):
        while True:
            clock.ahead = timedelta(seconds=orders.recv())
            dead = [o for o in app.store.attempts.lease_owners() if app.processes.is_dead(o)]
            app.store.actions.release_dead(dead, clock.now())
            while actor.tick():
                pass
            orders.send("done")


@dataclass
class Deployments:
    """An installation with servers, runs that have passed, and a process that carries out what they owe."""

    folder: Path
    servers: dict[str, dict[str, object]]
    main: dict[str, object] = field(default_factory=dict)
    """More keys of orchestrator.yaml."""
    actions: list[dict[str, object]] = field(
        default_factory=lambda: [{"deploy": {"server": "prod", "files": ["**"]}}]
    )
    _ahead: float = 0.0
    _process: ForkServerProcess | None = None
    _orders: Connection | None = None
    _count: int = 0

    def write(self) -> None:
        """Write the configuration anew; the process sees it when it is started the next time."""
        config = self.folder / "config"
        for kind in ("runners", "pipelines"):
            (config / kind).mkdir(parents=True, exist_ok=True)
        main = {
            "storage": {"path": "../var"},
            "hosts": {"local": {"engine": f"unix://{self.folder}/no.sock"}},
            "servers": self.servers,
        } | self.main
        line = {
            "pipeline": "line",
            "source": {"git": "https://git.example.org/line.git", "branches": [BRANCH]},
            "run": {"runner": "cpu", "command": "python3 train.py"},
            "gate": {"checks": ["accuracy >= 0.5"]},
            "actions": {"pass": self.actions},
        }
        for name, content in (
            ("orchestrator.yaml", main),
            ("runners/cpu.yaml", {"runner": "cpu", "image": "python:3.12-slim"}),
            ("pipelines/line.yaml", line),
        ):
            (config / name).write_text(yaml.safe_dump(content, sort_keys=False))

    @cached_property
    def app(self) -> Application:
        """The product, to look at its records with."""
        return Application(read_configuration(self.folder / "config"))

    def passed(self, files: Mapping[str, bytes]) -> Run:
        """A run that passed and left these files; it owes what the pipeline's actions say."""
        store, self._count = self.app.store, self._count + 1
        frozen, now = self.app.pipeline("line"), datetime.now().astimezone()
        revision = Revision(
            frozen.sources[0].name,
            BRANCH,
            hashlib.sha1(str(self._count).encode(), usedforsecurity=False).hexdigest(),
            "Change it",
            "Ann",
            "ann@example.org",
            now,
        )
        run = store.runs.enqueue(NewRun(frozen, Cause.PUSH, revision, ()), (), frozen.name, now)
        assert run is not None
        kept = []
        for path, content in files.items():
            blob = self.app.blobs.put(io.BytesIO(content), 1 << 30)
            kept.append(StoredArtifact(path, blob.size, blob.sha256))
        (attempt,) = store.attempts.of_run(run.id)
        lease = store.attempts.claim(attempt.id, f"host-{run.id}", 1, f"made-up-{run.id}", "tests", now, 60.0)
        assert lease is not None
        store.attempts.advance(lease, AttemptState.PREPARING, AttemptState.RUNNING, now)
        store.attempts.advance(lease, AttemptState.RUNNING, AttemptState.COLLECTING, now)
        left = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, artifacts=tuple(kept))
        store.attempts.finish(lease, AttemptState.COLLECTING, left, now)
        store.runs.move(run.id, RunState.RUNNING, RunState.EVALUATING, now)
        owed = tuple(
            NewAction(Trigger.PASS, position, spec) for position, (_, spec) in enumerate(frozen.actions)
        )
        verdict = Verdict(Outcome.PASS, "all checks hold")
        return store.runs.move(
            run.id, RunState.EVALUATING, RunState.PASSED, now, verdict=verdict, actions=owed
        )

    def carry_out(self, patience: float = PATIENCE) -> bool:
        """Let the process carry out all that is due, what was postponed as well; False: it was killed."""
        if self._process is None or self._orders is None:
            self._process, self._orders = self._start()
        self._ahead += 3600.0
        try:
            self._orders.send(self._ahead)
            if not self._orders.poll(patience):
                raise AssertionError(f"nothing was heard of the process for {patience:g} s")
            return bool(self._orders.recv() == "done")
        except (EOFError, OSError):
            self._process.join()
            self._process = None
            return False

    def kill(self) -> None:
        """kill -9 of the process, in the middle of whatever it does; from any thread."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)

    def finish(self, run: Run, tries: int = 12) -> None:
        """Carry out what a run owes to its end."""
        for _ in range(tries):
            self.carry_out()
            if all(action.state.final for action in self.owed(run)):
                return
        raise AssertionError(f"what run {run.id} owes never came to its end: {self.owed(run)}")

    def owed(self, run: Run) -> list[Action]:
        """The run's actions as they are now."""
        return list(self.app.store.actions.of_run(run.id))

    def of(self, run: Run) -> list[Deployment]:
        """The run's deployments as they are now."""
        return list(self.app.store.deployments.of_run(run.id))

    def live(self, server: str = "prod") -> str:
        """What is live by the record."""
        found = self.app.store.deployments.live("line", server)
        return found.release if found else ""

    def may_be_live(self, server: str = "prod") -> set[str]:
        """What the record says may be live: the active release, and one whose switch is under way."""
        switching = {
            DeploymentState.ACTIVATING,
            DeploymentState.BAKING,
            DeploymentState.PUTTING_BACK,
        }
        found = self.app.store.deployments.listing(server, 5)
        return {self.live(server)} | {d.release for d in found if d.state in switching}

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.app.store.close()

    def _start(self) -> tuple[ForkServerProcess, Connection]:
        if self._orders is not None:
            self._orders.close()
        ours, theirs = _processes.Pipe()
        process = _processes.Process(target=_serve, args=(str(self.folder / "config"), theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours


@contextmanager
def deployments(
    folder: Path,
    servers: dict[str, dict[str, object]],
    actions: list[dict[str, object]] | None = None,
    main: dict[str, object] | None = None,
) -> Iterator[Deployments]:
    """An installation in a folder of its own, whose process is gone afterwards."""
    made = Deployments(folder, servers, main or {})
    if actions is not None:
        made.actions = actions
    made.write()
    try:
        yield made
    finally:
        made.close()


def server_entry(machine: SshServer, path: str, port: int | None = None, **keys: object) -> dict[str, object]:
    """A server as orchestrator.yaml has it, reached by another port where one is given."""
    ssh = {
        "hostname": machine.host,
        "port": port or machine.port,
        "user": machine.user,
        "identity_file": str(machine.key_path),
        "host_key": machine.host_key_line.partition(" ")[2].strip(),
    }
    return {"ssh": ssh, "path": path, "keep": 3} | keys
