"""The product as its users have it: the command ``orchestrator``, and nothing else of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, TypeAlias

from orchestrator.demo.errors import DemoFailed, NotReady

Facts: TypeAlias = dict[str, Any]
"""A JSON object as the command line prints it."""


def command() -> str:
    """The console script of this environment. Raises NotReady when it is not installed."""
    beside = Path(sys.executable).with_name("orchestrator")
    found = str(beside) if beside.is_file() else shutil.which("orchestrator")
    if found is None:
        raise NotReady("the command orchestrator is not installed; `make setup` does it")
    return found


class Follower:
    """A command that goes on, and the lines that it prints as they come. A context manager."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Follower:
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return not self._reader.is_alive()

    def _read(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                for line in stream:
                    self.lines.append(line.rstrip("\n"))


class Product:
    """One installation of the product: a configuration folder, and the server while one is up."""

    def __init__(self, config: Path, url: str, log: Path) -> None:
        self._config = config
        self._log = log
        self._command = command()
        self._server: subprocess.Popen[bytes] | None = None
        self.url = url

    def call(self, *arguments: str, expected: tuple[int, ...] = (0,), timeout: float = 60) -> str:
        """What ``orchestrator ARGUMENTS`` printed. Raises DemoFailed when its exit code is not expected."""
        done = subprocess.run(
            [self._command, *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if done.returncode not in expected:
            line = f"orchestrator {' '.join(arguments)}"
            raise DemoFailed(f"`{line}` ended with {done.returncode}: {done.stdout}{done.stderr}".strip())
        return done.stdout

    def ask(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON is what it is
        """The JSON that ``orchestrator ARGUMENTS --json`` printed."""
        printed = self.call(*arguments, "--json")
        try:
            return json.loads(printed)
        except json.JSONDecodeError as error:
            line = f"orchestrator {' '.join(arguments)} --json"
            raise DemoFailed(f"`{line}` printed no JSON ({error}): {printed[:500]}") from None

    def runs(self) -> list[Facts]:
        """All runs, oldest first."""
        rows: list[Facts] = self.ask("runs", "list")
        return sorted(rows, key=lambda row: int(row["id"]))

    def run(self, run: int) -> Facts:
        """Everything about one run."""
        facts: Facts = self.ask("runs", "show", str(run))
        return facts

    def log_of(self, run: int) -> list[str]:
        """The lines that a run's training printed so far."""
        return self.call("runs", "logs", str(run)).splitlines()

    def follow(self, run: int) -> Follower:
        """A run's log as it comes, until the run's end."""
        return Follower([self._command, "runs", "logs", str(run), "--follow"], self._environment())

    def making_image(self, runner: str) -> Follower:
        """Have the product make a runner's image, which takes minutes when nothing of it is there."""
        return Follower([self._command, "images", "build", runner, "--verbose"], self._environment())

    def image(self, runner: str) -> str:
        """The name of a runner's image. Raises DemoFailed with what went wrong when it cannot be made."""
        rows: list[Facts] = self.ask("images", "build", runner)
        return next(str(row["image"]) for row in rows if row["runner"] == runner)

    def start(self) -> None:
        """Start the server. It is ready when ``ready`` says so."""
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C at the terminal stops the demo, and the demo stops the server.
            self._server = subprocess.Popen(
                [self._command, "serve"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool | None:
        """True once the server answers, None before. Raises DemoFailed when it has ended."""
        self.check_alive()
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310 - our own URL
                return True if answer.status == 200 else None
        except (urllib.error.URLError, OSError):
            return None

    def check_alive(self) -> None:
        """Raises DemoFailed when the server has ended by itself."""
        if self._server is not None and (code := self._server.poll()) is not None:
            raise DemoFailed(f"`orchestrator serve` ended by itself with {code}; its log: {self._log}")

    def kill(self) -> None:
        """kill -9: no time to say good-bye."""
        if self._server is None:
            raise DemoFailed("there is no server to kill")
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()
        self._server = None

    def stop(self) -> None:
        """Ask the server, if one is up, to end, and wait. Raises DemoFailed when it ends badly."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.terminate()
        try:
            code = server.wait(timeout=40)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise DemoFailed(
                f"the server did not stop within 40 s of SIGTERM; its log: {self._log}"
            ) from None
        if code not in (0, -signal.SIGTERM):
            raise DemoFailed(f"the server ended with {code} when it was asked to stop; its log: {self._log}")

    def _environment(self) -> dict[str, str]:
        # An address there would take the place of the configuration's.
        given = {name: value for name, value in os.environ.items() if name != "ORCHESTRATOR_DATABASE"}
        return {**given, "ORCHESTRATOR_CONFIG": str(self._config), "NO_COLOR": "1"}
