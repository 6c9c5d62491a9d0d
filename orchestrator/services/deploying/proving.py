"""Activation and proof on one server: commands are run and looks taken, and what was said is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from orchestrator.domain.activation import (
    Activation,
    Answer,
    Command,
    Health,
    Smoke,
    pause_after,
    tail,
    why_other_answer,
    why_unhealthy,
)
from orchestrator.domain.deployment import Deployment
from orchestrator.domain.errors import ServerRejected, ServerUnavailable, Stopping
from orchestrator.ports.world import Clock, ReleaseTarget

_SLICE = 1.0
_LOOK = 10.0
_LINES = 4096


class DoesNotServe(Exception):
    """A release failed its activation or its proof: why."""


class Proof:
    """Takes one release through its server's activation. What commands said is in :attr:`output`.

    Each method raises DoesNotServe when the release fails it, ServerUnavailable when another try may help,
    Stopping when this process ends before it is known.
    """

    def __init__(
        self,
        target: ReleaseTarget,
        activation: Activation,
        deployment: Deployment,
        clock: Clock,
        stopping: threading.Event,
        mask: Callable[[str], str],
    ) -> None:
        self._target = target
        self._activation = activation
        self._deployment = deployment
        self._clock = clock
        self._stopping = stopping
        self._mask = mask
        self.output = deployment.output

    def begin(self, deployment: Deployment) -> None:
        """Go on with what is known of the deployment now."""
        self._deployment = deployment

    def before(self) -> None:
        """The commands before the switch."""
        self._run_all(self._activation.before, self._deployment.release)

    def activate(self, release: str) -> None:
        """The commands that make the service take up ``release``, which ``current`` points to."""
        self._run_all(self._activation.commands, release)

    def after(self) -> None:
        """The commands at the end."""
        self._run_all(self._activation.after, self._deployment.release)

    def health(self, release: str) -> None:
        """Every health check, each until it passes or its tries are over."""
        for health in self._activation.health:
            self._until_healthy(health, release)

    def smoke(self) -> None:
        """The predictions whose answers are known."""
        for smoke in self._activation.smoke:
            problem = why_other_answer(smoke, self._look(smoke, self._deployment.release))
            self._tell(f"smoke: {problem or f'{smoke.probe} answers as expected'}")
            if problem:
                raise DoesNotServe(problem)

    def bake(self, since: datetime | None = None) -> None:
        """Time on probation: it has to stay live and healthy all along.

        ``since``: when an earlier try put it on probation. It goes on from there, with a look at once.
        """
        release, checks = self._deployment.release, self._activation.health
        spent = max(0.0, (self._clock.now() - since).total_seconds()) if since is not None else 0.0
        until = self._clock.monotonic() + self._activation.bake - spent
        if since is not None:
            for health in checks:
                self._until_healthy(health, release, quiet=True)
        while True:
            if self._target.current() != release:
                raise DoesNotServe("somebody switched to another release while it was on probation")
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            self._pause(min([left, _LOOK, *(health.interval for health in checks)]))
            for health in checks:
                self._until_healthy(health, release, quiet=True)

    def logs(self) -> None:
        """What the release that failed said, as far as that can be had."""
        for command in self._activation.logs:
            try:
                self._run(command, self._deployment.release)
            except (ServerRejected, ServerUnavailable) as error:
                self._tell(f"logs: {error}")

    def _run_all(self, commands: Iterable[Command], release: str) -> None:
        for command in commands:
            answer = self._run(command, release)
            if answer.problem:
                raise DoesNotServe(f"{command}: {answer.problem}")
            if answer.status:
                raise DoesNotServe(f"{command} ended with status {answer.status}: {_last(answer.text)}")

    def _run(self, command: Command, release: str) -> Answer:
        started = self._clock.monotonic()
        answer = self._masked(self._target.run(command, release, self._variables(release)))
        took = self._clock.monotonic() - started
        ended = answer.problem or f"status {answer.status}"
        self._tell(f"$ {command}\n{tail(answer.text, _LINES)}".rstrip() + f"\n[{ended}, {took:.1f} s]")
        return answer

    def _until_healthy(self, health: Health, release: str, *, quiet: bool = False) -> None:
        looks = 0
        while True:
            problem = why_unhealthy(health, self._look(health, release))
            looks += 1
            if not problem:
                if not quiet:
                    self._tell(f"health: {health.probe} answers after {_times(looks)}")
                return
            pause = pause_after(health, looks)
            if pause is None:
                self._tell(f"health: {problem}")
                raise DoesNotServe(f"not healthy after {_times(looks)}: {problem}")
            self._pause(pause)

    def _look(self, look: Health | Smoke, release: str) -> Answer:
        probe = look.probe
        if isinstance(probe, Command):
            run = replace(probe, timeout=look.timeout)
            return self._masked(self._target.run(run, release, self._variables(release)))
        return self._masked(self._target.ask(probe, look.timeout))

    def _pause(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            if self._stopping.is_set():
                raise Stopping(f"{self._deployment.server}: stopped while a release was proved")
            self._clock.sleep(min(left, _SLICE))

    def _masked(self, answer: Answer) -> Answer:
        return replace(answer, text=self._mask(answer.text), problem=self._mask(answer.problem))

    def _tell(self, text: str) -> None:
        self.output = tail(f"{self.output}\n{text}".lstrip("\n"))

    def _variables(self, release: str) -> Mapping[str, str]:
        deployment = self._deployment
        return {
            "MLCI_RELEASE": release,
            "MLCI_RUN_ID": release.rpartition("-")[2],
            "MLCI_PREVIOUS_RELEASE": deployment.previous if release == deployment.release else "",
            "MLCI_FAILED_RELEASE": "" if release == deployment.release else deployment.release,
            "MLCI_PIPELINE": deployment.pipeline,
            "MLCI_SERVER": deployment.server,
            "MLCI_ENVIRONMENT": deployment.environment,
        }


def _times(count: int) -> str:
    return f"{count} look{'' if count == 1 else 's'}"


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
