"""Commands and services get the results of a run, in real containers."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.process import SystemClock
from orchestrator.adapters.render import ReportRenderer
from orchestrator.domain.action import Action, ActionState, Trigger
from orchestrator.domain.action_spec import CommandAction, ContainerAction, Contents, Rule
from orchestrator.domain.check import parse_check
from orchestrator.domain.errors import ActionUnavailable
from orchestrator.domain.gate import Gate
from orchestrator.domain.pipeline import HostSpec, NamedImage, Network, Pipeline, RunnerSpec
from orchestrator.domain.run import Exit, Run, RunState
from orchestrator.domain.service import ServicePort, ServiceSpec
from orchestrator.observe import Masker
from orchestrator.ports.engine import ContainerState
from orchestrator.ports.records import Lease
from orchestrator.services import naming
from orchestrator.services.acting.act import Acted
from orchestrator.services.acting.command import Commander, CommandPorts
from orchestrator.services.acting.results import Results
from orchestrator.services.acting.service import ServicePorts, Servicer
from orchestrator.services.deploying.gather import Gatherer
from orchestrator.services.images import Images
from orchestrator.services.networks import Networks
from tests.support.containers import Bench, docker_bench
from tests.support.fake_engine import Script
from tests.unit.services.worlds import Killed, World, pipeline

LEASE = Lease("action", 1, "me", "token", datetime(2026, 1, 1, tzinfo=UTC))
SECRET = "hunter2-hunter2"


@pytest.fixture
def results_bench(docker_engine: docker.DockerClient, base_image: str) -> Iterator[Bench]:
    with docker_bench(base_image) as bench:
        yield bench


STAGE = (("STAGE", "prod"),)


class Acting:
    """A run that passed in a world of its own, and acts on a real engine."""

    def __init__(self, world: World, bench: Bench, scratch: Path) -> None:
        self.world = world
        self.bench = bench
        self.masker = Masker([SECRET])
        self.services: dict[str, ServiceSpec] = {}
        gatherer = Gatherer(world.store, world.data, world.reports, ReportRenderer(), world.progress.append)
        results = Results(world.store, world.blobs, gatherer)
        clock, engines = SystemClock(), {"local": bench.engine}
        images = Images(world.store.instance, "me", clock)
        hosts = (HostSpec("local", ""),)
        world.secrets.values["TOKEN"] = SECRET
        self.runner = RunnerSpec("real", NamedImage(bench.image), network=Network.NONE)
        self.commander = Commander(
            CommandPorts(
                world.store,
                results,
                engines,
                hosts,
                {"real": self.runner},
                images,
                Networks(world.store.instance, hosts, clock),
                world.secrets,
                self.masker,
                clock,
                scratch,
                world.progress.append,
            )
        )
        self.servicer = Servicer(
            ServicePorts(
                world.store,
                results,
                self.services,
                engines,
                images,
                self.masker,
                clock,
                scratch,
                world.progress.append,
            )
        )
        self.run = self.passed(b"first")

    def passed(self, model: bytes) -> Run:
        left = {"/mlci/output/metrics.json": b'{"accuracy": 0.93}', "/mlci/output/model.bin": model}
        self.world.engine.script(Script((), Exit(0), left))
        if self.world.store.runs.listing("wine", limit=1):
            self.world.sources.push("main", model.decode())
            (run,) = self.world.detector.poll_source(self.definition, self.definition.sources[0])
        else:
            run = self.world.first_run(self.definition)
        ended = self.world.finish(run, self.world.server())
        assert ended.state is RunState.PASSED
        return ended

    @property
    def definition(self) -> Pipeline:
        gate = Gate((parse_check("accuracy >= 0.9"),))
        return pipeline(gate=gate, artifacts=("model.bin",))

    def command(
        self,
        text: str,
        tries: int = 1,
        env: tuple[tuple[str, str], ...] = (),
        secrets: tuple[str, ...] = (),
        rule: Rule | None = None,
    ) -> Acted:
        spec = CommandAction(text, "real", Contents(("model.bin",)), env, secrets, rule or Rule())
        action = Action(
            71,
            self.run.id,
            "run-1-pass-0",
            Trigger.PASS,
            0,
            spec,
            ActionState.RUNNING,
            tries,
        )
        acted = self.commander.carry_out(LEASE, self.run, action)
        assert isinstance(acted, Acted)
        return acted

    def serve(self, run: Run, action_id: int) -> Acted:
        spec = ContainerAction("api", Contents(("model.bin",)))
        action = Action(action_id, run.id, f"key-{action_id}", Trigger.PASS, 0, spec, ActionState.RUNNING, 1)
        acted = self.servicer.carry_out(LEASE, run, action)
        assert isinstance(acted, Acted)
        return acted

    def running(self) -> list[str]:
        owned = self.bench.engine.owned().containers
        return [c.name for c in owned if c.state is ContainerState.RUNNING]

    def named(self, action_id: int) -> str:
        return naming.service_name(self.world.store.instance, "api", action_id)


@pytest.fixture
def results_acting(world: World, results_bench: Bench, tmp_path: Path) -> Acting:
    return Acting(world, results_bench, tmp_path / "containers")


def test_a_command_finds_the_results_in_its_working_folder_and_leaves_nothing(results_acting: Acting) -> None:
    acted = results_acting.command('pwd; cat model.bin; echo; echo "$MLCI_STATE $STAGE"', env=STAGE)
    assert acted.state is ActionState.DONE
    assert acted.output.splitlines() == ["/workspace", "first", "passed prod"]
    assert results_acting.bench.engine.owned().containers == ()


def test_a_command_that_fails_is_told_with_what_it_said(results_acting: Acting) -> None:
    acted = results_acting.command("echo no such registry; exit 3")
    assert (acted.state, acted.message) == (ActionState.FAILED, "the command ended with exit code 3")
    assert acted.output == "no such registry"


def test_a_command_that_fails_is_tried_again_where_its_action_says_so(results_acting: Acting) -> None:
    with pytest.raises(ActionUnavailable, match="ended with exit code 3: not yet"):
        results_acting.command("echo not yet; exit 3", rule=Rule(tries=2))
    assert results_acting.command("exit 3", tries=2, rule=Rule(tries=2)).state is ActionState.FAILED


def test_a_command_that_hangs_is_stopped_and_removed(results_acting: Acting) -> None:
    acted = results_acting.command("echo begun; exec sleep 600", rule=Rule(timeout=1.5))
    assert (acted.state, acted.output) == (ActionState.FAILED, "begun")
    assert "was stopped after 2 s, its timeout" in acted.message
    assert results_acting.bench.engine.owned().containers == ()


def test_a_command_has_its_secrets_and_the_record_does_not(results_acting: Acting) -> None:
    acted = results_acting.command('echo "token $TOKEN"; test ${#TOKEN} = 15', secrets=("TOKEN",))
    assert acted.state is ActionState.DONE
    assert SECRET not in acted.output
    assert acted.output.startswith("token ")


def test_a_command_runs_without_privileges_and_without_a_network(results_acting: Acting) -> None:
    acted = results_acting.command("id -u; grep CapEff /proc/self/status; ls /sys/class/net")
    user, capabilities, *interfaces = acted.output.split("\n")
    assert user != "0"
    assert capabilities.split()[1] == "0" * 16
    assert interfaces == ["lo"]


SERVE = """
from http.server import SimpleHTTPRequestHandler, test
from functools import partial
test(partial(SimpleHTTPRequestHandler, directory="/models"), port=8000)
"""
ASK = ("python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/model.bin')")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def api(results_acting: Acting) -> Callable[..., int]:
    def configure(command: tuple[str, ...] = ("python3", "-c", SERVE)) -> int:
        known = results_acting.services.get("api")
        port = known.ports[0].host if known else free_port()
        results_acting.services["api"] = ServiceSpec(
            "api",
            "local",
            NamedImage(results_acting.bench.image),
            command,
            (ServicePort("127.0.0.1", port, 8000),),
            health=ASK,
            interval=0.3,
            patience=30,
            folder="/models",
        )
        return port

    return configure


def served(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/model.bin", timeout=10) as answer:
        content: bytes = answer.read()
    return content


def test_a_service_answers_with_the_newest_results_in_one_container(
    results_acting: Acting, api: Callable[..., int]
) -> None:
    port = api()
    acted = results_acting.serve(results_acting.run, 81)
    assert acted.state is ActionState.DONE, acted
    assert served(port) == b"first"
    second = results_acting.passed(b"second")
    assert results_acting.serve(second, 82).state is ActionState.DONE
    assert served(port) == b"second"
    assert results_acting.running() == [results_acting.named(82)]
    older = results_acting.serve(results_acting.run, 83)
    assert (older.state, served(port)) == (ActionState.SKIPPED, b"second")
    assert "of a newer change" in older.message


def test_a_try_that_was_cut_off_after_the_start_goes_on_with_that_container(
    results_acting: Acting, api: Callable[..., int]
) -> None:
    port = api()
    results_acting.serve(results_acting.run, 81)
    (first,) = results_acting.bench.engine.owned().containers
    assert results_acting.serve(results_acting.run, 81).state is ActionState.DONE
    (again,) = results_acting.bench.engine.owned().containers
    assert (again.id, served(port)) == (first.id, b"first")


def test_a_service_that_does_not_get_well_is_replaced_by_the_one_before(
    results_acting: Acting, api: Callable[..., int]
) -> None:
    port = api()
    results_acting.serve(results_acting.run, 81)
    api(("sh", "-c", "echo cannot load the model; exit 4"))
    failed = results_acting.serve(results_acting.passed(b"second"), 82)
    assert failed.state is ActionState.FAILED
    assert f"{results_acting.named(81)} serves again" in failed.message
    assert "cannot load the model" in failed.output
    assert results_acting.running() == [results_acting.named(81)]
    assert served_soon(port) == b"first"


def test_a_port_that_somebody_else_has_leaves_what_serves_and_is_told(
    results_acting: Acting, api: Callable[..., int]
) -> None:
    port = api()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        failed = results_acting.serve(results_acting.run, 81)
    assert failed.state is ActionState.FAILED
    assert "could not be started" in failed.message
    assert "nothing serves: there was none before" in failed.message
    assert results_acting.bench.engine.owned().containers == ()


def test_a_try_that_was_killed_between_stop_and_start_is_given_up_with_the_one_before(
    results_acting: Acting, api: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = api()
    results_acting.serve(results_acting.run, 81)
    second = results_acting.passed(b"second")
    engine = results_acting.bench.engine
    start = engine.start

    def killed(name: str) -> None:
        raise Killed

    monkeypatch.setattr(engine, "start", killed)
    with pytest.raises(Killed):
        results_acting.serve(second, 82)
    monkeypatch.setattr(engine, "start", start)
    assert results_acting.running() == []
    spec = ContainerAction("api", Contents(("model.bin",)))
    action = Action(82, second.id, "key-82", Trigger.PASS, 0, spec, ActionState.RUNNING, 6)
    monkeypatch.setattr(type(results_acting.world.store.actions), "get", lambda actions, action_id: action)
    results_acting.servicer.give_up(LEASE, "6 tries began and none came to an end")
    assert results_acting.running() == [results_acting.named(81)]
    assert served_soon(port) == b"first"


def served_soon(port: int) -> bytes:
    from tests.support.waiting import wait_until

    def answers() -> bool:
        try:
            return bool(served(port))
        except OSError:
            return False

    wait_until(answers, "the service answers")
    return served(port)


def test_a_service_starts_again_by_itself_and_runs_without_privileges(
    results_acting: Acting, api: Callable[..., int], docker_engine: docker.DockerClient
) -> None:
    api()
    results_acting.serve(results_acting.run, 81)
    found = docker_engine.api.inspect_container(results_acting.named(81))["HostConfig"]
    assert found["RestartPolicy"]["Name"] == "unless-stopped"
    assert found["CapDrop"] == ["ALL"]
    assert found["SecurityOpt"] == ["no-new-privileges:true"]
    assert found["LogConfig"]["Config"]["max-size"] == "10m"
