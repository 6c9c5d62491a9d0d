"""The user's own command, in a fresh container of a runner, with the results in its working folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from orchestrator.domain.action import Action, ActionState
from orchestrator.domain.action_spec import CommandAction
from orchestrator.domain.deployment import why_not_trusted
from orchestrator.domain.errors import ActionUnavailable, ContainerGone, InvalidInput, NotFound
from orchestrator.domain.pipeline import (
    HostSpec,
    Network,
    Pipeline,
    RepositoryImage,
    RunnerSpec,
    eligible_hosts,
)
from orchestrator.domain.run import Attempt, Exit, Run, representative
from orchestrator.observe import Masker
from orchestrator.ports.engine import ContainerSpec, ContainerState, Engine, Sandbox
from orchestrator.ports.progress import ProgressSink
from orchestrator.ports.records import Lease
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, Secrets
from orchestrator.services import naming
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.engines import engine_errors, said
from orchestrator.services.acting.packing import packed
from orchestrator.services.acting.results import Results
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.images import Images
from orchestrator.services.networks import Networks
from orchestrator.services.prepare import environment, folders_head, with_secrets

LONGEST: Final = 3600.0
"""Seconds for a command whose action has no timeout."""
_SOON: Final = 0.05
_POLL: Final = 1.0


@dataclass(frozen=True, slots=True)
class CommandPorts:
    """What commands need of the rest."""

    store: Store
    results: Results
    engines: Mapping[str, Engine]
    hosts: tuple[HostSpec, ...]
    runners: Mapping[str, RunnerSpec]
    images: Images
    networks: Networks
    secrets: Secrets
    masker: Masker
    clock: Clock
    scratch: Path
    progress: ProgressSink


class Commander:
    """Carries out command actions: an Act. What a kill interrupts is done again from its beginning."""

    def __init__(self, ports: CommandPorts) -> None:
        self._ports = ports

    def carry_out(self, lease: Lease, run: Run, action: Action) -> Acted:
        """Run the command to its end. One that fails is tried again only where the action says how often."""
        spec = action.spec
        if not isinstance(spec, CommandAction):
            raise TypeError(f"{action.key} is no command")
        ports = self._ports
        pipeline = ports.store.runs.definition(run.id)
        refusal = why_not_trusted(run, pipeline)
        if refusal is not None:
            return Acted(ActionState.SKIPPED, refusal)
        attempt = representative(ports.store.attempts.of_run(run.id))
        if attempt is None:
            return Acted(ActionState.SKIPPED, "the run has left nothing: it has no attempt")
        runner = self._runner(spec, pipeline)
        host = self._host(runner, attempt)
        engine = ports.engines[host]
        name = naming.action_name(ports.store.instance, action.id)
        with engine_errors(f"the command on host {host}"):
            _clear(engine, name)
            with cleaned_up(partial(_clear, engine, name)):
                self._prepare(engine, host, name, run, pipeline, attempt, runner, action, spec)
                engine.start(name)
                limit = spec.rule.timeout or LONGEST
                ended = self._until_ended(engine, name, limit)
                output = said(engine, name, ports.masker)
        if ended is not None and ended.code == 0 and not ended.error:
            return Acted(ActionState.DONE, f"the command ended well on host {host}", output)
        how = f"was stopped after {limit:.0f} s, its timeout" if ended is None else _told(ended)
        if action.tries < spec.rule.tries:
            last = "; ".join(output.splitlines()[-3:])
            raise ActionUnavailable(f"the command {how}" + (f": {last}" if last else ""))
        return Acted(ActionState.FAILED, f"the command {how}", output)

    def give_up(self, lease: Lease, error: str) -> None:
        """Nothing was begun that has to be told as failed."""

    def _runner(self, spec: CommandAction, pipeline: Pipeline) -> RunnerSpec:
        if not spec.runner or spec.runner == pipeline.runner.name:
            return pipeline.runner
        if spec.runner not in self._ports.runners:
            raise NotFound(f'there is no runner "{spec.runner}"', "a runner under config/runners")
        return self._ports.runners[spec.runner]

    def _host(self, runner: RunnerSpec, attempt: Attempt) -> str:
        """Where the attempt was, whose image is there, else the first host that the runner may have."""
        names = [host.name for host in eligible_hosts(runner, self._ports.hosts)]
        if attempt.host in names:
            return attempt.host
        if not names:
            raise ActionUnavailable(f"no host may be used for the runner {runner.name} now")
        return names[0]

    def _image(self, engine: Engine, runner: RunnerSpec, pipeline: Pipeline, attempt: Attempt) -> str:
        there = attempt.image_digest
        if runner == pipeline.runner and there and engine.find_image(there) is not None:
            return there
        if isinstance(runner.image, RepositoryImage):
            raise InvalidInput(
                f"the image of runner {runner.name} is built from the repository, and no longer there",
                "runner: one with an image by name",
            )
        return self._ports.images.runner_image(engine, runner.image, None, self._ports.progress, runner)[1]

    def _network(self, engine: Engine, host: str, name: str, runner: RunnerSpec) -> Sandbox | str | None:
        if runner.network is Network.NONE:
            return None
        return self._ports.networks.make(engine, host, f"{name}-network")

    def _prepare(
        self,
        engine: Engine,
        host: str,
        name: str,
        run: Run,
        pipeline: Pipeline,
        attempt: Attempt,
        runner: RunnerSpec,
        action: Action,
        spec: CommandAction,
    ) -> None:
        ports = self._ports
        secrets = ports.secrets.resolve(spec.secrets) if spec.secrets else {}
        command = ("sh", "-c", spec.command)
        labels = {
            naming.ROLE_LABEL: naming.ACTION,
            naming.RUN_LABEL: str(run.id),
            naming.ACTION_LABEL: str(action.id),
        }
        plain = environment(run, pipeline, attempt)
        given = {key: value for key, value in plain.items() if key not in dict(pipeline.execution.env)}
        engine.create(
            ContainerSpec(
                name=name,
                image=self._image(engine, runner, pipeline, attempt),
                command=with_secrets(command) if secrets else command,
                labels=labels,
                env={**given, "MLCI_ACTION": action.key, "MLCI_STATE": run.state.value, **dict(spec.env)},
                user=f"{runner.uid}:{runner.gid}",
                workdir=naming.WORKSPACE,
                resources=runner.resources,
                network=self._network(engine, host, name, runner),
            )
        )
        head = folders_head(runner.uid, runner.gid, secrets)
        with (
            ports.results.of(run, action, spec.contents) as contents,
            packed(contents, naming.WORKSPACE, runner.uid, runner.gid, ports.scratch, head) as tar,
        ):
            engine.put(name, "/", tar)

    def _until_ended(self, engine: Engine, name: str, timeout: float) -> Exit | None:
        clock = self._ports.clock
        pause, deadline = _SOON, clock.monotonic() + timeout
        while True:
            found = engine.find(name)
            if found is None:
                raise ContainerGone(f"{name} was removed while it ran")
            if found.state is ContainerState.EXITED and found.exit is not None:
                return found.exit
            if clock.monotonic() > deadline:
                engine.stop(name, 0)
                return None
            clock.sleep(pause)
            pause = min(pause * 1.5, _POLL)


def _clear(engine: Engine, name: str) -> None:
    engine.remove(name)
    engine.remove(f"{name}-network")
    engine.remove_network(f"{name}-network")


def _told(ended: Exit) -> str:
    if ended.error:
        return ended.error
    if ended.oom_killed:
        return "needed more memory than its runner has"
    return f"ended with exit code {ended.code}"
